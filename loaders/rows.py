"""Weights by row number: one gather from mapped files into reused memory.

No HDF5 handle stays open: the files' rows are mapped, so that what is read once stays in the
system's page cache, shared by all processes, and `WeightRows` pickles as a list of files.

Shape letters: N rows in all files, n rows asked for, D length of the flat weight vector.
"""

import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..zoos.errors import ZooFormatError, ZooNotFoundError
from ..zoos.format import ZooFile

POOLED_BUFFERS = 4  # one being filled, one in use, two to spare


def positions(indices: Any, length: int) -> np.ndarray:
    """Turn any way to name rows into row numbers from 0.

    Args:
        indices: slice, or whole numbers in a list, range, array or tensor (negative ones count
            from the end), or `length` booleans.
        length: number of rows there are.

    Returns:
        (n,), int64, within 0 and `length` - 1.

    Raises:
        IndexError: if a number is out of range, or the indices are no whole numbers.
    """
    if isinstance(indices, slice):
        return np.arange(*indices.indices(length))
    numbers = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if numbers.dtype.kind == "b" and numbers.shape == (length,):
        return np.flatnonzero(numbers)
    if numbers.size == 0:
        return np.empty(0, np.int64)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise IndexError(
            f"indices must be a list of whole numbers or {length} booleans, "
            f"got {numbers.dtype} of shape {numbers.shape}"
        )
    low, high = int(numbers.min()), int(numbers.max())
    if low < -length or high >= length:
        raise IndexError(
            f"row {low if low < -length else high} is out of range: there are {length} rows, "
            f"allowed are {-length} to {length - 1}"
        )
    numbers = numbers.astype(np.int64, copy=False)
    return np.where(numbers < 0, numbers + length, numbers) if low < 0 else numbers


class WeightRows:
    """The weights of one or more zoo files with equal layer tables, as one (N, D) table.

    Attributes:
        files: the files, in row order.
        in_memory: whether the rows were copied to memory at once.
    """

    def __init__(self, files: Sequence[ZooFile], in_memory: bool = False) -> None:
        """Map the files, or copy all their rows to memory.

        Raises:
            ZooFormatError: if a file changed since it was opened.
        """
        self.files = tuple(files)
        self.in_memory = in_memory
        shards = [np.asarray(file.map_weights()) for file in self.files]
        self._shards = [shard.copy() for shard in shards] if in_memory else shards
        self._starts = np.cumsum([0] + [file.rows for file in self.files])
        self._pool = BufferPool()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the list of files alone; they are mapped again, and checked, on the other side."""
        return WeightRows, (self.files, self.in_memory)

    def __len__(self) -> int:
        """N."""
        return int(self._starts[-1])

    @property
    def width(self) -> int:
        """D."""
        return self.files[0].width

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copy rows out.

        Args:
            rows: (n,), int64, within 0 and N - 1, as `positions` returns.

        Returns:
            (n, D), float32, the caller's own for as long as anything refers to it.

        Raises:
            ZooFormatError: if a file changed since it was opened.
        """
        if len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
            return self._copy_run(int(rows[0]), int(rows[-1]) + 1)
        out = self._room(len(rows))
        if len(self._shards) == 1:
            self._check_unchanged(0)
            # "clip" spares numpy a buffered copy for its own range check
            return np.take(self._shards[0], rows, axis=0, mode="clip", out=out)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(owners):
            self._check_unchanged(shard)
        locals_ = (rows - self._starts[owners]).tolist()
        for place, (shard, row) in enumerate(zip(owners.tolist(), locals_, strict=True)):
            out[place] = self._shards[shard][row]  # a take per shard would need a second copy
        return out

    def _copy_run(self, start: int, stop: int) -> np.ndarray:
        """Rows start to stop, as one plain copy per file into new memory."""
        out = np.empty((stop - start, self.width), np.float32)
        for shard, first in enumerate(self._starts[:-1].tolist()):
            low, high = max(start, first), min(stop, first + self.files[shard].rows)
            if low < high:
                self._check_unchanged(shard)
                out[low - start : high - start] = self._shards[shard][low - first : high - first]
        return out

    def _room(self, count: int) -> np.ndarray:
        """Memory for `count` rows; most of the table is no batch, so it is not pooled."""
        if 2 * count > len(self):
            return np.empty((count, self.width), np.float32)
        return self._pool.take(count, self.width)

    def _check_unchanged(self, shard: int) -> None:
        """Refuse a file that was changed: reading past its new end would kill the process."""
        if self.in_memory:
            return
        file = self.files[shard]
        try:
            stat = file.path.stat()
        except FileNotFoundError as error:
            raise ZooNotFoundError(f"{file.path} was removed while in use") from error
        if (stat.st_size, stat.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            raise ZooFormatError(f"{file.path} changed since it was opened: load the zoo again")


class BufferPool:
    """Memory for batches, reused only when nobody outside holds it any more.

    Whatever still reads a buffer refers to its array: a view, a tensor of `torch.from_numpy`,
    a view of that tensor. So the count of references tells whether it is free. A fresh buffer
    per batch costs page faults, at large rows more time than the copy itself.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._buffers: deque[np.ndarray] = deque(maxlen=POOLED_BUFFERS)

    def take(self, rows: int, width: int) -> np.ndarray:
        """(rows, width) float32 with undefined values, free or new."""
        for _ in range(len(self._buffers)):
            try:
                buffer = self._buffers.pop()  # atomic: no two threads get the same one
            except IndexError:
                break
            if len(buffer) >= rows and _references(buffer) == _FREE:
                self._buffers.append(buffer)  # used last, so still in the processor's cache
                return buffer[:rows]
            self._buffers.appendleft(buffer)
        buffer = np.empty((rows, width), np.float32)
        self._buffers.append(buffer)
        return buffer[:rows]


def _references(buffer: np.ndarray) -> int:
    return sys.getrefcount(buffer)


def _references_when_free() -> int:
    """What `_references` says of an array that only the caller's variable holds."""
    buffer = np.empty(1, np.float32)
    return _references(buffer)


_FREE = _references_when_free()  # measured, since Python versions count differently
