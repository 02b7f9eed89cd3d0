"""Reading of zoo files: the checks at opening, columns, and weights as a map.

Shape letters: N rows, D length of the flat weight vector.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import h5py
import numpy as np

from ..errors import ZooError, ZooFormatError, ZooNotFoundError, did_you_mean
from .checks import check_columns, checked_dataset, text_spans
from .columns import IDENTITY, WEIGHTS, Column, common_length, is_text, read_column
from .header import ZooHeader, read_header
from .heaps import check_text_heaps
from .storage import check_claims, check_holes


@dataclass(frozen=True, kw_only=True)
class ZooFile:
    """A checked zoo file without an open handle, so that it can be pickled and survives a fork.

    Attributes:
        path: path of the file.
        header: root attributes.
        rows: number of rows, N.
        columns: numpy dtype of each scalar column, `object` for text, in file order.
        weights_offset: byte at which the rows start.
        size_bytes: size of the whole file when it was checked.
        mtime_ns: modification time when it was checked, in nanoseconds.
    """

    path: Path
    header: ZooHeader
    rows: int
    columns: dict[str, np.dtype]
    weights_offset: int
    size_bytes: int
    mtime_ns: int

    @property
    def width(self) -> int:
        """Length of the flat weight vector, D."""
        return self.header.layer_table.width

    def check_unchanged(self) -> None:
        """Reject a changed file: its rows may belong to another zoo, or be half written.

        Raises:
            ZooNotFoundError: if it was removed since it was checked.
            ZooFormatError: if its size or time of change differs.
        """
        try:
            stat = os.stat(self.path)
        except FileNotFoundError as error:
            raise ZooNotFoundError(f"{self.path} was removed while in use") from error
        if stat.st_mtime_ns != self.mtime_ns or stat.st_size != self.size_bytes:
            raise changed_file(self.path)

    @contextmanager
    def opened(self) -> Iterator[FileIO]:
        """Open the file for reading, and check before and after that it has not changed.

        Raises:
            ZooNotFoundError: if it was removed since it was checked.
            ZooFormatError: if its size or time of change differs, or the system cannot read it.
        """
        try:
            with FileIO(self.path) as file:
                self._check_open(file)
                yield file
                self._check_open(file)
        except ZooError:
            raise
        except FileNotFoundError as error:
            raise ZooNotFoundError(f"{self.path} was removed while in use") from error
        except OSError as error:
            raise ZooFormatError(
                f"{self.path} cannot be read: check the disk or the connection to it, then load "
                f"the zoo again ({error})"
            ) from error

    def _check_open(self, file: FileIO) -> None:
        """Reject an open file that is not the one that was checked, or has changed since."""
        stat = os.fstat(file.fileno())
        if stat.st_mtime_ns != self.mtime_ns or stat.st_size != self.size_bytes:
            raise changed_file(self.path)

    def map_weights(self, mode: str = "r") -> np.memmap:
        """Map the rows into memory, (N, D) float32, without reading them.

        Raises:
            ZooFormatError: if the file changed since it was checked; only for mode "r".
        """
        if mode == "r":
            self.check_unchanged()
        shape = (self.rows, self.width)
        return np.memmap(self.path, np.dtype("<f4"), mode, self.weights_offset, shape)  # type: ignore[call-overload]

    def read_columns(self, names: list[str] | None = None) -> dict[str, Column]:
        """Read scalar columns, each (N,); text becomes an object array of str.

        Raises:
            ZooFormatError: if a name is not a column; the message lists the columns.
        """
        names = list(self.columns) if names is None else names
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise ZooFormatError(
                f"{self.path} has no column {unknown}, its columns are {list(self.columns)}"
                + did_you_mean(unknown, self.columns)
            )
        with opened_file(self.path) as file:
            return {name: read_column(file[name]) for name in names}


def changed_file(path: Path) -> ZooFormatError:
    """The error for a file that was written to, or truncated, while in use."""
    return ZooFormatError(
        f"{path} changed since it was opened: load the zoo again; to replace a zoo, write a new "
        "file and rename it, never write into the old one"
    )


def open_zoo_file(path: Path | str) -> ZooFile:
    """Check the structure of a file without reading its weights.

    Raises:
        ZooNotFoundError: if there is no such file.
        ZooFormatError: if it is not HDF5, is truncated, has another format version, holds links,
            groups, external or virtual data, or its shapes contradict its layer table.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooNotFoundError(
            f"no zoo file at {path}: build one with `weightzoo build RECIPE --out FOLDER`"
        )
    stat = path.stat()
    with opened_file(path) as file:
        spans = text_spans(file, stat.st_size)
        check_holes(path, spans)
        check_text_heaps(path, spans)
        header = read_header(path, file)
        datasets = {name: checked_dataset(path, name, file) for name in file}
        columns = {name: object if is_text(one) else one.dtype for name, one in datasets.items()}
        rows = check_columns(path, datasets, header, str(file.attrs["format_version"]))
        text_room = sum(max(0, stop - start) for start, stop in spans)
        scalars = [one for name, one in datasets.items() if name != WEIGHTS]
        check_claims(path, scalars, text_room)
        offset = datasets[WEIGHTS].id.get_offset()
    if offset + rows * header.layer_table.width * 4 > stat.st_size:
        raise ZooFormatError(f"{path} is truncated: it ends before its weights do")
    return ZooFile(
        path=path,
        header=header,
        rows=rows,
        columns={name: np.dtype(kind) for name, kind in columns.items() if name != WEIGHTS},
        weights_offset=offset,
        size_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def read_columns_file(path: Path) -> dict[str, Column]:
    """Check and read all columns of a file that `write_columns_file` wrote.

    Raises:
        ZooNotFoundError: if there is no such file.
        ZooFormatError: if it is not HDF5, is truncated, lacks a column that every zoo has, or
            holds anything but columns of one length.
    """
    if not path.is_file():
        raise ZooNotFoundError(f"no file at {path}: copy the zoo again")
    with opened_file(path) as file:
        spans = [(0, path.stat().st_size)]
        check_holes(path, spans)
        check_text_heaps(path, spans)
        datasets = {name: checked_dataset(path, name, file) for name in file}
        if missing := [name for name in IDENTITY if name not in datasets]:
            raise ZooFormatError(f"{path} lacks the columns {missing}")
        common_length(path, {name: one.shape[0] for name, one in datasets.items()})
        check_claims(path, list(datasets.values()), spans[0][1])
        return {name: read_column(one) for name, one in datasets.items()}


@contextmanager
def opened_file(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; HDF5's errors become `ZooFormatError`.

    Raises:
        ZooFormatError: if the file is truncated, corrupt or not HDF5.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "truncated" if "truncated" in str(error) else "not an HDF5 file"
        raise ZooFormatError(f"{path} is {what}: copy or build it again ({error})") from error
    with file:
        try:
            yield file
        except (RuntimeError, KeyError, OSError, UnicodeError) as error:
            raise ZooFormatError(f"{path} is corrupt: copy or build it again ({error})") from error
