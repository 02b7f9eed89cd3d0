"""Reused memory for batches, and for tokens with zero padding.

Zeroing a batch of tokens costs about as much as filling it, and new memory costs more. Buffers are
therefore reused, and are zeroed again only if their padding may have been written to.
"""

import sys
import weakref
from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

POOLED_BUFFERS = 5  # three read ahead in a ring, one in use, one spare
_NOTHING = torch.empty(0)


class BufferPool:
    """Pool of buffers for batches; a buffer is reused only when nothing else refers to it.

    A view of the array of a buffer, a tensor from `torch.from_numpy`, or a view of that tensor
    refers to the array. The reference count therefore tells whether the buffer is free. A new
    buffer per batch would cause page faults, which for large rows take longer than the copy.
    """

    def __init__(self) -> None:
        """Make an empty pool."""
        self._buffers: deque[np.ndarray] = deque(maxlen=POOLED_BUFFERS)

    def take(self, rows: int, width: int) -> np.ndarray:
        """Take a free buffer, or make a new one.

        Args:
            rows: number of rows.
            width: values per row, the same in every call.

        Returns:
            Memory with undefined values, (rows, width), float32.
        """
        for _ in range(len(self._buffers)):
            try:
                buffer = self._buffers.pop()  # atomic, so no two threads get the same buffer
            except IndexError:
                break
            if len(buffer) >= rows and _references(buffer) == _FREE:
                self._buffers.append(buffer)  # the last one used, so still in the processor's cache
                return buffer[:rows]
            self._buffers.appendleft(buffer)
        buffer = np.empty((rows, width), np.float32)
        self._buffers.append(buffer)
        return buffer[:rows]


class _Lent(NamedTuple):
    """Record of a buffer in use.

    Attributes:
        buffer: weak reference to the buffer.
        versions: empty tensor that shares the write count of the returned tensor.
        version: write count when the tensor was returned.
    """

    buffer: "weakref.ref[np.ndarray]"
    versions: Tensor
    version: int


class PaddedBuffers:
    """Pool of float32 buffers whose padding is zero.

    A buffer is reused when nothing else refers to it. Torch counts the writes to a tensor and its
    views. A buffer whose tensor was changed in place is therefore zeroed before it is reused.
    Writes that bypass the count (`tensor.numpy()`, `tensor.data`) must not change the padding.
    """

    def __init__(self, width: int) -> None:
        """Make an empty pool of rows with `width` values."""
        self._width, self._pool = width, BufferPool()
        self._lent: dict[int, _Lent] = {}

    def take(self, rows: int) -> Tensor:
        """Take a free or new buffer, (rows, width), float32, zero wherever the padding is."""
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):  # inference mode does not count writes
                return self.take(rows)
        room = self._pool.take(rows, self._width)
        buffer = room if room.base is None else room.base
        if not self._is_clean(buffer):
            buffer.fill(0)
        tensor = torch.from_numpy(room)
        versions = tensor.detach()
        versions.data = _NOTHING  # releases the memory and keeps the count
        if id(buffer) not in self._lent:
            self._lent = {
                key: lent for key, lent in self._lent.items() if lent.buffer() is not None
            }
        self._lent[id(buffer)] = _Lent(weakref.ref(buffer), versions, versions._version)
        return tensor

    def _is_clean(self, buffer: np.ndarray) -> bool:
        lent = self._lent.get(id(buffer))
        return (
            lent is not None and lent.buffer() is buffer and lent.versions._version == lent.version
        )


def _references(buffer: np.ndarray) -> int:
    return sys.getrefcount(buffer)


def _references_when_free() -> int:
    """Result of `_references` for an array that only one variable refers to."""
    buffer = np.empty(1, np.float32)
    return _references(buffer)


_FREE = _references_when_free()  # measured, because Python versions count differently
