"""Canonical rows in batches: read and aligned by the loader, on the device of the batch.

Unless the rows are resident, memory holds the permutations of every model and a few batches.

Shape letters: B rows in a batch, N rows, D length of the flat weight vector.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ...loaders import DeviceLoader, ZooDataset
from ...zoos.format import WEIGHTS
from .canonical import Canonical


class CanonicalRows:
    """Rows of a zoo, aligned, in their own units.

    Attributes:
        dataset: rows as stored.
        batch_size: largest number of rows in a batch.
    """

    def __init__(
        self,
        canonical: Canonical,
        dataset: ZooDataset,
        batch_size: int,
        device: str | torch.device = "cpu",
        mode: str = "streaming",
    ) -> None:
        """Align the models, and open a loader.

        Args:
            canonical: alignment of the rows.
            dataset: rows as stored.
            batch_size: largest number of rows in a batch.
            device: device where batches are placed.
            mode: mode of the `DeviceLoader`.

        Raises:
            ZooFormatError: if the rows have another architecture.
            ValueError: if there are no rows, or a row is not finite.
        """
        self.dataset, self.batch_size = dataset, batch_size
        alignment = canonical.alignment(dataset)
        self._loader = DeviceLoader(
            dataset.with_format("torch"),
            batch_size,
            device,
            mode=mode,
            columns=[],
            rank=0,
            world_size=1,
            prepare=None if alignment is None else alignment.apply,
        )

    def __len__(self) -> int:
        """N, number of rows."""
        return len(self.dataset)

    def read(self, numbers: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Read the given row numbers of the dataset, (B,) each, as weights (B, D)."""
        for batch in self._loader.read(numbers):
            yield batch.pop(WEIGHTS)

    def blocks(self) -> Iterator[Tensor]:
        """Read all rows in order, in blocks of `batch_size`."""
        starts = range(0, len(self), self.batch_size)
        return self.read(np.arange(start, self._stop(start)) for start in starts)

    def mean(self) -> Tensor:
        """Mean of all rows, (D,), on the CPU."""
        total = torch.zeros(self.dataset.source.width, dtype=torch.float64)
        for block in self.blocks():
            total += block.double().sum(0).cpu()
        return (total / len(self)).float()

    def _stop(self, start: int) -> int:
        return min(start + self.batch_size, len(self))
