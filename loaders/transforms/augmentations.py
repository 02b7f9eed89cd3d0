"""Augmentations: random changes of a batch, on its device, each with a passed generator.

They act on flat weights (B, D) and on tokens (B, N, S) alike, before or after standardisation.
Padding, where the mask is false, is left as it is. The generator must be on the batch's device.

Sources: noise and erasing of hyper-representations, Schürholt et al. 2021, arXiv 2110.15288, and
SANE, Schürholt et al. 2024, arXiv 2406.09997; erasing after Zhong et al. 2017, arXiv 1708.04896.

Shape letters: B models in the batch, D length of the flat vector, N tokens, S values per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .permutations import HiddenPermutations

SPANS = ("tokens", "values")


class Augmentation(Protocol):
    """A random change of a batch."""

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """Change a batch.

        Args:
            values: (B, D) or (B, N, S).
            generator: on the same device.
            mask: bool, true on real values, of the same shape or without B; None takes all.

        Returns:
            New values of the same shape; the given ones stay as they are.
        """


@dataclass(frozen=True)
class Compose:
    """Augmentations one after another.

    Attributes:
        steps: in order.
    """

    steps: Sequence[Augmentation]

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`."""
        for step in self.steps:
            values = step(values, generator, mask)
        return values


@dataclass(frozen=True)
class AdditiveNoise:
    """Adds gaussian noise.

    Attributes:
        sigma: its standard deviation, in units of the values.
    """

    sigma: float

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`."""
        return _where(mask, values + self.sigma * _normal(values, generator), values)


@dataclass(frozen=True)
class MultiplicativeNoise:
    """Multiplies by 1 + gaussian noise.

    Attributes:
        sigma: standard deviation of the factor; SANE takes 0.1.
    """

    sigma: float

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`."""
        return _where(mask, values * (1 + self.sigma * _normal(values, generator)), values)


@dataclass(frozen=True)
class Erasing:
    """Overwrites one contiguous span of a model, of random length and place.

    The defaults are those of hyper-representations.

    Attributes:
        probability: share of models of which something is erased.
        scale: least and greatest share of the model's tokens or values; uniform between.
        value: what is written.
        span: "values" counts real values in order, whatever padding lies between; "tokens" whole
            tokens, of (B, N, S) only.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    value: float = 0.0
    span: str = "values"

    def __post_init__(self) -> None:
        """Refuse shares outside of [0, 1] and unknown spans."""
        low, high = self.scale
        if not (0 <= self.probability <= 1 and 0 <= low <= high <= 1):
            raise ValueError(
                f"probability and scale must lie in [0, 1], scale in order, "
                f"got {self.probability!r} and {self.scale!r}"
            )
        if self.span not in SPANS:
            raise ValueError(f"span must be one of {SPANS}, got {self.span!r}")

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`.

        Raises:
            ValueError: if tokens are to be erased of values without tokens.
        """
        if self.span == "tokens" and values.ndim != 3:
            raise ValueError(
                f"values must be (B, N, S) to erase tokens, got {tuple(values.shape)}: "
                "erase span='values'"
            )
        real = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.expand_as(values)
        counted = real.any(2) if self.span == "tokens" else real.flatten(1)
        erased = self._erased(counted, generator)
        erased = erased[..., None] if self.span == "tokens" else erased.view(values.shape)
        return values.masked_fill(erased & real, self.value)

    def _erased(self, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Where to erase: a span among the places that are counted, both (B, places), bool."""
        rank = counted.cumsum(1) - 1
        total = rank[:, -1:] + 1
        chosen, share, offset = torch.rand(
            3, len(counted), 1, generator=generator, device=counted.device, dtype=torch.float64
        )
        low, high = self.scale
        length = ((low + (high - low) * share) * total).round().clamp(min=1)
        start = (offset * (total - length + 1)).floor()
        inside = (rank >= start) & (rank < start + length)
        return inside & counted & (chosen < self.probability)


@dataclass(frozen=True, eq=False)
class Permute:
    """Reorders hidden units, each model by its own draw; of flat weights (B, D) only.

    Attributes:
        permutations: of the architecture.
    """

    permutations: HiddenPermutations

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`; the mask is of no account."""
        drawn = self.permutations.random_permutations(generator, len(values))
        return self.permutations.apply(values, drawn)


def _normal(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)


def _where(mask: Tensor | None, changed: Tensor, values: Tensor) -> Tensor:
    return changed if mask is None else torch.where(mask, changed, values)
