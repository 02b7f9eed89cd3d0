"""Rows that an autoencoder learns from, and the views of them that it encodes.

Shape letters: B models in the batch, N rows, D length of the flat weight vector.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...loaders import HiddenPermutations, LayerStandardization, ZooDataset
from ..training.encoder_reader import training_mode
from .batch_share import BatchShare
from .canonical import Canonical
from .canonical_rows import CanonicalRows
from .settings import AutoencoderSettings


class ModelViews:
    """Views of whole models."""

    def __init__(self, canonical: Canonical, settings: AutoencoderSettings) -> None:
        """Prepare the views.

        Args:
            canonical: alignment and standardisation of the rows.
            settings: training settings.
        """
        self._standardise, self._kinds = canonical.standardization.apply, settings.views
        self._permutations = None
        if "permuted" in settings.views:
            self._permutations = HiddenPermutations.of(canonical.architecture)

    def draw(self, weights: Tensor, share: BatchShare, generator: torch.Generator) -> Tensor:
        """Draw the standardised first view of every row, then the second, (2 B, D).

        Args:
            weights: canonical weights in their own units, (B, D).
            share: share of the batch that these rows are.
            generator: random generator of the permutations.
        """
        standard = self._standardise(weights)
        return torch.cat([self._view(standard, kind, share, generator) for kind in self._kinds])

    def _view(
        self, weights: Tensor, kind: str, share: BatchShare, generator: torch.Generator
    ) -> Tensor:
        if kind == "canonical" or self._permutations is None:
            return weights
        drawn = self._permutations.random_permutations(generator, share.total)
        return self._permutations.apply(weights, [share.of_rows(one) for one in drawn])


def train_rows(
    canonical: Canonical, train: ZooDataset, settings: AutoencoderSettings
) -> CanonicalRows:
    """Reader of the train rows, on the training device.

    Args:
        canonical: alignment and standardisation of the rows.
        train: train rows.
        settings: training settings.
    """
    mode = training_mode([train], settings.device)
    return CanonicalRows(canonical, train, settings.batch_size, settings.device, mode)


def check_rows(rows: int, latent: int) -> None:
    """Reject a zoo small enough for the latent vectors to memorise.

    Args:
        rows: number of train rows.
        latent: length of a latent vector.

    Raises:
        ValueError: if there are no more rows than latent values.
    """
    if rows <= latent:
        raise ValueError(
            f"{rows} train rows are too few for a latent vector of {latent} values, which could "
            "memorise them: take a larger zoo or a smaller latent"
        )


def on_host(batches: Sequence[Tensor]) -> list[np.ndarray]:
    """Row numbers of batches as arrays, by one copy from the device."""
    if not batches:
        return []
    numbers = torch.cat(list(batches)).cpu().numpy()
    return np.split(numbers, np.cumsum([len(rows) for rows in batches])[:-1])


def deviations(standardization: LayerStandardization) -> Tensor:
    """The deviation of every value's layer, divided by the root mean square of all, (1, D).

    The product with errors of standardised weights gives errors of the original weights in a
    common unit.
    """
    ones = torch.ones(1, standardization.layer_table.width)
    deviation = standardization.inverse(ones) - standardization.inverse(torch.zeros_like(ones))
    return deviation / deviation.square().mean().sqrt()
