"""Tensors that are still in their file, and how their bytes become arrays."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from .unreadable import UnreadableFileError, shown

DIMENSIONS = 64  # numpy has no more
EXPANSION, FREE_BYTES = 16, 16_000_000
NUMPY_TYPES = {  # torch's name: how its bytes are read
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
        offset: of its first value in the storage, in values.
        shape: its shape.
        stride: in values, by dimension.
    """

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Refuse: what a pickle made it with was checked."""
        raise UnreadableFileError("pickle tries to change a tensor")


Leaf = LazyTensor | np.ndarray


def check_sizes(tensors: Mapping[str, Leaf], size_bytes: int) -> None:
    """Refuse tensors that no file of that size holds, before room is made for them.

    A tensor may show one stored value many times (stride 0): a file of 1 kB can stand for any
    number of values. Tensors may take `EXPANSION` times the bytes that are stored.

    Args:
        tensors: of one checkpoint.
        size_bytes: of the file.

    Raises:
        UnreadableFileError: if they hold no value at all, more than the file has, or too many.
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
    """How many values of its storage a tensor reaches over, from its offset on."""
    if not math.prod(leaf.shape):
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(leaf.shape, leaf.stride, strict=True))


class Checkpoint:
    """An open checkpoint file.

    Attributes:
        root: what was saved, plain containers with `LazyTensor`s. Not to be changed: files with
            the same pickle share it.
    """

    root: Any

    def read(self, leaf: Leaf) -> np.ndarray:
        """The values of a tensor; bfloat16 comes as float32.

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
    """Bytes of a file; without a copy if it lies in memory."""
    if isinstance(file, io.BytesIO):
        data: Any = file.getbuffer()[start : start + size]
    else:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise UnreadableFileError(f"truncated: {size} bytes at {start} go beyond its end")
    return data


def slice_span(
    file: BinaryIO, spans: Mapping[str, tuple[int, int]], storage: str, start: int, size: int
) -> Any:
    """A range of one of the storages that lie at `spans`."""
    first, length = spans.get(storage, (0, -1))
    if start + size > length:
        raise UnreadableFileError(f"a tensor lies outside its storage {storage!r}")
    return slice_bytes(file, first + start, size)


def _view(flat: np.ndarray, leaf: LazyTensor) -> np.ndarray:
    if leaf.stride == contiguous_stride(leaf.shape):  # five times as fast as strides
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
