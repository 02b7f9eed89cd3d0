"""What a dataset hands out: one row as a dict, and a batch that torch collates at once.

`default_collate` looks up the type of a batch's first element in a documented table. `Row` is
entered there, so that a `DataLoader` with default arguments passes the whole `Batch` to
`_collate_rows`, which returns the tensors it holds instead of stacking row by row.

Shape letters: n rows in the batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from .layer_sets import SHARED_KEYS


class Row(dict[str, Any]):
    """One checkpoint: column values (numpy scalars, str) and tensors, by name."""


class Batch(Sequence[Row]):
    """n checkpoints read together; a row is made only when it is asked for."""

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        tensors: Mapping[str, Tensor],
        shared: Mapping[str, Tensor],
    ) -> None:
        """Hold what was read.

        Args:
            columns: (n,) each, numbers, or str objects.
            tensors: (n, ...) each, one item per row.
            shared: tensors that hold for every row alike, such as the mask of layer sets.
        """
        self._columns, self._tensors, self._shared = columns, tensors, shared

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self._tensors.values())))

    def __getitem__(self, index: Any) -> Any:
        """The row at `index`, or the list of rows of a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        values: dict[str, Any] = {**self._columns, **self._tensors}
        return Row({name: value[index] for name, value in values.items()} | dict(self._shared))

    def __iter__(self) -> Iterator[Row]:
        """Rows in order."""
        return (self[place] for place in range(len(self)))

    def as_numpy(self) -> dict[str, np.ndarray]:
        """Every column (n,) and tensor as a numpy array; text as str objects."""
        tensors = {**self._tensors, **self._shared}
        return {**self._columns, **{name: value.numpy() for name, value in tensors.items()}}

    def as_torch(self) -> dict[str, Any]:
        """Every column (n,) and tensor as a tensor; text as a list of str."""
        columns = {name: as_torch(column) for name, column in self._columns.items()}
        return {**columns, **self._tensors, **self._shared}


def as_torch(column: np.ndarray) -> Any:
    """A column as a tensor that shares its memory, or as a list if it is text."""
    return column.tolist() if column.dtype.kind == "O" else torch.from_numpy(column)


def _collate_rows(rows: Sequence[Row], *, collate_fn_map: Any = None) -> dict[str, Any]:
    """A `Batch` is collated already; a plain list of rows is collated as dicts are."""
    if isinstance(rows, Batch):
        return rows.as_torch()
    shared = _shared(rows)
    plain = [{name: row[name] for name in row if name not in shared} for row in rows]
    return {**collate(plain, collate_fn_map=collate_fn_map), **shared}


def _shared(rows: Sequence[Row]) -> dict[str, Tensor]:
    """What layer sets say of every row alike; stacking it would only repeat it."""
    first = rows[0]
    if "values" not in first:
        return {}
    return {
        key: first[key]
        for key in SHARED_KEYS
        if all(row[key] is first[key] or torch.equal(row[key], first[key]) for row in rows)
    }


default_collate_fn_map[Row] = _collate_rows
