"""Files of a dataset, which are listed at once and opened when they are first needed.

Opening and checking a file takes milliseconds. A zoo of thousands of shards is therefore opened
from `zoo.json` and the file sizes alone.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.format import ZooFile, open_zoo_file
from ...zoos.index import INDEX_NAME, Shard, check_same_columns


@dataclass(frozen=True)
class _Listed:
    """A file as `zoo.json` lists it."""

    path: Path
    rows: int
    size_bytes: int


class Shards(Sequence[ZooFile]):
    """Files with equal layer tables and columns, in row order, opened on request.

    Pickling keeps what is known about the files opened so far.

    Attributes:
        counts: number of rows per file, (files,), int64, known without opening.
    """

    def __init__(self, files: Iterable["ZooFile | _Listed"]) -> None:
        """Hold files that are opened or only listed."""
        self._files = list(files)
        self.counts = np.array([file.rows for file in self._files], np.int64)

    @classmethod
    def listed(cls, folder: Path, shards: Iterable[Shard]) -> "Shards":
        """List the files of an index, which must exist with the listed size; none is opened.

        Args:
            folder: zoo folder.
            shards: files as the index lists them.

        Raises:
            ZooNotFoundError: if a file is missing.
            ZooFormatError: if a file has another size.
        """
        files = [_Listed(folder / one.path, one.rows, one.size_bytes) for one in shards]
        for file in files:
            try:
                size = os.stat(file.path).st_size
            except FileNotFoundError as error:
                raise ZooNotFoundError(
                    f"no zoo file at {file.path}, which {INDEX_NAME} lists: copy the zoo again"
                ) from error
            if size != file.size_bytes:
                # HDF5 reports a truncated file as such, which is the better message
                raise _contradiction(file, open_zoo_file(file.path))
        return cls(files)

    @property
    def paths(self) -> list[Path]:
        """Where the files lie; none is opened."""
        return [file.path for file in self._files]

    def open_all(self) -> None:
        """Open and check every file.

        Raises:
            ZooFormatError: if one is no zoo file, or contradicts its index or the first file.
        """
        for index in range(len(self)):
            self[index]

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        """Return the checked file at `index`, opened if necessary, or the list of a slice.

        Raises:
            ZooNotFoundError: if it was removed.
            ZooFormatError: if it is no zoo file, or contradicts its index or the first file.
        """
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        file = self._files[index]
        if isinstance(file, _Listed):
            file = self._files[index] = self._open(index, file)
        return file

    def __iter__(self) -> Iterator[ZooFile]:
        """Iterate over the files in row order, opened one by one."""
        return (self[index] for index in range(len(self)))

    def joined(self, others: Iterable["Shards"]) -> "Shards":
        """Join these files with the files of others, in this order."""
        return Shards([*self._files, *(file for other in others for file in other._files)])

    def _open(self, index: int, listed: _Listed) -> ZooFile:
        file = open_zoo_file(listed.path)
        if (file.rows, file.size_bytes) != (listed.rows, listed.size_bytes):
            raise _contradiction(listed, file)
        if index != 0:
            check_same_columns([self[0], file])
        return file


def _contradiction(listed: _Listed, file: ZooFile) -> ZooFormatError:
    return ZooFormatError(
        f"{file.path} has {file.rows} rows in {file.size_bytes} bytes, {INDEX_NAME} lists "
        f"{listed.rows} in {listed.size_bytes}: copy or build the zoo again"
    )
