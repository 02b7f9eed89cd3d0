"""Trajectories: an item is a model, with all its checkpoints in order of epoch.

Shape letters: M models, n models asked for, K checkpoints of a model, D length of the flat weight
vector.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from ..storage.rows import positions
from .batch import Batch, Collated, Row
from .row_protocol import ZooRows


class Trajectories(Dataset[Row]):
    """M models; made by `ZooDataset.trajectories`.

    An item is a `Row` of columns (K,), lists for text, and the weights (K, D) in the format of the
    dataset.

    Attributes:
        dataset: dataset of the checkpoints.
        model_ids: model numbers, (M,), ascending.
        lengths: K, number of checkpoints of every model, (M,).

    Example:
        >>> from weightzoo import load_zoo
        >>> trajectories = load_zoo(ZOO, split="train").trajectories()
        >>> len(trajectories), trajectories[0]["weights"].shape
        (2, torch.Size([3, 71]))
    """

    def __init__(self, dataset: ZooRows, model_id: np.ndarray, epoch: np.ndarray) -> None:
        """Group the rows of a dataset.

        Args:
            dataset: dataset of the checkpoints, N rows.
            model_id: model number of every row, (N,).
            epoch: epoch of every row, (N,).
        """
        self.dataset = dataset
        self._order = np.lexsort((epoch, model_id))
        self.model_ids, self._starts = np.unique(model_id[self._order], return_index=True)
        self.lengths = np.diff(np.append(self._starts, len(self._order)))

    def __len__(self) -> int:
        """M."""
        return len(self.model_ids)

    def __repr__(self) -> str:
        """Describe the number of models and their numbers of checkpoints."""
        return f"Trajectories({len(self)} models, {sorted(set(self.lengths.tolist()))} checkpoints)"

    def __getitem__(self, key: Any) -> Any:
        """Return one model, or several.

        Args:
            key: a whole number gives a `Row`; a slice, list, array or tensor of numbers gives a
                dict of columns (n, K) and weights (n, K, D).

        Raises:
            IndexError: if a number is out of range.
            ValueError: if several models differ in K.
        """
        if isinstance(key, int | np.integer):
            return self.__getitems__([int(key)])[0]
        return self.__getitems__(key).as_torch()

    def __getitems__(self, indices: Any) -> "TrajectoryBatch":
        """Read models together, for a `DataLoader`; collating them needs equal K."""
        index = positions(indices, len(self))
        rows = [self._rows(number) for number in index.tolist()]
        batch = self.dataset.__getitems__(np.concatenate([np.empty(0, np.int64), *rows]))
        return TrajectoryBatch(batch, self.lengths[index])

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the models in order."""
        return (self[number] for number in range(len(self)))

    @property
    def last_rows(self) -> np.ndarray:
        """Row number of the last checkpoint of every model in the dataset, (M,)."""
        return self._order[self._starts + self.lengths - 1]

    def padded_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of the checkpoints of every model in the dataset.

        Returns:
            Row numbers (M, K) for the longest trajectory K, where a shorter one repeats its last
            row, and a mask (M, K), bool, which is false on repeated rows.
        """
        step = np.arange(int(self.lengths.max(initial=0)))
        mask = step < self.lengths[:, None]
        return self._order[
            self._starts[:, None] + np.minimum(step, self.lengths[:, None] - 1)
        ], mask

    def _rows(self, number: int) -> np.ndarray:
        """Row numbers of one model in the dataset."""
        start = int(self._starts[number])
        return self._order[start : start + int(self.lengths[number])]


class TrajectoryBatch(Collated):
    """n models read together; `default_collate` takes the batch as a whole."""

    def __init__(self, batch: Batch, lengths: np.ndarray) -> None:
        """Hold the checkpoints of the models.

        Args:
            batch: batch of all checkpoints, model by model.
            lengths: K, number of checkpoints of every model, (n,).
        """
        self._values, self._alike = batch.parts()
        self._lengths = lengths
        self._starts = np.cumsum(lengths) - lengths

    def __len__(self) -> int:
        """Number of models."""
        return len(self._lengths)

    def __getitem__(self, index: Any) -> Any:
        """The model at `index`, or the list of models of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start = int(self._starts[number])
        part = slice(start, start + int(self._lengths[number]))
        row = Row({name: _cut(value, part) for name, value in self._values.items()} | self._alike)
        row.shared = frozenset(self._alike)
        return row

    def as_torch(self) -> dict[str, Any]:
        """Return every column (n, K) and tensor (n, K, ...); text as n lists of K str.

        Raises:
            ValueError: if the models differ in K.
        """
        if len(set(self._lengths.tolist())) > 1:
            raise ValueError(
                f"models with {sorted(set(self._lengths.tolist()))} checkpoints make no batch: "
                "filter the dataset by epoch, or read one model at a time"
            )
        folded = {name: _fold(value, len(self)) for name, value in self._values.items()}
        return folded | self._alike


def _cut(value: Any, part: slice) -> Any:
    if isinstance(value, Mapping):
        return {name: inner[part] for name, inner in value.items()}
    return value[part]


def _fold(value: Any, models: int) -> Any:
    """(n * K, ...) as (n, K, ...)."""
    if isinstance(value, Mapping):
        return {name: _fold(inner, models) for name, inner in value.items()}
    if isinstance(value, Tensor):
        return value.unflatten(0, (models, -1))
    length = len(value) // max(1, models)
    return [value[number * length : (number + 1) * length] for number in range(models)]
