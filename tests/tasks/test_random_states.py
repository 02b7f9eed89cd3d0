"""Random numbers of a training."""

import pytest
import torch

from weightzoo.tasks.random_states import own_random_numbers, random_state, restore_random_state


def test_training_reseeds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded = list[int]()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    with own_random_numbers(3):
        own = torch.rand(4)
    assert reseeded == []
    torch.manual_seed(3)
    assert reseeded == [3] and torch.equal(torch.rand(4), own)


def test_random_numbers_of_the_caller_go_on_as_before() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    with own_random_numbers(1):
        torch.rand(7)
    assert torch.equal(torch.rand(4), expected)


def test_state_of_a_gpu_is_kept_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {torch.device("cuda:1"): torch.tensor([1, 2], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", states.get)
    state, set_to = random_state("cuda:1"), dict[object, torch.Tensor]()
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda one, gpu: set_to.update({gpu: one}))
    restore_random_state(state, "cuda:1")
    assert set_to == states
    restore_random_state({"random": state["random"]}, "cuda:1")  # of an older version


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_draws_the_same_after_its_state_is_restored() -> None:
    torch.cuda.manual_seed(0)
    before = torch.cuda.get_rng_state()
    with own_random_numbers(1, "cuda"):
        state = random_state("cuda")
        first = torch.rand(3, device="cuda")
        restore_random_state(state, "cuda")
        assert torch.equal(torch.rand(3, device="cuda"), first)
    assert torch.equal(torch.cuda.get_rng_state(), before)
