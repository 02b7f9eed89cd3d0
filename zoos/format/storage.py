"""Check that a file holds what its header claims, before memory is made for it.

h5py shows every float by the numpy type it converts it to, bfloat16 as float32; a map shows bytes
as they lie. A header can also claim columns of any length over chunks that were never written,
over a hole in the file, or texts of any length: HDF5 makes room first and reads then.

Shape letters: N rows.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from ..errors import ZooFormatError

FREE_BYTES = 2**27  # that any file may claim, whatever it holds
MOST_RATIO = 16  # of what a larger file claims to what it holds; packed columns are small beside
REFERENCE_BYTES = 16  # of a text: its length (4), address of its heap (8), number there (4)
LENGTH = np.dtype({"names": ["length"], "formats": ["<u4"], "itemsize": REFERENCE_BYTES})
BLOCK_REFERENCES = 2**20  # read at once


def is_mappable_float32(dataset: h5py.Dataset) -> bool:
    """Whether the bytes of a dataset are float32 as numpy has them, contiguous and all there."""
    stored = dataset.id.get_type()
    return (
        isinstance(stored, h5py.h5t.TypeFloatID)
        and stored.equal(h5py.h5t.IEEE_F32LE)
        and dataset.id.get_offset() is not None
        and dataset.id.get_storage_size() == 4 * dataset.size
    )


def check_holes(path: Path, spans: list[tuple[int, int]]) -> None:
    """Refuse a sparse file whose holes would have to be searched for text.

    Args:
        path: path of the file.
        spans: first byte and one past the last, of the parts of the file where text may lie.

    Raises:
        ZooFormatError: if almost nothing of the file lies on the disk.
    """
    claimed = sum(max(0, stop - start) for start, stop in spans)
    if not _may_claim(path, claimed):
        raise ZooFormatError(
            f"{path} is sparse: almost nothing of its {claimed} bytes outside the weights lies on "
            "the disk; copy or build it again"
        )


def check_claims(path: Path, columns: list[h5py.Dataset], text_room: int) -> None:
    """Refuse columns that would take far more memory than the file takes on the disk.

    Args:
        path: path of the file.
        columns: its scalar columns, (N,) each.
        text_room: bytes of the file where text may lie.

    Raises:
        ZooFormatError: if the columns are too long for what is stored, or their texts are longer
            than the file.
    """
    claimed = sum(column.size * column.dtype.itemsize for column in columns)
    if not _may_claim(path, claimed):
        raise ZooFormatError(
            f"{path} claims {claimed} bytes of columns, but hardly any are on the disk: "
            "copy or build it again"
        )
    texts = [column for column in columns if column.dtype.kind == "O"]
    with path.open("rb") as file:
        length = sum(_text_length(path, column, file) for column in texts)
    if length > text_room:
        raise ZooFormatError(
            f"{path}: text of {length} bytes in its columns is longer than the file's {text_room} "
            "bytes outside the weights: it is corrupt, copy or build it again"
        )


def holds_data(path: Path, wanted: int) -> bool:
    """Whether a file holds at least a number of bytes of data, without holes.

    Args:
        path: path of the file.
        wanted: number of bytes.
    """
    if not hasattr(os, "SEEK_DATA"):  # Windows
        return path.stat().st_size >= wanted
    with path.open("rb") as file:
        for start, stop in _data_ranges(file.fileno()):
            wanted -= stop - start
            if wanted <= 0:
                return True
    return wanted <= 0


def _may_claim(path: Path, size_bytes: int) -> bool:
    return size_bytes <= FREE_BYTES or holds_data(path, size_bytes // MOST_RATIO)


def _data_ranges(descriptor: int) -> Iterator[tuple[int, int]]:
    """First byte and one past the last of every part of a file that is no hole."""
    stop, end = 0, os.fstat(descriptor).st_size
    while stop < end:
        try:
            start = os.lseek(descriptor, stop, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, stop


def _text_length(path: Path, column: h5py.Dataset, file: BinaryIO) -> int:
    """Sum of the lengths that the references of a text column name."""
    creation, ranges = column.id.get_create_plist(), list[tuple[int, int]]()
    if creation.get_nfilters() or creation.get_layout() == h5py.h5d.COMPACT:
        raise ZooFormatError(
            f"{path}:{column.name[1:]} is packed text, whose length cannot be checked before it "
            "is read: store it contiguous, or in chunks without filters"
        )
    if creation.get_layout() == h5py.h5d.CHUNKED:
        column.id.chunk_iter(lambda chunk: ranges.append((chunk.byte_offset, chunk.size)))
    elif (offset := column.id.get_offset()) is not None:
        ranges.append((offset, column.id.get_storage_size()))
    return sum(_lengths(file, offset, size) for offset, size in ranges)


def _lengths(file: BinaryIO, offset: int, size_bytes: int) -> int:
    """Sum of the lengths of the references in a part of a file."""
    total, left = 0, size_bytes // REFERENCE_BYTES
    file.seek(offset)
    while left > 0 and (data := file.read(REFERENCE_BYTES * min(left, BLOCK_REFERENCES))):
        count = len(data) // REFERENCE_BYTES
        total += int(np.frombuffer(data, LENGTH, count)["length"].sum(dtype=np.int64))
        left -= max(1, count)
    return total
