"""Tensors that are read from their file on demand."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from .unreadable import UnreadableFileError, shown

DIMENSIONS = 64  # numpy's limit
EXPANSION, FREE_BYTES = 16, 16_000_000
NUMPY_TYPES = {  # torch's name: numpy type of the stored bytes
    "float32": "<f4",
    "float64": "<f8",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "?",
}


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is still in its file.

    Attributes:
        storage: key of the storage that holds it.
        dtype: torch's name of its type.
        offset: index of its first value in the storage.
        shape: its shape.
        stride: stride of each dimension, in values.
    """

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Reject changes by the pickle: its values at creation were checked."""
        raise UnreadableFileError("pickle tries to change a tensor")


Leaf = LazyTensor | np.ndarray


def check_sizes(tensors: Mapping[str, Leaf], size_bytes: int) -> None:
    """Reject tensors that a file of this size cannot hold, before memory is allocated for them.

    A tensor may repeat one stored value many times (stride 0): a file of 1 kB can claim any number
    of values. Tensors may take at most `EXPANSION` times the stored bytes.

    Args:
        tensors: tensors of one checkpoint, by name.
        size_bytes: size of the file, in bytes.

    Raises:
        UnreadableFileError: if they hold no value, more values than the file, or too many repeats.
    """
    values, wanted, stored = 0, 0, dict[str, int]()
    for name, leaf in tensors.items():
        values += math.prod(leaf.shape)
        if len(leaf.shape) > DIMENSIONS:
            raise UnreadableFileError(f"{shown(name)} has {len(leaf.shape)} dimensions")
        if isinstance(leaf, LazyTensor):
            _check_signs(leaf)
            item = np.dtype(NUMPY_TYPES[leaf.dtype]).itemsize
            stop = (leaf.offset + span(leaf)) * item
            if stop > size_bytes:
                raise UnreadableFileError(
                    f"{shown(name)} has shape {shown(leaf.shape)}, more than its file holds"
                )
            wanted += math.prod(leaf.shape) * item
            stored[leaf.storage] = max(stored.get(leaf.storage, 0), stop)
        else:
            wanted, stored[""] = wanted + leaf.nbytes, size_bytes
    if not values:
        raise UnreadableFileError("its tensors hold no values")
    if wanted > FREE_BYTES + EXPANSION * sum(stored.values()):
        raise UnreadableFileError(
            f"its tensors repeat {sum(stored.values())} stored bytes to {wanted} bytes: "
            f"more than {EXPANSION} times is not read"
        )


def _check_signs(leaf: LazyTensor) -> None:
    if min((leaf.offset, *leaf.shape, *leaf.stride), default=0) < 0:
        raise UnreadableFileError(f"a tensor has a negative shape or stride: {shown(leaf)}")


def span(leaf: LazyTensor) -> int:
    """Number of values of the storage that a tensor spans, from its offset on."""
    if not math.prod(leaf.shape):
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(leaf.shape, leaf.stride, strict=True))


class Checkpoint:
    """An open checkpoint file.

    Attributes:
        root: saved object, plain containers with `LazyTensor`s. It must not be changed: files
            with the same pickle share it.
    """

    root: Any

    def read(self, leaf: Leaf) -> np.ndarray:
        """Read the values of a tensor; bfloat16 is returned as float32.

        Raises:
            UnreadableFileError: if the file does not hold them.
        """
        if isinstance(leaf, np.ndarray):
            return leaf
        _check_signs(leaf)
        item = np.dtype(NUMPY_TYPES[leaf.dtype])
        size = span(leaf) * item.itemsize
        data = self._bytes(leaf.storage, leaf.offset * item.itemsize, size)
        values = _view(np.frombuffer(data, item), leaf)
        return _widen(values) if leaf.dtype == "bfloat16" else values

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        """A range of a storage."""
        raise NotImplementedError


def slice_bytes(file: BinaryIO, start: int, size: int) -> Any:
    """Read bytes of a file; without a copy if the file is in memory.

    Args:
        file: file opened for reading.
        start: position of the first byte.
        size: number of bytes.

    Raises:
        UnreadableFileError: if the file is shorter.
    """
    if isinstance(file, io.BytesIO):
        data: Any = file.getbuffer()[start : start + size]
    else:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise UnreadableFileError(f"truncated: {size} bytes at {start} exceed the file")
    return data


def slice_span(
    file: BinaryIO, spans: Mapping[str, tuple[int, int]], storage: str, start: int, size: int
) -> Any:
    """Read a range of one storage.

    Args:
        file: file opened for reading.
        spans: position and size of each storage in the file, in bytes.
        storage: key of the storage.
        start: position of the first byte in the storage.
        size: number of bytes.

    Raises:
        UnreadableFileError: if the range exceeds the storage, or the file is shorter.
    """
    first, length = spans.get(storage, (0, -1))
    if start + size > length:
        raise UnreadableFileError(f"a tensor lies outside its storage {storage!r}")
    return slice_bytes(file, first + start, size)


def _view(flat: np.ndarray, leaf: LazyTensor) -> np.ndarray:
    if leaf.stride == contiguous_stride(leaf.shape):  # five times as fast as with strides
        return flat[: math.prod(leaf.shape)].reshape(leaf.shape)
    steps = [stride * flat.itemsize for stride in leaf.stride]
    return np.lib.stride_tricks.as_strided(flat, leaf.shape, steps, writeable=False)


@lru_cache(maxsize=1024)
def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of a tensor without gaps, in values."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _widen(values: np.ndarray) -> np.ndarray:
    """bfloat16 bits as float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)
