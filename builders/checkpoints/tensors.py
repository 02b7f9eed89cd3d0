"""Arrays of the tensors of a checkpoint file, read on demand."""

import io
import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from ...zoos.tensors.lazy import LazyTensor
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
            stop = leaf.start + leaf.span * leaf.type.item_bytes
            if stop > size_bytes:
                raise UnreadableFileError(
                    f"{shown(name)} has shape {shown(leaf.shape)}, more than its file holds"
                )
            wanted += leaf.type.size_bytes
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
    if min(leaf.start, *leaf.shape, *(leaf.stride or ()), 0) < 0:
        raise UnreadableFileError(f"a tensor has a negative shape or stride: {shown(leaf)}")


class Checkpoint:
    """An open checkpoint file.

    Attributes:
        root: saved object, plain containers with `LazyTensor`s. It must not be changed: files
            with the same pickle share it.
        metadata: texts by key that a safetensors file states of itself; empty in other files.
    """

    root: Any
    metadata: Mapping[str, str] = MappingProxyType({})

    def read(self, leaf: Leaf) -> np.ndarray:
        """Read the values of a tensor; bfloat16 is returned as float32.

        Raises:
            UnreadableFileError: if the file does not hold them.
        """
        if isinstance(leaf, np.ndarray):
            return leaf
        _check_signs(leaf)
        data = self._bytes(leaf.storage, leaf.start, leaf.span * leaf.type.item_bytes)
        values = _view(np.frombuffer(data, NUMPY_TYPES[leaf.type.dtype]), leaf)
        return _widen(values) if leaf.type.dtype == "bfloat16" else values

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


def _view(flat: np.ndarray, leaf: LazyTensor) -> np.ndarray:
    if leaf.stride is None or leaf.stride == _contiguous_stride(leaf.shape):
        return flat[: leaf.type.size].reshape(leaf.shape)  # five times as fast as with strides
    steps = [stride * flat.itemsize for stride in leaf.stride]
    return np.lib.stride_tricks.as_strided(flat, leaf.shape, steps, writeable=False)


@lru_cache(maxsize=1024)
def _contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of a tensor without gaps, in values."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _widen(values: np.ndarray) -> np.ndarray:
    """bfloat16 bits as float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)
