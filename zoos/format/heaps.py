"""Check the heaps in which HDF5 keeps text, before HDF5 reads them.

Text columns and long attributes lie in "global heap collections": a header (signature, version,
size) and objects one after another, each with a header of 16 bytes (index, count of references,
size) and its data, padded to 8 bytes; index 0 is the free rest. HDF5 2.0 follows the sizes without
checking them, and one that is damaged can make it loop for ever, where no error can be caught.

Source: HDF5 File Format Specification 3.0, section III.E, Disk Format: Level 1E.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import ZooFormatError

BLOCK_BYTES = 2**24  # read at once
HEADER_BYTES = 16  # of a collection, and of an object
_START = b"GCOL\x01\x00\x00\x00"  # signature, version, reserved


def check_text_heaps(path: Path, spans: list[tuple[int, int]]) -> None:
    """Follow the objects of every collection.

    Args:
        path: path of an HDF5 file.
        spans: first byte and one past the last, of the parts of the file where text may lie.

    Raises:
        ZooFormatError: if the objects of a collection do not fill it exactly.
    """
    with path.open("rb") as file:
        for start, stop in spans:
            for block, starts, sizes in _collections(file, start, stop):
                if not _are_filled(block, starts, sizes):
                    raise ZooFormatError(f"{path} is corrupt in its text: copy or build it again")


def _collections(
    file: BinaryIO, start: int, stop: int
) -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
    """Blocks of a span, with starts and sizes of the whole collections in each."""
    least = BLOCK_BYTES
    while start < stop:
        file.seek(start)
        block = file.read(min(least, stop - start))
        if len(block) < min(least, stop - start):
            stop = start + len(block)  # the file ends before the span
        starts, sizes, at = [], [], block.find(_START)
        while at >= 0:
            size = int.from_bytes(block[at + 8 : at + HEADER_BYTES], "little")
            size = min(max(size, HEADER_BYTES), stop - start - at)  # a damaged size is found out
            if at + size > len(block):
                break
            starts.append(at)
            sizes.append(size)
            at = block.find(_START, at + size)
        yield block, np.array(starts, np.int64), np.array(sizes, np.int64)
        if at < 0:  # a signature may be cut in two
            start += len(block) - (len(_START) - 1 if start + len(block) < stop else 0)
        else:
            start, least = start + at, max(BLOCK_BYTES, size)


def _are_filled(block: bytes, starts: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether objects fill their collections exactly."""
    shifts = starts % 8
    return all(  # one shift, where HDF5 aligns what it writes
        _end_well(
            np.frombuffer(block, "<u8", (len(block) - shift) // 8, shift),
            starts[shifts == shift] // 8,
            sizes[shifts == shift],
        )
        for shift in np.unique(shifts).tolist()
    )


def _end_well(words: np.ndarray, at: np.ndarray, left: np.ndarray) -> bool:
    """Follow the objects of collections that start at some words, side by side."""
    at, left = at + HEADER_BYTES // 8, left - HEADER_BYTES
    while len(at := at[left >= HEADER_BYTES]):
        left = left[left >= HEADER_BYTES]
        is_rest, size = (words[at] & 0xFFFF) == 0, words[at + 1]
        if (size > left).any() or (size[is_rest] != left[is_rest]).any():
            return False
        padded = HEADER_BYTES + (size.astype(np.int64) + 7) // 8 * 8
        left = left - np.where(is_rest, left, padded)
        at = at + padded // 8
    return not (left < 0).any()
