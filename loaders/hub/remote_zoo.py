"""Rows of a zoo on the Hub by row number, fetched when they are first read.

The structure and the columns of every file are read at once. Weights are fetched in blocks of rows
and kept in a temporary sparse file, so that every byte is fetched at most once and no row stays in
memory. `DeviceLoader` reads such a dataset as any other, in the same order.

Shape letters: N rows in all files, n rows read, D length of the flat weight vector.
"""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...zoos.format import WEIGHTS, ZooFile, open_zoo_file
from ...zoos.hub.byte_ranges import HubBytes
from ...zoos.hub.requests import hub_errors, patiently
from ...zoos.index import Shard
from ...zoos.tokens.copy_plan import RowsOfFile
from ..dataset.zoo_dataset import ZooDataset
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows
from ..storage.shards import Shards
from .fetching import HubZoo

BLOCK_BYTES = 2**20  # weights fetched by one request, at least one row
STRUCTURE_BYTES = 2**20  # bytes read ahead while the structure of a file is read
REQUESTS = 8  # at the same time
Fetch = Callable[[int, int], bytes]


def open_remote_zoo(
    zoo: HubZoo, split: str, columns: Sequence[str] | None, token: str | bool | None
) -> ZooDataset:
    """Open one split of a zoo on the Hub; only structure and columns are fetched.

    Args:
        zoo: the zoo at one commit.
        split: "train", "val" or "test".
        columns: scalar columns to read; None reads all.
        token: token for a private repository.

    Raises:
        ZooFormatError: if a file is no zoo file, contradicts the others, or lacks a column.
        HubError: if the Hub cannot be reached, or breaks off an answer several times.
    """
    folder = Path(tempfile.mkdtemp(prefix="weightzoo-stream-"))
    try:
        return _opened(folder, zoo, split, columns, token)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _opened(
    folder: Path,
    zoo: HubZoo,
    split: str,
    columns: Sequence[str] | None,
    token: str | bool | None,
) -> ZooDataset:
    """The rows of a split, with a folder for what is fetched of them."""
    shards = [shard for shard in zoo.index.shards if shard.split == split]
    remote = [_RemoteFile(zoo, shard, token) for shard in shards]
    local = [one.structure(folder / f"{number}.h5") for number, one in enumerate(remote)]
    table = ColumnTable(Shards(local), list(columns or local[0].columns), split)
    table.read()
    files = Shards([replace(file, path=one.path) for file, one in zip(local, remote, strict=True)])
    table.files = files
    fetches = [one.fetch for one in remote]
    source = RemoteRows(files, RowSpool(files, fetches, folder))
    return ZooDataset(zoo.index.name, source, table, np.arange(len(source)), table.names)


class _RemoteFile:
    """A zoo file on the Hub."""

    def __init__(self, zoo: HubZoo, shard: Shard, token: str | bool | None) -> None:
        from huggingface_hub import HfFileSystem

        self._repo, self._size = zoo.repo.name, shard.size_bytes
        self._name = f"datasets/{zoo.repo.name}@{zoo.commit}/{zoo.prefix}{shard.path}"
        self._system = HfFileSystem(token=token)
        path, size = f"{zoo.prefix}{shard.path}", shard.size_bytes
        source = HubBytes(self._repo, zoo.commit, path, size, kind="data set", token=token)
        self.fetch: Fetch = source.fetch

    @property
    def path(self) -> Path:
        """Path for messages; there is no such file on this machine."""
        return Path(f"hf://{self._name}")

    def structure(self, path: Path) -> ZooFile:
        """Write everything but the weights to a sparse file, and check it as a zoo file."""
        with hub_errors(self._repo):
            start, stop = patiently(self._weights_span)
        with path.open("wb") as file:
            file.truncate(self._size)
            file.write(self.fetch(0, start))
            file.seek(stop)
            file.write(self.fetch(stop, self._size))
        return open_zoo_file(path)

    def _weights_span(self) -> tuple[int, int]:
        """First byte of the weights and one past the last; of a file without any, its end."""
        with self._system.open(self._name, block_size=STRUCTURE_BYTES) as opened:
            with h5py.File(opened, "r") as file:
                weights = file.get(WEIGHTS)
                if not isinstance(weights, h5py.Dataset) or weights.id.get_offset() is None:
                    return self._size, self._size
                start = int(weights.id.get_offset())
                return start, start + int(weights.id.get_storage_size())


class RowSpool:
    """Rows of remote files, kept in temporary sparse files once they were fetched."""

    def __init__(self, files: Shards, fetches: Sequence[Fetch], folder: Path) -> None:
        """Reserve the files, without any disk blocks.

        Args:
            files: files in row order.
            fetches: function of each file that fetches a byte range of it.
            folder: temporary folder, removed with this object.
        """
        self._files, self._fetches = files, fetches
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        width = files[0].width
        self._block = max(1, BLOCK_BYTES // (4 * width))
        self._starts = np.concatenate([[0], np.cumsum(files.counts)])
        self.rows = [
            np.memmap(folder / f"{index}.f32", "<f4", "w+", shape=(int(count), width))
            for index, count in enumerate(files.counts)
        ]
        self._here = [np.zeros(-(-int(count) // self._block), bool) for count in files.counts]
        self._lock = threading.Lock()

    def need(self, rows: np.ndarray) -> None:
        """Fetch the rows that are not here yet, with the rest of their blocks.

        Raises:
            HubError: if the Hub cannot be reached, or breaks off an answer several times.
        """
        with self._lock:
            runs = list(self._missing(rows))
            if len(runs) < 2:
                for run in runs:
                    self._get(*run)
                return
            with ThreadPoolExecutor(min(REQUESTS, len(runs))) as pool:
                for done in [pool.submit(self._get, *run) for run in runs]:
                    done.result()

    def _missing(self, rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """File, first and last block plus one of each run of blocks that are not here."""
        file_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(file_of_row).tolist():
            local = rows[file_of_row == index] - self._starts[index]
            blocks = np.unique(local // self._block)
            blocks = blocks[~self._here[index][blocks]]
            for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
                if len(run):
                    yield index, int(run[0]), int(run[-1]) + 1

    def _get(self, index: int, first: int, last: int) -> None:
        """Fetch a run of blocks of a file."""
        file, width = self._files[index], self._files[index].width
        start, stop = first * self._block, min(last * self._block, file.rows)
        begin, end = (file.weights_offset + 4 * width * row for row in (start, stop))
        data = self._fetches[index](begin, end)
        self.rows[index][start:stop] = np.frombuffer(data, "<f4").reshape(-1, width)
        self._here[index][first:last] = True


class RemoteRows(WeightRows):
    """Weights of zoo files on the Hub, as one table (N, D)."""

    is_remote = True

    def __init__(
        self, files: Shards, spool: RowSpool, window: tuple[int, int] | None = None
    ) -> None:
        """List the files.

        Args:
            files: files in row order; their paths are for messages.
            spool: rows that were fetched.
            window: range of values of every row, (start, stop); None takes the whole row.
        """
        super().__init__(files, window=window)
        self._spool = spool

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be sent to another process, which would fetch the rows again.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "rows of a stream cannot be pickled: load the zoo with streaming=False for use in "
            "several processes"
        )

    def part(self, start: int, stop: int) -> "RemoteRows":
        """Narrow the window; rows are fetched whole.

        Args:
            start: first value, within the current window.
            stop: one past the last value.
        """
        first = self.window[0]
        return RemoteRows(self.files, self._spool, (first + start, first + stop))

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy rows, after those that are missing were fetched; see `WeightRows`.

        Args:
            rows: row numbers, (n,), int64.
            out: memory to fill, (n, D), float32; None takes reused or new memory.
        """
        self._spool.need(rows)
        return super().take(rows, out)

    def views(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield rows without a copy; see `WeightRows`."""
        self._spool.need(rows)
        yield from super().views(rows)

    def parts(self, rows: np.ndarray) -> Iterator[RowsOfFile]:
        """Yield the tables that hold rows; see `WeightRows`."""
        self._spool.need(rows)
        yield from super().parts(rows)

    def _check_unchanged(self, index: int) -> None:
        """Accept the file: a commit never changes."""

    def _shard(self, index: int) -> np.ndarray:
        return np.asarray(self._spool.rows[index])[:, slice(*self.window)]
