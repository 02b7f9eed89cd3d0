"""The files of a dataset: listed at once, opened when something of them is first needed.

Opening and checking one file takes milliseconds, so a zoo of thousands of shards is opened by
`zoo.json` and the sizes on the disk alone.
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
    """What `zoo.json` says of a file."""

    path: Path
    rows: int
    size_bytes: int


class Shards(Sequence[ZooFile]):
    """Files of equal layer table and columns, in row order; one is opened when it is asked for.

    It pickles, with what was learnt of the files opened so far.

    Attributes:
        counts: (files,), int64, rows per file, known without opening.
    """

    def __init__(self, files: Iterable["ZooFile | _Listed"]) -> None:
        """Hold files that are open, or only listed."""
        self._files = list(files)
        self.counts = np.array([file.rows for file in self._files], np.int64)

    @classmethod
    def listed(cls, folder: Path, shards: Iterable[Shard]) -> "Shards":
        """The files of an index; all must be there in the listed size, none is opened.

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
                # a file cut short is named as such by HDF5, which is the better message
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
        for place in range(len(self)):
            self[place]

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    def __getitem__(self, place: Any) -> Any:
        """The checked file at `place`, opened now if it was not; or the list of a slice.

        Raises:
            ZooNotFoundError: if it is gone.
            ZooFormatError: if it is no zoo file, or contradicts its index or the first file.
        """
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        file = self._files[place]
        if isinstance(file, _Listed):
            file = self._files[place] = self._open(place, file)
        return file

    def __iter__(self) -> Iterator[ZooFile]:
        """Files in row order, opened one by one."""
        return (self[place] for place in range(len(self)))

    def joined(self, others: Iterable["Shards"]) -> "Shards":
        """These files, then those of others."""
        return Shards([*self._files, *(file for other in others for file in other._files)])

    def _open(self, place: int, listed: _Listed) -> ZooFile:
        file = open_zoo_file(listed.path)
        if (file.rows, file.size_bytes) != (listed.rows, listed.size_bytes):
            raise _contradiction(listed, file)
        if place != 0:
            check_same_columns([self[0], file])
        return file


def _contradiction(listed: _Listed, file: ZooFile) -> ZooFormatError:
    return ZooFormatError(
        f"{file.path} has {file.rows} rows in {file.size_bytes} bytes, {INDEX_NAME} says "
        f"{listed.rows} in {listed.size_bytes}: copy or build the zoo again"
    )
