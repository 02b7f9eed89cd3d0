"""Tensors that are still in their file: type, shape and place, and where their bytes come from."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ZooFormatError


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
    def torch_dtype(self) -> torch.dtype:
        """The type as torch has it."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Number of bytes."""
        return self.size * self.torch_dtype.itemsize

    @property
    def is_float(self) -> bool:
        """Whether values can be averaged: float16, bfloat16, float32 or float64."""
        return self.torch_dtype.is_floating_point and self.torch_dtype.itemsize > 1


class ByteSource(Protocol):
    """Bytes at a place: a local file, or a file behind HTTP ranges.

    Attributes:
        name: path or address, for messages.
        size_bytes: size of the whole file.
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
    """A file on the disk, read by position: it may be shared by threads."""

    def __init__(self, path: Path | str) -> None:
        """Open the file.

        Raises:
            ZooFormatError: if it is a folder or a device.
        """
        self.path, self.name = Path(path), str(path)
        if not self.path.is_file():
            raise ZooFormatError(f"{self.name} is no file: give the path of a safetensors file")
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


def byte_view(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor as writable bytes."""
    return values.reshape(-1).view(torch.uint8).numpy().data


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
