"""Columns that a dataset shows: whole columns by name, and batches of all columns.

Shape letters: N rows of the dataset, n rows of a batch, k columns of one type.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.errors import did_you_mean
from .columns import CodedText, ColumnTable


class Columns(Mapping[str, np.ndarray]):
    """Columns that a dataset shows.

    A column by name is (N,), numbers or str objects, and read-only.
    """

    def __init__(self, table: ColumnTable, rows: np.ndarray, names: Sequence[str]) -> None:
        """Select columns and rows of a table.

        Args:
            table: table of all rows.
            rows: row numbers in the table, (N,).
            names: names of the columns, in the order they are shown.
        """
        self._table, self._rows, self._names = table, rows, tuple(names)
        self._cache: dict[str, np.ndarray] = {}
        self._plan = _plan(table, self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column of all rows, (N,)."""
        if name not in self._names:
            raise KeyError(
                f"no column {name!r}, the columns are {list(self._names)}"
                + did_you_mean(name, self._names)
            )
        if name not in self._cache:
            column = self._table.column(name, self._rows)
            column.flags.writeable = False
            self._cache[name] = column
        return self._cache[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a column; none is read."""
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order they are shown."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._names)

    def __repr__(self) -> str:
        """Describe the names and the number of rows."""
        return f"Columns({list(self._names)} of {len(self._rows)} rows)"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the cache."""
        return self.__dict__ | {"_cache": {}}

    def coded(self, name: str) -> np.ndarray | CodedText:
        """Return a column of all rows, text as codes, which are read without making str objects."""
        return self._table.coded(name, self._rows) if self._table.is_text(name) else self[name]

    def take(self, rows: np.ndarray, texts_only: bool = False) -> "ColumnBatch":
        """Read all columns of the given rows.

        Args:
            rows: row numbers in the table, not in the dataset, (n,).
            texts_only: leave out columns of numbers, for `as_torch` with other blocks.
        """
        wanted = self._plan.texts if texts_only else self._plan.blocks
        if not wanted:
            return ColumnBatch(self._plan, (), None)
        records, texts = self._table.read()
        taken = records.take(rows, mode="clip")
        table = taken.view(np.uint8).reshape(len(rows), records.itemsize)
        cut = {block: block.cut(table) for block in wanted}
        words = [texts.take(cut.pop(block), mode="clip") for block in self._plan.texts]
        return ColumnBatch(self._plan, tuple(cut.values()), words[0] if words else None)


@dataclass(frozen=True)
class _Block:
    """Columns of one type, side by side in a record.

    Attributes:
        dtype: type of the columns.
        start: first byte in a record.
        names: names of all k columns, also of those that are not shown.
    """

    dtype: np.dtype
    start: int
    names: tuple[str, ...]

    def cut(self, table: np.ndarray) -> np.ndarray:
        """Values (k, n) from records (n, bytes)."""
        stop = self.start + self.dtype.itemsize * len(self.names)
        return np.ascontiguousarray(table[:, self.start : stop].view(self.dtype).T)


@dataclass(frozen=True)
class _Plan:
    """Blocks of a record that hold the shown columns.

    Attributes:
        names: names of the columns, in the order they are shown.
        numbers: blocks of numbers with at least one shown column.
        texts: block of text codes, if a text column is shown; none or one.
    """

    names: tuple[str, ...]
    numbers: tuple[_Block, ...]
    texts: tuple[_Block, ...]

    @property
    def blocks(self) -> tuple[_Block, ...]:
        """All blocks."""
        return self.numbers + self.texts


def _plan(table: ColumnTable, shown: tuple[str, ...]) -> _Plan:
    """Make one block per type, from its first to its last shown column."""
    fields: Mapping[str, Any] = table.dtype.fields or {}
    by_type: dict[tuple[bool, np.dtype], list[str]] = {}
    for name in sorted(fields, key=lambda name: fields[name][1]):
        by_type.setdefault((table.is_text(name), fields[name][0]), []).append(name)
    numbers: list[_Block] = []
    texts: list[_Block] = []
    for (is_text, dtype), names in by_type.items():
        indices = [index for index, name in enumerate(names) if name in shown]
        if indices:
            chosen = tuple(names[indices[0] : indices[-1] + 1])
            block = _Block(dtype, fields[chosen[0]][1], chosen)
            (texts if is_text else numbers).append(block)
    return _Plan(shown, tuple(numbers), tuple(texts))


@dataclass(frozen=True)
class ColumnBatch:
    """Columns of n rows, in one block per type; single columns are cut out on request.

    Attributes:
        plan: blocks and names of the columns.
        blocks: numbers, one array (k, n) per type.
        texts: str objects (k, n), or None without text columns.
    """

    plan: _Plan
    blocks: tuple[np.ndarray, ...]
    texts: np.ndarray | None

    def as_numpy(self) -> dict[str, np.ndarray]:
        """Return the columns (n,) by name; text as str objects."""
        return self._named([list(block) for block in self.blocks], self.texts)

    def row(self, index: int) -> dict[str, Any]:
        """Return one row by name, as numpy scalars and str."""
        texts = None if self.texts is None else self.texts[:, index]
        return self._named([list(block[:, index]) for block in self.blocks], texts)

    def as_torch(self, blocks: Sequence[Tensor] | None = None) -> dict[str, Any]:
        """Return the columns as tensors (n,) by name; text as lists of str.

        Args:
            blocks: copies of the attribute `blocks`, for example on another device; None takes the
                attribute itself.
        """
        if blocks is None:
            blocks = [torch.from_numpy(block) for block in self.blocks]
        texts = None if self.texts is None else self.texts.tolist()
        return self._named([block.unbind(0) for block in blocks], texts)

    def _named(self, numbers: Sequence[Sequence[Any]], texts: Any) -> dict[str, Any]:
        """Columns in the order they are shown."""
        found: dict[str, Any] = {}
        for block, columns in zip(self.plan.numbers, numbers, strict=True):
            found.update(zip(block.names, columns, strict=True))
        for block in self.plan.texts:
            found.update(zip(block.names, texts, strict=True))
        return {name: found[name] for name in self.plan.names}
