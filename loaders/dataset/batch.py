"""Items of a dataset: a row as a dict, and a batch that torch collates as a whole.

`default_collate` looks up the type of the first element of a batch in a documented table. This
module adds `Row` to the table. A `DataLoader` with default arguments therefore passes the whole
`Batch` to `_collate_rows`, which returns the tensors of the batch instead of stacking rows.

Shape letters: n rows in the batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from ..storage.column_batches import ColumnBatch


class Row(dict[str, Any]):
    """One checkpoint: column values (numpy scalars, str) and tensors, by name.

    Attributes:
        shared: names of the entries that are equal in every row, such as the mask of layer sets.

    Example:
        >>> from weightzoo import load_zoo
        >>> row = load_zoo(ZOO, split="train")[1]
        >>> type(row).__name__, int(row["epoch"]), row["weights"].shape
        ('Row', 1, torch.Size([71]))
    """

    shared: frozenset[str] = frozenset()


class Collated(Sequence[Row]):
    """Rows that were read together and need no stacking."""

    def as_torch(self) -> dict[str, Any]:
        """Return what `default_collate` would return.

        Raises:
            NotImplementedError: always; subclasses implement it.
        """
        raise NotImplementedError


class Batch(Collated):
    """n checkpoints read together; a row is made only when it is needed.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from weightzoo import load_zoo
        >>> train = load_zoo(ZOO, split="train")
        >>> batch = train.__getitems__([0, 5])
        >>> type(batch).__name__, len(batch), batch.as_torch()["weights"].shape
        ('Batch', 2, torch.Size([2, 71]))
        >>> next(iter(DataLoader(train, batch_size=2)))["weights"].shape
        torch.Size([2, 71])
    """

    def __init__(
        self,
        length: int,
        columns: ColumnBatch,
        contents: Mapping[str, Any],
        shared: Mapping[str, Any],
    ) -> None:
        """Hold the data of the rows.

        Args:
            length: n, number of rows.
            columns: scalar columns.
            contents: weights in the dataset's format, by name: tensors (n, ...), lists of n, or
                dicts of tensors (n, ...).
            shared: entries that are equal in every row, such as the mask of layer sets.
        """
        self._length, self._columns = length, columns
        self._contents, self._shared = contents, shared

    def __len__(self) -> int:
        """Number of rows."""
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """The row at `index`, or the list of rows of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(self._length)[index]  # raises IndexError if out of range
        contents = {name: _item(value, number) for name, value in self._contents.items()}
        row = Row(self._columns.row(number) | contents | dict(self._shared))
        row.shared = frozenset(self._shared)
        return row

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows in order."""
        return (self[number] for number in range(len(self)))

    def as_numpy(self) -> dict[str, Any]:
        """Every column (n,) and tensor as a numpy array; text as str objects."""
        contents = {name: _as_numpy(value) for name, value in self._contents.items()}
        return {**self._columns.as_numpy(), **contents, **self._shared}

    def as_torch(self) -> dict[str, Any]:
        """Every column (n,) and tensor as a tensor; text as a list of str."""
        return {**self._columns.as_torch(), **self._contents, **self._shared}

    def parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the entries of `as_torch` in two dicts: one per row, and equal in all rows."""
        return {**self._columns.as_torch(), **self._contents}, dict(self._shared)


def as_torch(column: np.ndarray) -> Any:
    """Convert a column to a tensor that shares its memory, or to a list if it is text."""
    return column.tolist() if column.dtype.kind == "O" else torch.from_numpy(column)


def _item(value: Any, number: int) -> Any:
    """The entry of one row."""
    if isinstance(value, Mapping):
        return {name: inner[number] for name, inner in value.items()}
    return value[number]


def _as_numpy(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _collate_rows(rows: Sequence[Row], *, collate_fn_map: Any = None) -> dict[str, Any]:
    """Collate rows: a `Batch` as a whole, a plain list of rows as dicts."""
    if isinstance(rows, Collated):
        return rows.as_torch()
    shared = _shared(rows)
    plain = [{name: row[name] for name in row if name not in shared} for row in rows]
    return {**collate(plain, collate_fn_map=collate_fn_map), **shared}


def _shared(rows: Sequence[Row]) -> dict[str, Any]:
    """Entries that are equal in all rows; stacking them would only repeat them."""
    first = rows[0]
    return {
        key: first[key]
        for key in first.shared
        if all(key in row and _same(row[key], first[key]) for row in rows)
    }


def _same(one: Any, other: Any) -> bool:
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    return one is other or both and torch.equal(one, other)


default_collate_fn_map[Row] = _collate_rows
