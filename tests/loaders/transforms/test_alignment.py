"""Alignment: permuted copies come back, distances never grow, functions stay."""

import pytest
import torch
from torch import Tensor

from weightzoo.loaders.transforms.alignment import align
from weightzoo.loaders.transforms.permutations import HiddenPermutations
from weightzoo.zoos.recipe import load_recipe

ARCHITECTURES = {name: load_recipe(name).architecture for name in ("digits-cnn", "digits-mlp")}
PERMUTATIONS = {name: HiddenPermutations.of(one) for name, one in ARCHITECTURES.items()}


def models(name: str, count: int, seed: int = 0) -> Tensor:
    """(count, D), initial weights of torch's own scale."""
    torch.manual_seed(seed)
    modules = [ARCHITECTURES[name].module().state_dict() for _ in range(count)]
    return torch.stack([ARCHITECTURES[name].layer_table().flatten(state) for state in modules])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_permuted_copies_are_brought_back_exactly(name: str) -> None:
    reference, permutations = models(name, 1)[0], PERMUTATIONS[name]
    drawn = permutations.random_permutations(torch.Generator().manual_seed(1), 8)
    copies = permutations.apply(reference.repeat(8, 1), drawn)
    assert (copies != reference).any(1).all()
    aligned, orders = align(copies, reference, permutations)
    assert torch.equal(aligned, reference.expand(8, -1))
    assert torch.equal(permutations.apply(copies, orders), aligned)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("passes", [1, 2, 100])
def test_distance_to_the_reference_falls_and_never_grows(name: str, passes: int) -> None:
    weights, reference = models(name, 6, seed=1), models(name, 1, seed=2)[0]
    aligned, _ = align(weights, reference, PERMUTATIONS[name], max_passes=passes)
    before, after = ((each - reference).norm(dim=1) for each in (weights, aligned))
    assert (after < before).all()
    again, _ = align(aligned, reference, PERMUTATIONS[name], seed=5)
    assert ((again - reference).norm(dim=1) <= after * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_aligned_models_have_the_same_logits(name: str) -> None:
    weights, reference = models(name, 3, seed=1), models(name, 1, seed=2)[0]
    aligned, _ = align(weights, reference, PERMUTATIONS[name])
    architecture, table = ARCHITECTURES[name], ARCHITECTURES[name].layer_table()
    images = torch.randn(4, *architecture.input_shape)
    for one, other in zip(weights, aligned, strict=True):
        module = architecture.module("tanh").eval()
        module.load_state_dict(table.state_dict(one))
        before = module(images)
        module.load_state_dict(table.state_dict(other))
        torch.testing.assert_close(module(images), before, rtol=0, atol=1e-5)
        assert not torch.equal(one, other)


def test_result_repeats_and_does_not_depend_on_the_batch() -> None:
    permutations = PERMUTATIONS["digits-cnn"]
    weights, reference = models("digits-cnn", 5, seed=3), models("digits-cnn", 1, seed=4)[0]
    aligned, orders = align(weights, reference, permutations, seed=9)
    again, _ = align(weights, reference, permutations, seed=9)
    assert torch.equal(again, aligned)
    for place in range(5):
        alone, _ = align(weights[place : place + 1], reference, permutations, seed=9)
        assert torch.equal(alone[0], aligned[place])


def test_model_that_is_the_reference_stays_as_it_is() -> None:
    reference = models("digits-mlp", 1)[0]
    aligned, orders = align(reference[None], reference, PERMUTATIONS["digits-mlp"])
    assert torch.equal(aligned[0], reference)
    assert all(torch.equal(order[0], torch.arange(20)) for order in orders)


def test_dead_units_and_float64_are_aligned_too() -> None:
    permutations = PERMUTATIONS["digits-cnn"]
    reference = models("digits-cnn", 1)[0].double()
    reference[:100] = 0  # four of conv1's kernels
    drawn = permutations.random_permutations(torch.Generator().manual_seed(2), 2)
    copies = permutations.apply(reference.repeat(2, 1), drawn)
    aligned, _ = align(copies, reference, permutations)
    assert aligned.dtype == torch.float64
    assert ((aligned - reference).norm(dim=1) <= (copies - reference).norm(dim=1)).all()


def test_align_rejects_wrong_shapes_and_diverged_models() -> None:
    permutations = PERMUTATIONS["digits-mlp"]
    with pytest.raises(ValueError, match=r"shapes \(B, 16330\) and \(16330,\)"):
        align(torch.zeros(2, 16330), torch.zeros(2, 16330), permutations)
    with pytest.raises(ValueError, match="must be finite: remove diverged models"):
        align(torch.full((2, 16330), float("nan")), torch.zeros(16330), permutations)
