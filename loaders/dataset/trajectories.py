"""Trajectories: one item is one model, all its checkpoints in order of epoch.

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

    An item is a `Row` of (K,) columns, lists for text, and the weights (K, D), or what the
    format of the dataset puts in their place.

    Attributes:
        dataset: of the checkpoints.
        model_ids: (M,), rising.
        lengths: (M,), K of every model.
    """

    def __init__(self, dataset: ZooRows, model_id: np.ndarray, epoch: np.ndarray) -> None:
        """Group the rows of a dataset.

        Args:
            dataset: N rows.
            model_id: (N,).
            epoch: (N,).
        """
        self.dataset = dataset
        self._order = np.lexsort((epoch, model_id))
        self.model_ids, self._starts = np.unique(model_id[self._order], return_index=True)
        self.lengths = np.diff(np.append(self._starts, len(self._order)))

    def __len__(self) -> int:
        """M."""
        return len(self.model_ids)

    def __repr__(self) -> str:
        """Size and lengths."""
        return f"Trajectories({len(self)} models, {sorted(set(self.lengths.tolist()))} checkpoints)"

    def __getitem__(self, key: Any) -> Any:
        """One model, or many.

        Args:
            key: a whole number for a `Row`; a slice, list, array or tensor of numbers for a dict
                of (n, K) columns and (n, K, D) weights.

        Raises:
            IndexError: if a number is out of range.
            ValueError: if many models are asked for that differ in K.
        """
        if isinstance(key, int | np.integer):
            return self.__getitems__([int(key)])[0]
        return self.__getitems__(key).as_torch()

    def __getitems__(self, indices: Any) -> "TrajectoryBatch":
        """Models read together, for a `DataLoader`; they may differ in K until collated."""
        index = positions(indices, len(self))
        rows = [self._rows(number) for number in index.tolist()]
        batch = self.dataset.__getitems__(np.concatenate([np.empty(0, np.int64), *rows]))
        return TrajectoryBatch(batch, self.lengths[index])

    def __iter__(self) -> Iterator[Row]:
        """Models in order."""
        return (self[number] for number in range(len(self)))

    def _rows(self, number: int) -> np.ndarray:
        """The dataset's rows of one model."""
        start = int(self._starts[number])
        return self._order[start : start + int(self.lengths[number])]


class TrajectoryBatch(Collated):
    """n models read together; `default_collate` takes it whole."""

    def __init__(self, batch: Batch, lengths: np.ndarray) -> None:
        """Hold their checkpoints.

        Args:
            batch: of all checkpoints, model by model.
            lengths: (n,), K of every model.
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
        """Every column (n, K) and tensor (n, K, ...); text as n lists of K str.

        Raises:
            ValueError: if the models differ in K.
        """
        if len(set(self._lengths.tolist())) > 1:
            raise ValueError(
                f"models with {sorted(set(self._lengths.tolist()))} checkpoints make no batch: "
                "filter the dataset by epoch, or take one model at a time"
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
