"""Writing of zoo files: columns and header first, weights into reserved space, then a new name.

Shape letters: N rows, D length of the flat weight vector.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ..disk import copy_range
from ..errors import ZooFormatError
from ..lineage import check_lineage
from .columns import WEIGHTS, Column, checksum, checksum_parts, common_length
from .header import FORMAT_VERSION, ZooHeader, check_room_for_checksums, write_header
from .zoo_file import ZooFile, open_zoo_file

ALIGNMENT_BYTES = 4096


def create_zoo_file(path: Path, header: ZooHeader, columns: Mapping[str, Column]) -> None:
    """Create a file with all scalar columns and reserved space for the weights.

    The space is reserved on the disk, so that a full disk is an error at the start.

    Args:
        path: path of the file; an existing one is replaced.
        header: root attributes.
        columns: all scalar columns in file order, (N,) each, numbers or str objects.

    Raises:
        ZooFormatError: if the columns are empty or differ in length, or contradict each other
            on lineage.
        OSError: if the disk is full.
    """
    rows = common_length(path, {name: len(column) for name, column in columns.items()})
    check_lineage(columns)
    if not header.checksums:
        check_room_for_checksums(header, [*columns, WEIGHTS])
    shape = (rows, header.layer_table.width)
    with (
        _system_errors(path),
        h5py.File(
            path,
            "w",
            libver=("v110", "v110"),
            track_order=True,
            alignment_threshold=min(ALIGNMENT_BYTES, math.prod(shape) * 4),  # small weights too
            alignment_interval=ALIGNMENT_BYTES,
        ) as file,
    ):
        file.attrs["format_version"] = FORMAT_VERSION
        write_header(file, header)
        for name, column in columns.items():
            _create_dataset(file, name, column.shape, column.dtype)
            file[name][...] = column
        offset = _create_dataset(file, WEIGHTS, shape, np.dtype("<f4")).id.get_offset()
    _reserve(path, offset, shape[0] * shape[1] * 4)


def finish_zoo_file(
    path: Path,
    header: ZooHeader,
    columns: Mapping[str, Column],
    *,
    target: Path | None = None,
    keep: np.ndarray | None = None,
) -> None:
    """Copy a file with all its rows to a finished file, under a temporary name first.

    The old file is only read: HDF5 marks a file that is open for writing, and after a kill it
    refuses to open such a file.

    Args:
        path: file with all columns and the weights.
        header: root attributes; the checksum of every column is added.
        columns: columns that replace those in the file, (N,) each.
        target: path of the finished file; None replaces `path`.
        keep: numbers of the rows to copy, ascending; None copies all.

    Raises:
        ZooFormatError: if a column is not in the file, or has another length.
        OSError: if the disk is full.
    """
    file = open_zoo_file(path)
    runs = _runs(np.arange(file.rows) if keep is None else keep)
    merged = _merged_columns(file, columns)
    if keep is not None:
        merged = {name: column[keep] for name, column in merged.items()}
    weights = file.map_weights()
    checksums = {name: checksum(column) for name, column in merged.items()}
    checksums[WEIGHTS] = checksum_parts(weights[start:stop] for start, stop in runs)
    target = target or path
    partial = target.with_name(target.name + ".tmp")
    with _removed_on_error(partial):
        create_zoo_file(partial, replace(header, checksums=checksums), merged)
        _copy_rows(file, open_zoo_file(partial), runs)
        os.replace(partial, target)


def write_zoo_file(
    path: Path, header: ZooHeader, columns: Mapping[str, Column], weights: np.ndarray
) -> None:
    """Write a complete file at once, under a temporary name first.

    Args:
        path: path of the file; an existing one is replaced at the end.
        header: root attributes; the checksum of every column is added.
        columns: scalar columns, (N,) each.
        weights: weights, (N, D), float32.

    Raises:
        ZooFormatError: if the weights do not fit the columns or the layer table.
    """
    weights = weights.astype("<f4", copy=False)
    if weights.shape != (len(next(iter(columns.values()), ())), header.layer_table.width):
        raise ZooFormatError(f"weights have shape {weights.shape}, not (N, D) of the other columns")
    checksums = {name: checksum(column) for name, column in columns.items()}
    checksums[WEIGHTS] = checksum(weights)
    partial = path.with_name(path.name + ".tmp")
    with _removed_on_error(partial):
        create_zoo_file(partial, replace(header, checksums=checksums), columns)
        rows = open_zoo_file(partial).map_weights("r+")
        rows[:] = weights
        rows.flush()
        os.replace(partial, path)


def write_columns_file(path: Path, columns: Mapping[str, Column]) -> None:
    """Write a file of scalar columns without weights, under a temporary name first.

    Args:
        path: path of the file; an existing one is replaced at the end.
        columns: scalar columns, (N,) each, numbers or str objects.

    Raises:
        ZooFormatError: if the columns are empty, differ in length or contradict on lineage.
    """
    common_length(path, {name: len(column) for name, column in columns.items()})
    check_lineage(columns)
    partial = path.with_name(path.name + ".tmp")
    with (
        _removed_on_error(partial),
        _system_errors(path),
        h5py.File(partial, "w", libver=("v110", "v110"), track_order=True) as file,
    ):
        for name, column in columns.items():
            _create_dataset(file, name, column.shape, column.dtype)[...] = column
    os.replace(partial, path)


def _merged_columns(file: ZooFile, columns: Mapping[str, Column]) -> dict[str, Column]:
    """All columns of a file in its order; given columns replace its own."""
    for name, column in columns.items():
        if name not in file.columns or column.shape != (file.rows,):
            raise ZooFormatError(f"{file.path} holds no column {name!r} of shape {column.shape}")
    own = file.read_columns([name for name in file.columns if name not in columns])
    given = {
        name: column.astype(file.columns[name], copy=False) for name, column in columns.items()
    }
    return {name: (own | given)[name] for name in file.columns}


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of consecutive numbers in ascending row numbers."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def _copy_rows(source: ZooFile, target: ZooFile, runs: list[tuple[int, int]]) -> None:
    """Copy runs of rows into the first rows of a file with enough space."""
    row_bytes, target_start = source.width * 4, target.weights_offset
    for start, stop in runs:
        size = (stop - start) * row_bytes
        first = source.weights_offset + start * row_bytes
        copy_range(source.path, target.path, first, target_start, size)
        target_start += size


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Remove a file if writing it fails, so that it does not fill the disk."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Raise the error of the system, which HDF5 reports inside a page of its own text."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
    ) as error:  # HDF5 raises RuntimeError if the disk is full at a flush
        found = re.search(r"errno = (\d+)", str(error))
        if found is None:
            raise
        number = int(found.group(1))
        raise OSError(number, os.strerror(number), str(path)) from error


def _create_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> h5py.Dataset:
    """Create a contiguous dataset whose position in the file is fixed from now on."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if dtype.kind == "O":
        return file.create_dataset(name, shape, h5py.string_dtype("utf-8"), dcpl=plist)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, dtype.newbyteorder("<"), dcpl=plist)


def _reserve(path: Path, offset: int, size_bytes: int) -> None:
    """Allocate the disk blocks of a byte range, where the system supports it."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), offset, size_bytes)
        else:
            file.truncate(max(path.stat().st_size, offset + size_bytes))
