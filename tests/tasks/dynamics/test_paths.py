"""Path measures on lines, circles and broken runs, whose values are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.paths import PATH_MEASURES, menger_curvature, path_measures


def circle(radius: float, points: int) -> Tensor:
    """Points on a circle in a plane of five dimensions, (1, K, 5)."""
    angle = torch.arange(points, dtype=torch.float64) * 2 * math.pi / points
    plane = torch.zeros(points, 5, dtype=torch.float64)
    plane[:, 1], plane[:, 3] = radius * angle.cos() + 2, radius * angle.sin()
    return plane[None]


def test_a_straight_line_has_length_of_its_ends_and_no_curvature() -> None:
    direction = torch.tensor([2.0, -1.0, 2.0])  # norm 3
    times = torch.tensor([0.0, 1.0, 3.0, 4.0])
    found = path_measures((times[:, None] * direction)[None], torch.tensor([0, 2, 4, 8]))
    assert found["path_length"].tolist() == [[0, 3, 9, 12]]
    assert found["path_distance"].tolist() == [[0, 3, 9, 12]]
    assert found["path_speed"][0, 1:].tolist() == [1.5, 3, 0.75]
    assert found["path_straightness"][0, 1:].tolist() == pytest.approx([1, 1, 1])
    assert found["step_cosine"][0, 2:].tolist() == pytest.approx([1, 1])
    assert found["path_curvature"][0, 2:].tolist() == pytest.approx([0, 0], abs=1e-7)
    assert found["path_dimension"][0, 1:].tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("radius", [0.25, 7.0])
def test_a_circle_has_curvature_one_over_its_radius(radius: float) -> None:
    count = 12
    found = path_measures(circle(radius, count), torch.arange(count))
    turn = 2 * math.pi / count
    step = 2 * radius * math.sin(turn / 2)
    assert found["path_curvature"][0, 2:].tolist() == pytest.approx([1 / radius] * (count - 2))
    assert found["step_cosine"][0, 2:].tolist() == pytest.approx([math.cos(turn)] * (count - 2))
    assert found["path_length"][0, -1].item() == pytest.approx((count - 1) * step)
    assert found["path_turning"][0, -1].item() == pytest.approx((count - 2) * turn)
    assert found["path_dimension"][0, -1].item() == pytest.approx(2)


def test_a_way_back_has_cosine_minus_one_and_no_straightness() -> None:
    path = torch.tensor([[[0.0, 1.0], [3.0, 1.0], [0.0, 1.0]]])
    found = path_measures(path, torch.tensor([0, 1, 2]))
    assert found["step_cosine"][0, 2].item() == -1
    assert found["path_straightness"][0, 2].item() == 0
    assert found["path_turning"][0, 2].item() == pytest.approx(math.pi)


def test_measures_at_a_checkpoint_ignore_later_ones() -> None:
    path = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    whole = path_measures(path, torch.arange(6))
    early = path_measures(path[:, :4], torch.arange(4))
    assert set(whole) == set(PATH_MEASURES)
    for name, values in early.items():
        torch.testing.assert_close(whole[name][:, :4], values, equal_nan=True)


def test_a_model_is_measured_as_if_it_were_alone() -> None:
    path = torch.randn(3, 5, 10, generator=torch.Generator().manual_seed(0))
    path[1, 3] = torch.nan
    together = path_measures(path, torch.arange(5))
    for name, values in path_measures(path[2:], torch.arange(5)).items():
        torch.testing.assert_close(together[name][2:], values, equal_nan=True)


def test_a_diverged_checkpoint_makes_it_and_what_follows_unknown() -> None:
    path = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    path[0, 3, 4] = torch.inf
    for values in path_measures(path, torch.arange(5)).values():
        assert values[0, 3:].isnan().all()
        assert values[1, 3:].isfinite().all() and values[0, 2].isfinite()


def test_one_checkpoint_has_a_norm_and_no_path() -> None:
    found = path_measures(torch.ones(2, 1, 4), torch.tensor([3]))
    assert found["weight_norm"].tolist() == [[2], [2]]
    assert all(values.shape == (2, 1) for values in found.values())
    assert found["step_norm"].isnan().all() and found["path_curvature"].isnan().all()


def test_scaling_a_whole_path_keeps_angles_and_scales_distances() -> None:
    path = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0)).double()
    once, twice = (path_measures(factor * path, torch.arange(5)) for factor in (1, 2))
    for name in ("step_cosine", "path_straightness", "path_turning", "path_dimension"):
        torch.testing.assert_close(once[name], twice[name], equal_nan=True)
    torch.testing.assert_close(2 * once["path_length"], twice["path_length"])
    torch.testing.assert_close(menger_curvature(path), 2 * menger_curvature(2 * path))


def test_epochs_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        path_measures(torch.zeros(1, 3, 2), torch.tensor([0, 2, 1]))
    with pytest.raises(ValueError, match=r"must be \(M, K, D\)"):
        path_measures(torch.zeros(3, 2), torch.tensor([0, 2, 1]))
