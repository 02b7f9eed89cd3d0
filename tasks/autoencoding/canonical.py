"""Canonical weights: rows of a zoo with every model aligned to one reference model.

Source: SANE (sequential autoencoder for neural embeddings), arXiv 2406.09997. The last checkpoint
of a model is matched to the reference, and its permutations are applied to all its checkpoints.

Shape letters: N rows, B rows of a batch, M models, U units of a group, D length of the flat weight
vector.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...loaders import HiddenPermutations, LayerStandardization, ZooDataset, align
from ...zoos.errors import ZooFormatError
from ...zoos.networks.architectures import Architecture

ALIGNED_BYTES = 2**26  # weights of models that are aligned at once, in double precision


@dataclass(frozen=True)
class Alignment:
    """Permutations that align the rows of a dataset.

    Attributes:
        permutations: permutations of the architecture.
        orders: order of the units of every group, (M, U) each.
        model: index of the model of every row, (N,).
    """

    permutations: HiddenPermutations
    orders: list[Tensor]
    model: Tensor

    def apply(self, weights: Tensor, rows: np.ndarray) -> Tensor:
        """Align rows.

        Args:
            weights: weights of the rows, (B, D), on any device.
            rows: row numbers, (B,).
        """
        model = self.model[torch.from_numpy(rows)]
        return self.permutations.apply(weights, [order[model] for order in self.orders])


@dataclass(frozen=True)
class Canonical:
    """Alignment and standardisation of rows of one architecture, the input of an autoencoder.

    Attributes:
        architecture: architecture of the rows.
        standardization: standardisation by layer, fitted to the train rows.
        reference: weights of the model that others are aligned to, (D,); None aligns nothing.
    """

    architecture: Architecture
    standardization: LayerStandardization
    reference: Tensor | None

    @classmethod
    def fit(cls, train: ZooDataset, aligned: bool = True) -> "Canonical":
        """Fit to the train rows; the reference is the last checkpoint of their first model.

        Args:
            train: train rows.
            aligned: whether to align models to a reference.

        Raises:
            ZooFormatError: if the zoo holds no architecture.
            ValueError: if there are no rows, rows of another split, or rows that are not finite.
        """
        architecture = train.header.architecture
        if architecture is None:
            raise ZooFormatError(
                f"zoo {train.name!r} holds no architecture, which alignment and generation need"
            )
        standardization = LayerStandardization.fit(train)
        reference = train.weights([last_rows(train)[0]])[0].clone() if aligned else None
        return cls(architecture, standardization, reference)

    def weights(self, dataset: ZooDataset) -> Tensor:
        """All rows aligned, in their own units, (N, D).

        Raises:
            ZooFormatError: if the rows have another architecture.
            ValueError: if a row is not finite.
        """
        alignment = self.alignment(dataset)
        weights = dataset.weights().clone()
        return weights if alignment is None else alignment.apply(weights, np.arange(len(weights)))

    def alignment(self, dataset: ZooDataset) -> Alignment | None:
        """Match every model to the reference; None without a reference.

        The models are matched in blocks, independently of one another.

        Raises:
            ZooFormatError: if the rows have another architecture.
            ValueError: if a row is not finite.
        """
        self.check(dataset)
        if self.reference is None or len(dataset) == 0:
            return None
        permutations, last = HiddenPermutations.of(self.architecture), last_rows(dataset)
        step = max(1, ALIGNED_BYTES // (8 * dataset.source.width))
        parts = [
            align(dataset.weights(last[start : start + step]), self.reference, permutations)[1]
            for start in range(0, len(last), step)
        ]
        ids = dataset.hidden_column("model_id", "alignment")
        model = torch.from_numpy(np.searchsorted(ids[last], ids))
        orders = [torch.cat(blocks) for blocks in zip(*parts, strict=True)]
        return Alignment(permutations, orders, model)

    def check(self, dataset: ZooDataset) -> None:
        """Reject rows of another architecture.

        Raises:
            ZooFormatError: if the rows have another architecture.
        """
        if dataset.layer_table != self.standardization.layer_table:
            found = dataset.header.architecture
            raise ZooFormatError(
                f"zoo {dataset.name!r} holds checkpoints of architecture "
                f"{found.name if found else 'unknown'!r}, the model is for "
                f"{self.architecture.name!r}"
            )


def last_rows(dataset: ZooDataset) -> np.ndarray:
    """The row of every model's last checkpoint, in rising order of model_id."""
    ids = dataset.hidden_column("model_id", "alignment")
    epochs = dataset.hidden_column("epoch", "alignment")
    order = np.lexsort((epochs, ids))
    return order[np.append(np.flatnonzero(np.diff(ids[order])), len(order) - 1)]
