"""Tensors that are still in their file: type, shape and position, and the source of their bytes.

torch is imported only where one of its types is asked for: the process that tries foreign pickles
starts anew for every hostile file, without torch.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ZooFormatError

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {  # of one value, by torch's name of the type
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}


@dataclass(frozen=True, slots=True)
class TensorType:
    """Type and shape of a tensor.

    Attributes:
        dtype: torch's name of its type, e.g. "bfloat16".
        shape: its shape.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def torch_dtype(self) -> "torch.dtype":
        """The type as torch has it."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Number of bytes."""
        return self.size * self.item_bytes

    @property
    def item_bytes(self) -> int:
        """Number of bytes of one value."""
        return ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether values can be averaged: float16, bfloat16, float32 or float64."""
        return self.dtype in ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is still in its file.

    Attributes:
        type: type and shape.
        start: position of its first byte in its storage.
        storage: name of the storage that holds it; "" for the only one of a file.
        stride: stride of each dimension, in values; None for a tensor without gaps.
    """

    type: TensorType
    start: int
    storage: str = ""
    stride: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, under the name that arrays have it."""
        return self.type.shape

    @property
    def span(self) -> int:
        """Number of values of the storage from the first value to the last one, inclusive."""
        if self.stride is None or not self.type.size:
            return self.type.size
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))

    def __setstate__(self, state: Any) -> None:
        """Reject changes by a pickle that tensors are read from: they were checked when made.

        Raises:
            ZooFormatError: always.
        """
        raise ZooFormatError("pickle tries to change a tensor")


class ByteSource(Protocol):
    """A source of bytes: a local file, or a file that is read by HTTP ranges.

    Attributes:
        name: path or address, for messages.
        size_bytes: size of the whole file, in bytes.
    """

    name: str
    size_bytes: int

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the bytes from `start` on.

        Args:
            buffer: memory to fill.
            start: offset of the first byte.

        Raises:
            ZooFormatError: if the file ends before.
        """


class LocalBytes:
    """A file on the disk that is read by position, so that threads may share it."""

    def __init__(self, path: Path | str) -> None:
        """Open the file.

        Raises:
            ZooFormatError: if it is not a regular file.
        """
        self.path, self.name = Path(path), str(path)
        if not self.path.is_file():
            raise ZooFormatError(f"{self.name} is not a file: give the path of a safetensors file")
        self._handle = os.open(self.path, os.O_RDONLY)
        self.size_bytes = os.fstat(self._handle).st_size

    def __del__(self) -> None:
        """Close the file."""
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the bytes from `start` on.

        Args:
            buffer: memory to fill.
            start: position of the first byte in the file.

        Raises:
            ZooFormatError: if the file ends before.
        """
        while buffer:
            count = os.preadv(self._handle, [buffer], start)
            if count == 0:
                raise ZooFormatError(
                    f"{self.name} ends at {start}, {len(buffer)} bytes too soon: copy it again"
                )
            buffer, start = buffer[count:], start + count


def read_bytes(source: ByteSource, start: int, size: int) -> bytes:
    """A few bytes of a source.

    Args:
        source: open source of bytes.
        start: offset of the first byte.
        size: number of bytes.
    """
    data = bytearray(size)
    source.read_into(memoryview(data), start)
    return bytes(data)
