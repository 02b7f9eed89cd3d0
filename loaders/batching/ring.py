"""Ring of slots: threads read batches ahead into slots, which are reused in order.

On the CPU a slot is memory from the dataset's pool. On CUDA it is a pinned buffer: threads gather
rows into it and enqueue its copy on a stream of their own, so that the copy runs beside the
consumer's kernels. Two events per slot order the work. "Copied": the batch is on the device and the
pinned buffer is free again; the consumer's stream and the next gather wait for it. "Used": the
consumer asked for the next batch; the next copy into the slot waits for it, so the device never
holds more batches ahead than the ring has slots.

Shape letters: n rows in a batch, D length of the flat weight vector, k columns of one type.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...zoos.format import WEIGHTS
from ...zoos.networks.devices import pinned_copy, pinned_memory
from ..dataset.zoo_dataset import ZooDataset
from ..storage.column_batches import ColumnBatch

SLOTS = 3
HOST_THREADS = 2  # reading threads on the CPU; few, because the consumer needs cores too
PIECE_BYTES = (
    2**20
)  # smallest piece of a batch for one thread; smaller ones cost more than they gain


class Slots(Protocol):
    """Steps that a batch takes through a slot, and the thread of each step.

    Attributes:
        threads: number of background threads that read.
    """

    threads: int

    def read(self, slot: int, rows: np.ndarray) -> Any:
        """Read rows into a slot; called in a background thread.

        Args:
            slot: number of the slot, below `SLOTS`.
            rows: row numbers of the batch, (n,).
        """

    def hand_out(self, slot: int, read: Any) -> dict[str, Any]:
        """Make a batch; called in the consumer's thread.

        Args:
            slot: number of the slot, below `SLOTS`.
            read: result of `read` for that slot.
        """

    def release(self, slot: int) -> None:
        """Record that the consumer asked for the next batch; called in the consumer's thread."""

    def close(self) -> None:
        """End the threads of the slots."""


def read_ahead(
    slots: Slots, batches: Iterable[np.ndarray]
) -> Generator[dict[str, Any], None, None]:
    """Yield batches in order, reading `SLOTS` of them ahead.

    The threads end when the generator is exhausted or closed, or raises.

    Args:
        slots: slots that batches are read into.
        batches: row numbers of every batch, (n,) each.

    Yields:
        Batches in order.

    Raises:
        Exception: the error of a reading thread, raised in place of its batch.
    """
    is_finalizing = (
        sys.is_finalizing
    )  # kept, because an iterator may outlive the names of this module
    reader = ThreadPoolExecutor(slots.threads, thread_name_prefix="weightzoo-ring")
    ahead: deque[tuple[int, Future[Any]]] = deque()
    try:
        for number, rows in enumerate(batches):
            if len(ahead) == SLOTS:
                yield from _next(slots, ahead)
            slot = number % SLOTS
            ahead.append((slot, reader.submit(slots.read, slot, rows)))
        while ahead:
            yield from _next(slots, ahead)
    finally:
        if not is_finalizing():  # else the threads are gone already
            reader.shutdown(cancel_futures=True)
            slots.close()


def _next(slots: Slots, ahead: deque[tuple[int, Future[Any]]]) -> Iterator[dict[str, Any]]:
    """The oldest batch; its slot is free once the consumer asks for the next one."""
    slot, future = ahead.popleft()
    yield slots.hand_out(slot, future.result())
    slots.release(slot)


class HostSlots:
    """Slots from the dataset's pool of buffers; a buffer is reused when nothing refers to it."""

    threads = HOST_THREADS

    def __init__(self, dataset: ZooDataset, device: torch.device) -> None:
        """Make slots for the CPU, or for a device without streams.

        Args:
            dataset: dataset to read.
            device: device where batches are placed.
        """
        self._dataset, self._device = dataset, device

    def read(self, slot: int, rows: np.ndarray) -> dict[str, Any]:
        """Read columns and weights (n, D).

        Args:
            slot: number of the slot, below `SLOTS`.
            rows: row numbers of the batch, (n,).
        """
        table_rows = self._dataset.rows[rows]
        weights = torch.from_numpy(self._dataset.source.take(table_rows))
        return self._dataset.columns.take(table_rows).as_torch() | {WEIGHTS: weights}

    def hand_out(self, slot: int, read: dict[str, Any]) -> dict[str, Any]:
        """Move the batch to the device.

        Args:
            slot: number of the slot, below `SLOTS`.
            read: result of `read` for that slot.
        """
        if self._device.type == "cpu":
            return read
        return {
            name: value.to(self._device) if isinstance(value, Tensor) else value
            for name, value in read.items()
        }

    def release(self, slot: int) -> None:
        """Do nothing; see `Slots`."""

    def close(self) -> None:
        """Do nothing; see `Slots`."""


class CudaSlots:
    """Pinned slots, copied to a CUDA device beside the consumer's kernels."""

    threads = SLOTS

    def __init__(self, dataset: ZooDataset, device: torch.device, batch_size: int) -> None:
        """Pin the memory of the ring: SLOTS * batch_size * D float32.

        Args:
            dataset: dataset to read.
            device: CUDA device where batches are placed.
            batch_size: largest number of rows in a batch.
        """
        self._dataset, self._device = dataset, device
        shape = (batch_size, dataset.source.width)
        self._stream = torch.cuda.Stream(device)  # first: memory is pinned by a device in use
        self._pinned = [pinned_memory(*shape) for _ in range(SLOTS)]
        self._copied = [torch.cuda.Event() for _ in range(SLOTS)]
        self._used = [torch.cuda.Event() for _ in range(SLOTS)]
        self._pieces = min(8, os.cpu_count() or 1)
        self._gatherers = ThreadPoolExecutor(self._pieces, thread_name_prefix="weightzoo-gather")

    def read(self, slot: int, rows: np.ndarray) -> tuple[ColumnBatch, Tensor, list[Tensor]]:
        """Gather the rows, then enqueue the copies of weights and columns.

        Args:
            slot: number of the slot, below `SLOTS`.
            rows: row numbers of the batch, (n,).
        """
        table_rows = self._dataset.rows[rows]
        self._copied[slot].synchronize()  # returns at once for an event that was never recorded
        host = self._pinned[slot][: len(rows)]
        self._gather(table_rows, host.numpy())
        columns = self._dataset.columns.take(table_rows)
        pinned = [pinned_copy(torch.from_numpy(block)) for block in columns.blocks]
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[slot])
            weights = host.to(self._device, non_blocking=True)
            blocks = [block.to(self._device, non_blocking=True) for block in pinned]
            self._copied[slot].record(self._stream)
        return columns, weights, blocks

    def hand_out(self, slot: int, read: Any) -> dict[str, Any]:
        """Make the batch; the consumer's stream waits for its copies.

        Args:
            slot: number of the slot, below `SLOTS`.
            read: result of `read` for that slot.
        """
        columns, weights, blocks = read
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied[slot])
        for tensor in (weights, *blocks):
            tensor.record_stream(stream)  # freed memory waits for the consumer's kernels
        return columns.as_torch(blocks) | {WEIGHTS: weights}

    def release(self, slot: int) -> None:
        """Make the slot's next copy wait for the kernels that the consumer has enqueued."""
        self._used[slot].record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """End the gathering threads; see `Slots`."""
        self._gatherers.shutdown()

    def _gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Gather rows in several threads, because one thread does not fill the bus."""
        pieces = max(1, min(self._pieces, math.ceil(out.nbytes / PIECE_BYTES)))
        bounds = [len(rows) * piece // pieces for piece in range(pieces + 1)]
        spans = [slice(*pair) for pair in zip(bounds, bounds[1:], strict=False)]
        take = self._dataset.source.take
        list(self._gatherers.map(lambda span: take(rows[span], out=out[span]), spans))
