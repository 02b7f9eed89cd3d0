"""What a dataset shows of a column table: whole columns by name, and batches of all columns.

Shape letters: N rows of the dataset, n rows of a batch, k columns of one type.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .columns import ColumnTable


class Columns(Mapping[str, np.ndarray]):
    """The columns that a dataset shows, of its rows: by name, or a batch of all.

    A column by name is (N,), numbers, or str objects; read-only.
    """

    def __init__(self, table: ColumnTable, rows: np.ndarray, names: Sequence[str]) -> None:
        """Show some columns of some rows of a table.

        Args:
            table: of all rows.
            rows: (N,) rows of the table.
            names: shown, in this order.
        """
        self._table, self._rows, self._names = table, rows, tuple(names)
        self._cache: dict[str, np.ndarray] = {}
        self._plan = _plan(table, self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        """(N,), of all rows."""
        if name not in self._names:
            raise KeyError(f"no column {name!r}, there are {list(self._names)}")
        if name not in self._cache:
            column = self._table.column(name, self._rows)
            column.flags.writeable = False
            self._cache[name] = column
        return self._cache[name]

    def __iter__(self) -> Iterator[str]:
        """Names in the order they are shown."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._names)

    def __repr__(self) -> str:
        """Names and number of rows."""
        return f"Columns({list(self._names)} of {len(self._rows)} rows)"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be made again."""
        return self.__dict__ | {"_cache": {}}

    def take(self, rows: np.ndarray, texts_only: bool = False) -> "ColumnBatch":
        """All columns of some rows.

        Args:
            rows: (n,), numbered as in the table, not as in the dataset.
            texts_only: leave out the numbers, for `as_torch` with blocks from elsewhere.
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
        dtype: their type.
        start: first byte in a record.
        names: all of them, k, whether shown or not.
    """

    dtype: np.dtype
    start: int
    names: tuple[str, ...]

    def cut(self, table: np.ndarray) -> np.ndarray:
        """(k, n) values out of (n, bytes) records."""
        stop = self.start + self.dtype.itemsize * len(self.names)
        return np.ascontiguousarray(table[:, self.start : stop].view(self.dtype).T)


@dataclass(frozen=True)
class _Plan:
    """How a batch of records becomes columns.

    Attributes:
        names: of the columns, in the order they are shown.
        numbers: blocks of numbers of which a column is shown.
        texts: the block of codes of texts, if one is shown; none or one.
    """

    names: tuple[str, ...]
    numbers: tuple[_Block, ...]
    texts: tuple[_Block, ...]

    @property
    def blocks(self) -> tuple[_Block, ...]:
        """All of them."""
        return self.numbers + self.texts


def _plan(table: ColumnTable, shown: tuple[str, ...]) -> _Plan:
    """Blocks from the first to the last column shown of every type."""
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
    """Columns of n rows, one block per type; a column is cut out when it is asked for.

    Attributes:
        plan: where each column lies.
        blocks: (k, n) per type of number.
        texts: (k, n) str objects, or None without text.
    """

    plan: _Plan
    blocks: tuple[np.ndarray, ...]
    texts: np.ndarray | None

    def as_numpy(self) -> dict[str, np.ndarray]:
        """(n,) by name; text as str objects."""
        return self._named([list(block) for block in self.blocks], self.texts)

    def row(self, index: int) -> dict[str, Any]:
        """Numpy scalars and str by name, of one of the rows."""
        texts = None if self.texts is None else self.texts[:, index]
        return self._named([list(block[:, index]) for block in self.blocks], texts)

    def as_torch(self, blocks: Sequence[Tensor] | None = None) -> dict[str, Any]:
        """(n,) tensors by name; text as lists of str.

        Args:
            blocks: copies of `blocks`, as on another device; None takes the blocks themselves.
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
