"""Rows read from their files each time, checked before and after, for files that may change.

A map of a file that somebody cuts short, or that lies on a server or a disk that fails, kills the
process that reads it (SIGBUS). Reading the file gives an error instead, at a quarter to a half of
the speed.

Shape letters: n rows asked for, D values read of each row.
"""

from io import FileIO

import numpy as np

from ...zoos.format import ZooFile, changed_file
from .shards import Shards

VALUE_BYTES = 4


class VerifiedReads:
    """Rows of files, read without a map; a file is open only while it is read from."""

    def __init__(self, files: Shards, window: tuple[int, int]) -> None:
        """Read from some files.

        Args:
            files: in row order.
            window: (start, stop), the part of every row that is read.
        """
        self._files, self._window = files, window
        self._starts = np.concatenate([[0], np.cumsum(files.counts)])

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Read rows.

        Args:
            rows: (n,), int64, within 0 and N - 1.
            out: (n, D), float32, contiguous, where to.

        Returns:
            `out`.

        Raises:
            ZooNotFoundError: if a file was removed since it was opened.
            ZooFormatError: if a file changed since then, also if it did meanwhile, or cannot be
                read.
        """
        memory = out.data.cast("B")
        file_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(file_of_row).tolist():
            where = np.flatnonzero(file_of_row == index)
            self._read(self._files[index], rows[where] - self._starts[index], where, memory)
        return out

    def _read(self, file: ZooFile, rows: np.ndarray, where: np.ndarray, memory: memoryview) -> None:
        """Rows of one file to their places in memory, those that lie side by side at once."""
        start, stop = self._window
        size = VALUE_BYTES * (stop - start)
        is_next = (np.diff(rows) == 1) & (np.diff(where) == 1) & (stop - start == file.width)
        first = np.concatenate([[0], np.flatnonzero(~is_next) + 1])
        counts = np.diff(first, append=len(rows)).tolist()
        offsets = file.weights_offset + VALUE_BYTES * (rows[first] * file.width + start)
        with file.opened() as opened:
            for count, offset, index in zip(
                counts, offsets.tolist(), where[first].tolist(), strict=True
            ):
                _fill(opened, offset, memory[size * index : size * (index + count)], file)


def _fill(opened: FileIO, offset: int, memory: memoryview, file: ZooFile) -> None:
    """Read as many bytes as memory takes."""
    opened.seek(offset)
    while len(memory):
        count = opened.readinto(memory)
        if not count:
            raise changed_file(file.path)
        memory = memory[count:]
