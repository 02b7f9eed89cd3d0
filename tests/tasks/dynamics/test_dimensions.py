"""Dimensions of points whose dimension is known."""

import math

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.dimensions import (
    components_for,
    dimension_report,
    participation_ratio,
    principal_variances,
    two_nn,
    typical,
)


def in_space(points: Tensor, space: int, seed: int = 0) -> Tensor:
    """The points on a random plane of a larger space, rotated and moved."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(space, space, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q[: points.shape[1]]
    return points @ rotation + 3


def test_principal_variances_are_those_of_the_axes_in_both_layouts() -> None:
    axes = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    points = torch.cat([axes.diag(), -axes.diag()])  # 6 points, variance 2 a^2 / 5 per axis
    wanted = 2 * axes.square() / 5
    torch.testing.assert_close(principal_variances(points), wanted)
    torch.testing.assert_close(principal_variances(in_space(points, 20))[:3], wanted)


def test_participation_ratio_counts_equal_variances() -> None:
    for count in (1, 4):
        variances = torch.cat([torch.full((count,), 0.3), torch.zeros(5)])
        found = participation_ratio(variances.sum(), variances.square().sum())
        assert found.item() == pytest.approx(count)


def test_components_for_a_share_are_the_fewest() -> None:
    variances = torch.tensor([6.0, 3.0, 1.0])
    assert [components_for(variances, share) for share in (0.6, 0.61, 0.9, 1.0)] == [1, 2, 2, 3]


def test_two_nn_of_triples_is_their_closed_form() -> None:
    """Points 0, 1, 3 have the ratios 3, 2 and 3 / 2, whose logarithms sum to log 9."""
    far = 100 * torch.arange(8, dtype=torch.float64)
    points = (far[:, None] + torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)).reshape(-1, 1)
    assert two_nn(points) == pytest.approx((24 - 1) / (8 * math.log(9)))


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_uniform_points(dimension: int) -> None:
    generator = torch.Generator().manual_seed(dimension)
    points = torch.rand(1500, dimension, generator=generator, dtype=torch.float64)
    assert two_nn(in_space(points, 12)) == pytest.approx(dimension, rel=0.12)


def test_two_nn_counts_points_that_coincide_once() -> None:
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert two_nn(torch.cat([points, points[:20]])) == pytest.approx(two_nn(points))


def test_dimension_report_of_a_line_is_one_everywhere() -> None:
    times = torch.rand(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = dimension_report(in_space(times, 6))
    assert found["participation_ratio"] == pytest.approx(1)
    assert (found["components_90"], found["components_95"]) == (1, 1)
    assert found["two_nn"] == pytest.approx(1, rel=0.15)


def test_points_that_are_too_few_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="3 different points, got 1"):
        two_nn(torch.ones(5, 2))
    with pytest.raises(ValueError, match="finite"):
        principal_variances(torch.tensor([[1.0], [torch.nan]]))


def test_a_point_whose_weights_exploded_is_not_typical() -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    points[4], points[7, 0] = 1e30, torch.nan
    assert (~typical(points)).nonzero().flatten().tolist() == [4, 7]
