"""A trained flow: aligned weights as points, and new networks from noise.

Source: DeepWeightFlow, arXiv 2601.05052; see encoders/flow_matching.py.

Shape letters: N rows, D length of the flat weight vector, Z values of a point.
"""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...encoders.flow_matching import VelocityField, integrate
from ..autoencoding.canonical import Canonical
from ..autoencoding.token_autoencoder import Origin
from ..processes import threads
from .settings import FlowSettings

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Coordinates:
    """Points of standardised weights, with mean 0 and mean variance 1 over the values.

    Attributes:
        mean: mean of the train rows, (D,).
        scale: deviation by which points are divided, above zero.
        axes: orthonormal principal axes, (Z, D); None takes every weight as one value.
    """

    mean: Tensor
    scale: float
    axes: Tensor | None

    @classmethod
    def fit(cls, weights: Tensor, components: int) -> "Coordinates":
        """Fit to standardised weights.

        Args:
            weights: standardised weights of the train rows, (N, D).
            components: largest number of principal components; 0 takes every weight as one value.

        Raises:
            ValueError: if there are fewer than two rows.
        """
        rows, width = weights.shape
        if rows < 2:
            raise ValueError(f"a flow is fitted to at least 2 rows, got {rows}: raise top")
        mean = weights.mean(0)
        centred, axes = weights - mean, None
        if components:
            kept = min(components, rows - 1, width)  # centred rows have no more of them
            axes = torch.linalg.svd(centred, full_matrices=False).Vh[:kept].contiguous()
            centred = centred @ axes.T
        deviation = float(centred.square().mean().sqrt())
        return cls(mean, deviation or 1.0, axes)

    @property
    def values(self) -> int:
        """Z, number of values of a point."""
        return len(self.mean if self.axes is None else self.axes)

    def apply(self, weights: Tensor) -> Tensor:
        """Points (N, Z) of standardised weights (N, D)."""
        centred = weights - self.mean
        return (centred if self.axes is None else centred @ self.axes.T) / self.scale

    def inverse(self, points: Tensor) -> Tensor:
        """Standardised weights (N, D) of points (N, Z)."""
        scaled = points * self.scale
        return self.mean + (scaled if self.axes is None else scaled @ self.axes)


class WeightFlow:
    """A trained velocity field, with the mapping between weights and points.

    Attributes:
        canonical: alignment and standardisation of rows.
        coordinates: points of standardised weights.
        module: velocity field.
        settings: training settings.
        history: train and val loss by epoch.
        kept_epoch: epoch of the module's weights; None if it is unknown.
        note: warning about the training for the user, or None.
        origin: reference to its train rows; None if they are unknown.
    """

    def __init__(
        self,
        canonical: Canonical,
        coordinates: Coordinates,
        module: VelocityField,
        settings: FlowSettings,
    ) -> None:
        """Join the parts.

        Args:
            canonical: alignment and standardisation of rows.
            coordinates: points of standardised weights.
            module: velocity field.
            settings: training settings.
        """
        self.canonical, self.coordinates = canonical, coordinates
        self.module, self.settings = module, settings
        self.history: list[dict[str, float]] = []
        self.kept_epoch: int | None = None
        self.note: str | None = None
        self.origin: Origin | None = None

    def to(self, device: str) -> Self:
        """Move the velocity field to a device, and return the flow."""
        self.module.to(device)
        return self

    def without_origin(self) -> Self:
        """The same flow without the path of its train zoo."""
        other = copy.copy(self)
        other.origin = None
        return other

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw flat weights, (count, D), in their own units, on the CPU.

        Args:
            count: number of networks.
            generator: random generator of the noise, on the CPU.
        """
        start = torch.randn(count, self.coordinates.values, generator=generator)
        points = draw_points(self.module, start, self.settings)
        standardised = self.coordinates.inverse(points)
        return self.canonical.standardization.inverse(standardised)


def draw_points(module: VelocityField, start: Tensor, settings: FlowSettings) -> Tensor:
    """Points (N, Z) that a velocity field makes of noise (N, Z), on the CPU.

    Args:
        module: velocity field.
        start: noise, (N, Z).
        settings: number of steps and of threads.
    """
    module.eval()
    device = next(module.parameters()).device
    with torch.no_grad(), threads(settings.threads):
        blocks = [
            integrate(module, block.to(device), settings.steps).cpu()
            for block in start.split(ROWS_AT_ONCE)
        ]
    return torch.cat(blocks)
