"""Reused memory: for batches, and for tokens whose padding is zero.

Zeroing a batch of tokens costs about as much as filling them, and new memory costs more. Buffers
are therefore reused, and zeroed again only if somebody may have written to their padding.
"""

import sys
import weakref
from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

POOLED_BUFFERS = 5  # three ahead in a ring, one in use, one to spare
_NOTHING = torch.empty(0)


class BufferPool:
    """Memory for batches, reused only when nobody outside holds it any more.

    Whatever still reads a buffer refers to its array: a view, a tensor of `torch.from_numpy`,
    a view of that tensor. So the count of references tells whether it is free. A fresh buffer
    per batch costs page faults, at large rows more time than the copy itself.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._buffers: deque[np.ndarray] = deque(maxlen=POOLED_BUFFERS)

    def take(self, rows: int, width: int) -> np.ndarray:
        """(rows, width) float32 with undefined values, free or new."""
        for _ in range(len(self._buffers)):
            try:
                buffer = self._buffers.pop()  # atomic: no two threads get the same one
            except IndexError:
                break
            if len(buffer) >= rows and _references(buffer) == _FREE:
                self._buffers.append(buffer)  # used last, so still in the processor's cache
                return buffer[:rows]
            self._buffers.appendleft(buffer)
        buffer = np.empty((rows, width), np.float32)
        self._buffers.append(buffer)
        return buffer[:rows]


class _Lent(NamedTuple):
    """What is remembered of a buffer that was handed out.

    Attributes:
        buffer: refers to it without keeping it.
        versions: an empty tensor that shares the count of writes of the tensor handed out.
        version: the count of writes then.
    """

    buffer: "weakref.ref[np.ndarray]"
    versions: Tensor
    version: int


class PaddedBuffers:
    """Hands out float32 memory in which only real values were ever written.

    A buffer is reused when nothing refers to it any more. Torch counts the writes to a tensor and
    its views, so that a batch that its user changed in place is noticed and zeroed before the
    buffer is reused. Writes that bypass the count (`tensor.numpy()`, `tensor.data`) must leave
    padding as it is.
    """

    def __init__(self, width: int) -> None:
        """Start empty; rows will have `width` values."""
        self._width, self._pool = width, BufferPool()
        self._lent: dict[int, _Lent] = {}

    def take(self, rows: int) -> Tensor:
        """(rows, width), float32: zero where its last users left padding; free or new."""
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):  # where writes are not counted
                return self.take(rows)
        room = self._pool.take(rows, self._width)
        buffer = room if room.base is None else room.base
        if not self._is_clean(buffer):
            buffer.fill(0)
        tensor = torch.from_numpy(room)
        versions = tensor.detach()
        versions.data = _NOTHING  # lets go of the memory, but keeps counting
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
    """What `_references` says of an array that only the caller's variable holds."""
    buffer = np.empty(1, np.float32)
    return _references(buffer)


_FREE = _references_when_free()  # measured, since Python versions count differently
