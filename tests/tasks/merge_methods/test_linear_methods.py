"""Golden tests of merges that are weighted sums."""

import math

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.merge_methods.linear_methods import (
    fisher_merge,
    mean_weights,
    model_stock_weights,
    normalized,
    slerp_weights,
    task_arithmetic_weights,
    weighted_sum,
)
from weightzoo.zoos.errors import MergeError


def models(members: int, values: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(members)
    return torch.randn(members, values, generator=generator, dtype=torch.float64)


def gram(vectors: Tensor) -> Tensor:
    return vectors @ vectors.T


def test_mean_of_three_models_is_their_mean() -> None:
    assert torch.allclose(weighted_sum(models(3), mean_weights(3)), models(3).mean(0))


def test_task_arithmetic_adds_scaled_task_vectors_to_the_base() -> None:
    base, a, b = models(3)
    merged = weighted_sum(torch.stack([a, b, base]), task_arithmetic_weights([1, 0.5], 0.3))
    assert torch.allclose(merged, base + 0.3 * ((a - base) + 0.5 * (b - base)))


def test_slerp_of_unit_vectors_stays_on_the_sphere_at_the_fraction_of_the_angle() -> None:
    one, two = models(2) / models(2).norm(dim=1, keepdim=True)
    merged = weighted_sum(
        torch.stack([one, two]), slerp_weights(gram(torch.stack([one, two])), 0.3)
    )
    assert merged.norm() == pytest.approx(1)
    assert math.acos(merged @ one) == pytest.approx(0.3 * math.acos(one @ two))


def test_slerp_of_parallel_vectors_interpolates() -> None:
    one = models(1)[0]
    assert slerp_weights(gram(torch.stack([one, 2 * one])), 0.25) == [0.75, 0.25]


def test_model_stock_lies_nearest_to_the_center_of_orthogonal_members() -> None:
    """Two orthogonal changes of equal length: t = 0, the base; equal changes: t = 1."""
    assert model_stock_weights(torch.eye(2, dtype=torch.float64)) == pytest.approx([0, 0, 1])
    same = torch.ones(3, 3, dtype=torch.float64)
    assert model_stock_weights(same) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_model_stock_is_the_point_nearest_to_the_center_of_noisy_members() -> None:
    """Members are a common change and noise at right angles to it and to each other."""
    common, *noise = torch.eye(4, dtype=torch.float64)
    taus = 2 * common + 1.5 * torch.stack(noise)
    weights = torch.tensor(model_stock_weights(gram(taus))[:3], dtype=torch.float64)
    merged = weights @ taus
    assert (merged - 2 * common) @ taus.mean(0) == pytest.approx(0)
    assert 0 < weights.sum() < 1


def test_fisher_merge_follows_the_certain_member_and_averages_silent_weights() -> None:
    members = models(2, 3)
    fishers = torch.tensor([[1e6, 0, 1], [0, 0, 1]], dtype=torch.float64)
    merged = fisher_merge(members, fishers)
    assert merged[0] == pytest.approx(float(members[0, 0]))
    assert torch.allclose(merged[1:], members[:, 1:].mean(0))


def test_weights_that_sum_to_nothing_cannot_be_normalised() -> None:
    assert normalized([1, 3]) == [0.25, 0.75]
    with pytest.raises(MergeError, match="cannot be normalised"):
        normalized([1, -1])
