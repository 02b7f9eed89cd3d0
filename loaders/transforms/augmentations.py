"""Augmentations: random changes of a batch, on its device, with an explicit random generator.

Augmentations take flat weights (B, D) or tokens (B, N, S), before or after standardisation.
Padding, where the mask is false, does not change. The generator must be on the device of the batch.

Sources: noise and erasing of hyper-representations, Schürholt et al. 2021, arXiv:2110.15288, and of
SANE (sequential autoencoder for neural embeddings), Schürholt et al. 2024, arXiv:2406.09997;
erasing after Zhong et al. 2017, arXiv:1708.04896.

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
            values: flat weights (B, D) or tokens (B, N, S).
            generator: random generator, on the same device.
            mask: mask of real values, bool, same shape or without B; None changes all values.

        Returns:
            New values of the same shape; `values` is not changed.
        """


@dataclass(frozen=True)
class Compose:
    """Several augmentations in succession.

    Attributes:
        steps: augmentations in order.

    Example:
        >>> import torch
        >>> from weightzoo.loaders import AdditiveNoise, Compose, Erasing
        >>> both = Compose([AdditiveNoise(0.1), Erasing(probability=1.0)])
        >>> both(torch.ones(2, 50), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 50])
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
    """Addition of Gaussian noise.

    Attributes:
        sigma: standard deviation of the noise, in units of the values.

    Example:
        >>> import torch
        >>> from weightzoo.loaders import AdditiveNoise
        >>> AdditiveNoise(0.1)(torch.zeros(2, 5), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 5])
    """

    sigma: float

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`."""
        return _where(mask, values + self.sigma * _normal(values, generator), values)


@dataclass(frozen=True)
class MultiplicativeNoise:
    """Multiplication by 1 + Gaussian noise.

    Attributes:
        sigma: standard deviation of the factor; SANE takes 0.1.

    Example:
        >>> import torch
        >>> from weightzoo.loaders import MultiplicativeNoise
        >>> MultiplicativeNoise(0.1)(torch.zeros(1, 2), torch.Generator()).abs().sum().item()
        0.0
    """

    sigma: float

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`."""
        return _where(mask, values * (1 + self.sigma * _normal(values, generator)), values)


@dataclass(frozen=True)
class Erasing:
    """Overwriting of one contiguous span of a model, with random length and position.

    The defaults are those of hyper-representations.

    Attributes:
        probability: probability that a model is erased in part, in [0, 1].
        scale: smallest and largest erased share of the tokens or values of a model, in [0, 1]; the
            share is uniform between them.
        value: value that is written.
        span: unit of the span: "values" counts real values in order and skips padding; "tokens"
            counts whole tokens of (B, N, S).

    Example:
        >>> import torch
        >>> from weightzoo.loaders import Erasing
        >>> half = Erasing(probability=1.0, scale=(0.5, 0.5))
        >>> int((half(torch.ones(1, 10), torch.Generator().manual_seed(0)) == 0).sum())
        5
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    value: float = 0.0
    span: str = "values"

    def __post_init__(self) -> None:
        """Reject shares outside of [0, 1] and unknown spans."""
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
            ValueError: if `span` is "tokens" and the values are flat weights.
        """
        if self.span == "tokens" and values.ndim != 3:
            raise ValueError(
                f"values must have shape (B, N, S) to erase tokens, got {tuple(values.shape)}: "
                "use span='values'"
            )
        real = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.expand_as(values)
        counted = real.any(2) if self.span == "tokens" else real.flatten(1)
        erased = self._erased(counted, generator)
        erased = erased[..., None] if self.span == "tokens" else erased.view(values.shape)
        return values.masked_fill(erased & real, self.value)

    def _erased(self, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Mask of a random span among the counted units; both masks are (B, units), bool."""
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
    """Random reordering of hidden units, different for each model; flat weights (B, D) only.

    Attributes:
        permutations: permutations of the architecture.

    Example:
        >>> import torch
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import HiddenPermutations, Permute
        >>> train = load_zoo(ZOO, split="train")
        >>> reorder = Permute(HiddenPermutations.of(train.header.architecture))
        >>> moved = reorder(train.weights(), torch.Generator().manual_seed(0))
        >>> torch.equal(moved.sort(1).values, train.weights().sort(1).values)
        True
    """

    permutations: HiddenPermutations

    def __call__(
        self, values: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """See `Augmentation`; the mask is ignored."""
        drawn = self.permutations.random_permutations(generator, len(values))
        return self.permutations.apply(values, drawn)


def _normal(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)


def _where(mask: Tensor | None, changed: Tensor, values: Tensor) -> Tensor:
    return changed if mask is None else torch.where(mask, changed, values)
