"""Flow matching: a velocity field that carries gaussian noise to the flat weights of networks.

Sources: the loss and the linear path x_t = (1 - t) x_0 + t x_1 are those of Lipman et al. 2022,
arXiv:2210.02747. A perceptron on flat, aligned weights is the field of DeepWeightFlow,
arXiv:2601.05052. Differs from DeepWeightFlow: each value has a gain that depends on the time, since
hidden layers narrower than the weights cannot pass on every value; the noise has deviation 1, and
the path none; the midpoint rule integrates.

Shape letters: B points in the batch, Z values of a point, H width of a hidden layer, F time
features.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

FREQUENCIES = 8

Field = Callable[[Tensor, Tensor], Tensor]
"""Function of points (B, Z) and times (B,) that returns velocities (B, Z)."""


class VelocityField(nn.Module):
    """A perceptron of points and times, plus a gain of every value that depends on the time.

    Example:
        >>> import torch
        >>> from weightzoo.encoders.flow_matching import VelocityField
        >>> VelocityField(values=71, widths=(16,))(torch.zeros(2, 71), torch.rand(2)).shape
        torch.Size([2, 71])
    """

    def __init__(self, values: int, *, widths: Sequence[int] = (512, 512), dropout: float = 0.0):
        """Make the field.

        Args:
            values: Z, number of values of a point.
            widths: H of every hidden layer.
            dropout: dropout rate after hidden layers, in training mode.

        Raises:
            ValueError: if a size is below 1, or there is no hidden layer.
        """
        super().__init__()
        if not widths or min(values, *widths) < 1:
            raise ValueError(
                f"values and widths must be at least 1, with one width or more, got {values!r} and "
                f"{tuple(widths)!r}"
            )
        features = 2 * FREQUENCIES + 1
        sizes = [values + features, *widths]
        layers: list[nn.Module] = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(sizes[-1], values)
        self.gain = nn.Linear(features, values)
        for linear in (self.output, self.gain):  # training starts with velocity zero
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Compute velocities, (B, Z).

        Args:
            points: points between noise and weights, (B, Z).
            time: time of each point, (B,), in [0, 1].
        """
        features = time_features(time)
        hidden = self.hidden(torch.cat([points, features], 1))
        velocity: Tensor = self.output(hidden) + self.gain(features) * points
        return velocity


def time_features(time: Tensor) -> Tensor:
    """Features of times (B,) in [0, 1]: the time, and its sines and cosines, (B, F)."""
    angles = math.pi * time[:, None] * torch.arange(1, FREQUENCIES + 1, device=time.device)
    return torch.cat([time[:, None], angles.sin(), angles.cos()], 1)


def flow_loss(field: Field, points: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity x_1 - x_0 on the line between noise and points.

    Args:
        field: velocity field.
        points: points x_1 of the distribution to learn, (B, Z).
        generator: random generator of noise and times, on the device of the points.
    """
    noise = torch.randn(points.shape, generator=generator, device=points.device)
    time = torch.rand(len(points), generator=generator, device=points.device)
    between = torch.lerp(noise, points, time[:, None])
    return (field(between, time) - (points - noise)).square().mean()


def integrate(field: Field, start: Tensor, steps: int) -> Tensor:
    """Carry points along a velocity field from time 0 to time 1, by the midpoint rule.

    Args:
        field: velocity field.
        start: points at time 0, (B, Z).
        steps: number of steps of equal length.

    Returns:
        Points at time 1, (B, Z).
    """
    points, length = start, 1 / steps
    for step in range(steps):
        time = torch.full_like(start[:, 0], step * length)
        middle = points + length / 2 * field(points, time)
        points = points + length * field(middle, time + length / 2)
    return points
