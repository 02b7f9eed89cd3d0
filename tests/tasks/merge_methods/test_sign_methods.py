"""Golden tests of TIES, DARE and EMR."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.merge_methods import sign_methods
from weightzoo.tasks.merge_methods.sign_methods import (
    dare_mask,
    dropped,
    elected_merge,
    emr_merge,
    magnitude_threshold,
    trimmed,
)


def taus(members: int, values: int = 50) -> Tensor:
    return torch.randn(members, values, generator=torch.Generator().manual_seed(members))


@pytest.mark.parametrize("gathered", [True, False])
@pytest.mark.parametrize("keep", [1, 2, 333, 999, 1000])
def test_threshold_equals_sorting(
    keep: int, gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_methods, "GATHERED_VALUES", 2**26 if gathered else 0)
    values = taus(1, 1000)[0] * torch.logspace(-20, 3, 1000)
    values[::7] = values[3]  # equal magnitudes
    wanted = values.abs().sort(descending=True).values[keep - 1]
    blocks = values.split(77)
    assert magnitude_threshold(lambda: iter(blocks), 1000, keep) == float(wanted)


def test_trimming_keeps_the_largest_values() -> None:
    (tau,) = taus(1, 10)
    limit = magnitude_threshold(lambda: iter([tau]), 10, 3)
    kept = trimmed(tau[None], [limit])[0]
    assert (kept != 0).sum() == 3 and kept.abs().max() == tau.abs().max()


def test_values_as_large_as_the_threshold_are_kept() -> None:
    tau = torch.tensor([[0.1, -0.3, 0.3, 0.2, 0.0]])
    assert trimmed(tau, [0.3]).tolist() == [[0, tau[0, 1], tau[0, 2], 0, 0]]
    assert torch.equal(trimmed(tau, [0.0]), tau)


def test_ties_of_a_worked_example() -> None:
    """Columns: all agree; majority by magnitude; one of three trimmed away; a tie goes up."""
    members = torch.tensor([[1.0, 3.0, 0.0, 2.0], [2.0, -1.0, -1.0, -2.0], [3.0, -1.0, -3.0, 0.0]])
    assert elected_merge(members, [1, 1, 1]).tolist() == [2.0, 3.0, -2.0, 2.0]
    assert elected_merge(members, [1, 1, 1], normalize=False).tolist() == [6.0, 3.0, -4.0, 2.0]


def test_weights_multiply_before_the_vote() -> None:
    members = torch.tensor([[1.0], [-1.5]])
    assert elected_merge(members, [2, 1]).tolist() == [1.0]
    assert elected_merge(members, [1, 1]).tolist() == [-1.5]


def test_ties_of_identical_task_vectors_is_that_vector() -> None:
    tau = taus(1)
    assert torch.equal(elected_merge(tau.repeat(4, 1), [0.5] * 4), tau[0])


def test_dare_is_unbiased_and_its_mask_has_the_density() -> None:
    tau = taus(1, 20)
    draws = [dropped(tau, dare_mask(20, 0.3, seed)[None], 0.3)[0] for seed in range(4000)]
    deviation = tau[0].abs() * (0.7 / 0.3 / 4000) ** 0.5
    assert ((torch.stack(draws).mean(0) - tau[0]).abs() < 5 * deviation).all()
    assert dare_mask(100_000, 0.3, 1).float().mean() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(dare_mask(9, 0.5, 7), dare_mask(9, 0.5, 7))


def test_emr_gives_every_member_its_signs_and_mean_magnitude_back() -> None:
    members = taus(3)
    merge = emr_merge(members)
    for index, tau in enumerate(members):
        own = merge.task_vector(index)
        assert own.abs().sum() == pytest.approx(float(tau.abs().sum()), rel=1e-5)
        assert (own * tau >= 0).all()
    assert (merge.unified.abs() <= members.abs().amax(0)).all()


def test_emr_of_one_member_is_that_member() -> None:
    assert torch.allclose(emr_merge(taus(1)).task_vector(0), taus(1)[0])
