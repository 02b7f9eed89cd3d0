"""The velocity field, its loss and its integration, against closed forms."""

import math

import pytest
import torch

from weightzoo.encoders.flow_matching import VelocityField, flow_loss, integrate


def test_field_starts_at_zero_and_depends_on_point_and_time() -> None:
    torch.manual_seed(0)
    field = VelocityField(3, widths=(8,))
    points = torch.randn(2, 3)
    assert not field(points, torch.rand(2)).any()
    torch.nn.init.normal_(field.output.weight)
    early, late = (field(points, torch.full((2,), time)) for time in (0.1, 0.9))
    assert early.shape == (2, 3) and not torch.allclose(early, late)
    assert not torch.allclose(early[0], early[1])


def test_loss_of_the_true_velocity_is_zero_and_of_none_its_variance() -> None:
    points = torch.full((4000, 2), 2.0)
    generator = torch.Generator().manual_seed(0)

    def to_the_point(between: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return (2 - between) / (1 - time[:, None])

    assert flow_loss(to_the_point, points, generator) < 1e-4
    none = flow_loss(lambda between, time: torch.zeros_like(between), points, generator)
    assert float(none) == pytest.approx(2**2 + 1, rel=0.05)  # (2 - x_0)^2, x_0 standard normal


def test_midpoint_rule_has_an_error_of_second_order() -> None:
    """Velocity x carries 1 to e; the error falls to a quarter with twice the steps."""
    start = torch.ones(1, 1, dtype=torch.float64)
    ends = [float(integrate(lambda points, time: points, start, steps)) for steps in (20, 40)]
    errors = [abs(end - math.e) for end in ends]
    assert errors[0] < 2e-3 and errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_integration_hands_over_the_time() -> None:
    start = torch.zeros(2, 1)
    end = integrate(lambda points, time: 2 * time[:, None], start, 3)
    torch.testing.assert_close(end, torch.ones(2, 1))  # t^2 at 1, exact for the midpoint rule


@pytest.mark.parametrize(("values", "widths"), [(0, (4,)), (3, ()), (3, (4, 0))])
def test_field_without_values_or_hidden_layer_is_refused(
    values: int, widths: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="values and widths must be at least 1"):
        VelocityField(values, widths=widths)
