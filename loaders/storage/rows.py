"""Weights by row number, gathered from mapped files into reused memory.

No HDF5 handle stays open. The rows of the files are mapped, so data that was read once stays in the
page cache of the system, which all processes share. `WeightRows` pickles as a list of files.

Shape letters: N rows in all files, n rows read, D values read per row.
"""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...zoos.format import ZooFile, changed_file
from ...zoos.tokens.buffers import BufferPool
from ...zoos.tokens.copy_plan import RowsOfFile
from ...zoos.tokens.copy_runs import gather_rows, library
from .shards import Shards
from .verified_reads import VerifiedReads

BLOCK_BYTES = 2**20  # rows gathered before they are copied on; about a processor's second cache
ANNOUNCED_ROW_BYTES = 2**14  # up to this row size compiled loops, which announce rows, beat numpy
LARGE_ROW_BYTES = 2**16  # from this row size on a second copy costs more than a loop over rows


def positions(indices: Any, length: int) -> np.ndarray:
    """Convert indices of any kind to row numbers from 0.

    Args:
        indices: a slice; whole numbers in a list, range, array or tensor (negative numbers count
            from the end); or `length` booleans.
        length: number of all rows.

    Returns:
        Row numbers, (n,), int64, from 0 to `length` - 1.

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
            f"got {type(indices).__name__} of type {numbers.dtype} and shape {numbers.shape}"
        )
    if numbers.dtype.kind == "i" or numbers.max() < length:
        numbers = numbers.astype(np.int64, copy=False)
        if (
            numbers.view(np.uint64).max() < length
        ):  # negative numbers are huge here, so one pass checks both ends
            return numbers
    low, high = int(numbers.min()), int(numbers.max())
    if low < -length or high >= length:
        raise IndexError(
            f"row {low if low < -length else high} is out of range: there are {length} rows, "
            f"allowed are {-length} to {length - 1}"
        )
    return np.where(numbers < 0, numbers + length, numbers)


class WeightRows:
    """Weights of zoo files with equal layer tables, as one table (N, D).

    Attributes:
        files: files in row order, opened when they are first read.
        in_memory: whether the rows were copied to memory at once.
        window: range of values read in every row, (start, stop); by default the whole row.
        verify_on_read: whether rows are read from the file each time, instead of from a map.
        is_remote: whether rows are fetched when they are first read, so that there are no files.
    """

    is_remote = False

    def __init__(
        self,
        files: Sequence[ZooFile],
        in_memory: bool = False,
        window: tuple[int, int] | None = None,
        verify_on_read: bool = False,
    ) -> None:
        """List the files, or copy all their rows to memory.

        Args:
            files: files in row order.
            in_memory: copy the rows to memory at once.
            window: range of values read in every row, (start, stop); None reads the whole row.
            verify_on_read: read with `VerifiedReads`, instead of from mapped files.

        Raises:
            ZooFormatError: if a file changed since it was opened.
        """
        self.files = files if isinstance(files, Shards) else Shards(files)
        self.in_memory = in_memory
        self.window = (0, self.files[0].width) if window is None else window
        self._starts = np.concatenate([[0], np.cumsum(self.files.counts)])
        self.verify_on_read = verify_on_read
        self._maps = _Maps(self.files, whole_rows=self.width == self.files[0].width)
        self._reads = VerifiedReads(self.files, self.window) if verify_on_read else None
        self._pool = BufferPool()
        self._copies: list[np.ndarray] = []
        if in_memory:
            copies = [self._copy(index) for index in range(len(self.files))]
            self._copies, self._reads = copies, None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the list of files only; unpickling checks and maps them again."""
        return WeightRows, (self.files, self.in_memory, self.window, self.verify_on_read)

    def __len__(self) -> int:
        """N, number of rows."""
        return int(self._starts[-1])

    @property
    def width(self) -> int:
        """D, values read per row."""
        return self.window[1] - self.window[0]

    def part(self, start: int, stop: int) -> "WeightRows":
        """Narrow the window; rows stay the same.

        Args:
            start: first value, within the current window.
            stop: one past the last value.
        """
        first = self.window[0]
        window = (first + start, first + stop)
        return WeightRows(self.files, self.in_memory, window, self.verify_on_read)

    @classmethod
    def joined(cls, sources: "Sequence[WeightRows]") -> "WeightRows":
        """Join the rows of several sources with the same window, one source after the other."""
        first = sources[0]
        files = first.files.joined(source.files for source in sources[1:])
        in_memory = all(source.in_memory for source in sources)
        return cls(files, in_memory, first.window, any(one.verify_on_read for one in sources))

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy rows.

        Args:
            rows: row numbers, (n,), int64, from 0 to N - 1, as `positions` returns.
            out: memory to fill, (n, D), float32; None takes reused or new memory.

        Returns:
            Weights, (n, D), float32; never overwritten while anything refers to them.

        Raises:
            ZooFormatError: if a file changed since it was opened, or while it was read.
        """
        if out is None:
            out = self._room(len(rows))
        if len(rows) == 0:
            return out
        if self._reads is not None:
            return self._reads.take(rows, out)
        if rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
            return self._copy_run(int(rows[0]), int(rows[-1]) + 1, out)
        if len(self.files) == 1:
            _gather(self._shard(0), rows, out)
            self._check_unchanged(0)
            return out
        return self._take_from_many(rows, out)

    def views(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield rows of the mapped files without a copy, for large rows that are cut in pieces.

        Copy from each row before asking for the next. The files are checked after the last row.

        Args:
            rows: row numbers, (n,), int64, from 0 to N - 1, as `positions` returns.

        Yields:
            n arrays (D,), read-only.

        Raises:
            ZooFormatError: if a file changed since it was opened, or while it was read.
        """
        if self._reads is not None:
            yield from (self.take(rows[index : index + 1])[0] for index in range(len(rows)))
            return
        file_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        shards = {index: self._shard(index) for index in np.unique(file_of_row).tolist()}
        local = (rows - self._starts[file_of_row]).tolist()
        for index, row in zip(file_of_row.tolist(), local, strict=True):
            yield shards[index][row]
        for index in shards:
            self._check_unchanged(index)

    @property
    def is_mapped(self) -> bool:
        """Whether rows lie in memory or in mapped files, so that `parts` gives them."""
        return self._reads is None

    def parts(self, rows: np.ndarray) -> Iterator[RowsOfFile]:
        """Yield the tables that hold rows, without a copy; only where `is_mapped`.

        Copy from each table before asking for the next: its file is checked then.

        Args:
            rows: row numbers, (n,), int64, from 0 to N - 1, as `positions` returns.

        Yields:
            Rows of a file (M, D), read-only, numbers of the wanted rows in it, and their indices in
            `rows`, None for all in order.

        Raises:
            ZooFormatError: if a file changed since it was opened, or while it was read.
        """
        if len(self.files) == 1:
            yield self._shard(0), rows, None
            self._check_unchanged(0)
            return
        file_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(file_of_row).tolist():
            where = np.flatnonzero(file_of_row == index)
            yield self._shard(index), rows[where] - self._starts[index], where
            self._check_unchanged(index)

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Copy rows block by block, for callers that copy them on.

        All blocks use the same memory; small blocks stay in the cache. Up to four blocks are read
        as one, because cutting them gains less than the calls cost.

        Args:
            rows: row numbers, (n,), int64, from 0 to N - 1, as `positions` returns.

        Yields:
            Blocks (m, D), float32, in order.

        Raises:
            ZooFormatError: if a file changed since it was opened.
        """
        count = max(1, BLOCK_BYTES // (4 * self.width))
        if len(rows) <= 4 * count:
            yield self.take(rows)
            return
        room = self._pool.take(count, self.width)
        for start in range(0, len(rows), count):
            part = rows[start : start + count]
            yield self.take(part, out=room[: len(part)])

    def _take_from_many(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Copy rows file by file; rows in ascending order need no intermediate copy."""
        order = None if np.all(rows[1:] >= rows[:-1]) else np.argsort(rows, kind="stable")
        ranked = rows if order is None else rows[order]
        bounds = np.searchsorted(ranked, self._starts)
        for index in np.flatnonzero(np.diff(bounds)).tolist():
            low, high = int(bounds[index]), int(bounds[index + 1])
            local = ranked[low:high] - self._starts[index]
            if order is None:
                _gather(self._shard(index), local, out[low:high])
            else:
                self._scatter(self._shard(index), local, order[low:high], out)
            self._check_unchanged(index)
        return out

    def _scatter(
        self, shard: np.ndarray, rows: np.ndarray, indices: np.ndarray, out: np.ndarray
    ) -> None:
        """Copy rows of one file to their indices in the batch."""
        if len(rows) < 4 or 4 * self.width > LARGE_ROW_BYTES:
            for index, row in zip(indices.tolist(), rows.tolist(), strict=True):
                out[index] = shard[row]
        else:  # the intermediate copy stays in the processor's cache
            out[indices] = _gather(shard, rows, self._pool.take(len(rows), self.width))

    def _copy_run(self, start: int, stop: int, out: np.ndarray) -> np.ndarray:
        """Copy consecutive rows, with one plain copy per file."""
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        while index < len(self.files) and self._starts[index] < stop:
            first, last = int(self._starts[index]), int(self._starts[index + 1])
            low, high = max(start, first), min(stop, last)
            out[low - start : high - start] = self._shard(index)[low - first : high - first]
            self._check_unchanged(index)
            index += 1
        return out

    def _room(self, count: int) -> np.ndarray:
        """Memory for `count` rows; a read of most of the table is no batch, so it is not pooled."""
        if 2 * count > len(self):
            return np.empty((count, self.width), np.float32)
        return self._pool.take(count, self.width)

    def _copy(self, index: int) -> np.ndarray:
        """A copy of the window of all rows of a file."""
        first, last = int(self._starts[index]), int(self._starts[index + 1])
        return self.take(np.arange(first, last), np.empty((last - first, self.width), np.float32))

    def _check_unchanged(self, index: int) -> None:
        """Raise an error if a file changed since it was opened."""
        if not self._copies:
            self.files[index].check_unchanged()

    def _shard(self, index: int) -> np.ndarray:
        """The window of all rows of a file, after a check that it was not truncated."""
        if self._copies:
            return self._copies[index]
        shard = self._maps[index]
        return shard if self.width == shard.shape[1] else shard[:, slice(*self.window)]


def _gather(shard: np.ndarray, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Copy rows of one array, in any order."""
    whole, row_bytes = shard.flags.c_contiguous, 4 * shard.shape[1]
    if not (whole and row_bytes > ANNOUNCED_ROW_BYTES) and _is_plain(shard, rows, out):
        gather_rows(shard, rows, out)
        return out
    if whole:
        # with "clip" numpy makes no buffered copy for its own range check
        return np.take(shard, rows, axis=0, mode="clip", out=out)
    if row_bytes > LARGE_ROW_BYTES:
        for index, row in enumerate(rows.tolist()):
            out[index] = shard[row]
    else:  # numpy's take would first copy the whole window of the whole file
        out[...] = shard[rows]
    return out


def _is_plain(shard: np.ndarray, rows: np.ndarray, out: np.ndarray) -> bool:
    """Whether compiled loops can copy: shapes fit, bytes of a row and row numbers lie together."""
    return (
        library() is not None
        and shard.dtype == out.dtype
        and shard.strides[1] == shard.itemsize
        and out.shape == (len(rows), shard.shape[1])
        and out.flags.carray
        and rows.dtype == np.int64
        and rows.flags.c_contiguous
    )


class _Maps:
    """Mapped files, at most as many at a time as a process may have open.

    Each map keeps a file descriptor, and many systems allow 1024. Reading a map beyond the end of
    its file kills the process, so the size of the file is checked before.
    """

    def __init__(self, files: Shards, whole_rows: bool) -> None:
        self._files, self._whole_rows = files, whole_rows
        self._maps: OrderedDict[int, tuple[np.ndarray, mmap.mmap, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._limit = _map_limit()

    def __getitem__(self, index: int) -> np.ndarray:
        """Return all rows of a mapped file, after a check that the file was not truncated."""
        with self._lock:
            if index not in self._maps:
                self._maps[index] = self._map(self._files[index])
            self._maps.move_to_end(index)
            if len(self._maps) > self._limit:
                self._maps.popitem(last=False)
            rows, mapped, size_bytes = self._maps[index]
        if mapped.size() < size_bytes:
            raise changed_file(self._files[index].path)
        return rows

    def _map(self, file: ZooFile) -> tuple[np.ndarray, mmap.mmap, int]:
        rows = file.map_weights()
        mapped: mmap.mmap = rows._mmap  # type: ignore[attr-defined]
        if not self._whole_rows and hasattr(mmap, "MADV_RANDOM"):
            mapped.madvise(mmap.MADV_RANDOM)  # no readahead
        return np.asarray(rows), mapped, file.size_bytes


def _map_limit() -> int:
    """Half of the number of files that this process may open, at most 4096."""
    try:
        import resource
    except ImportError:  # Windows
        return 256
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(16, min(4096, soft // 2))
