"""A ring of slots: batches are read ahead by threads, handed out in order, slots used again.

On the CPU a slot is memory of the dataset's pool. On CUDA it is a pinned buffer: threads gather
rows into it and enqueue its copy on a stream of their own, so that the copy runs beside the
consumer's kernels. Two events per slot keep it safe: "copied" (the batch is on the device, the
pinned buffer free again), for which the consumer's stream and the next gather wait, and "used"
(the consumer asked for the batch after), for which the slot's next copy waits, so that no more
than the ring is ever ahead on the device.

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
from ..dataset.zoo_dataset import ZooDataset
from ..storage.column_batches import ColumnBatch

SLOTS = 3
HOST_THREADS = 2  # that read ahead on the CPU, where the consumer needs cores too
PIECE_BYTES = 2**20  # of a batch gathered by one thread; smaller pieces cost more than they gain


class Slots(Protocol):
    """What happens to the batch in a slot, and in which thread."""

    threads: int

    def read(self, slot: int, rows: np.ndarray) -> Any:
        """Read rows into the slot; in a background thread."""

    def hand_out(self, slot: int, read: Any) -> dict[str, Any]:
        """Make the batch of what `read` returned; in the consumer's thread."""

    def release(self, slot: int) -> None:
        """Note that the consumer asked for the next batch; in the consumer's thread."""

    def close(self) -> None:
        """End what the slots keep running."""


def read_ahead(
    slots: Slots, batches: Iterable[np.ndarray]
) -> Generator[dict[str, Any], None, None]:
    """Hand out batches in order, `SLOTS` of them read ahead.

    Its threads end with it: when it is exhausted, closed, or an error passes through.

    Args:
        slots: where batches are read to.
        batches: the dataset's rows of every batch, (n,).

    Raises:
        Whatever a thread raised, in the place of its batch.
    """
    is_finalizing = sys.is_finalizing  # an iterator may outlive even the names of this module
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
    """The oldest batch; its slot is free when the consumer asks for another."""
    slot, future = ahead.popleft()
    yield slots.hand_out(slot, future.result())
    slots.release(slot)


class HostSlots:
    """Slots in the dataset's pool of buffers: one is reused when nothing refers to it."""

    threads = HOST_THREADS

    def __init__(self, dataset: ZooDataset, device: torch.device) -> None:
        """Read from a dataset, for the CPU or a device without streams of its own."""
        self._dataset, self._device = dataset, device

    def read(self, slot: int, rows: np.ndarray) -> dict[str, Any]:
        """Columns and weights (n, D) of some rows of the dataset."""
        table_rows = self._dataset.rows[rows]
        weights = torch.from_numpy(self._dataset.source.take(table_rows))
        return self._dataset.columns.take(table_rows).as_torch() | {WEIGHTS: weights}

    def hand_out(self, slot: int, read: dict[str, Any]) -> dict[str, Any]:
        """The batch, on the device."""
        if self._device.type == "cpu":
            return read
        return {
            name: value.to(self._device) if isinstance(value, Tensor) else value
            for name, value in read.items()
        }

    def release(self, slot: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class CudaSlots:
    """Pinned slots, copied to a CUDA device beside the consumer's kernels."""

    threads = SLOTS

    def __init__(self, dataset: ZooDataset, device: torch.device, batch_size: int) -> None:
        """Pin the ring: SLOTS * batch_size * D float32."""
        self._dataset, self._device = dataset, device
        shape = (batch_size, dataset.source.width)
        self._pinned = [torch.empty(shape, pin_memory=True) for _ in range(SLOTS)]
        self._copied = [torch.cuda.Event() for _ in range(SLOTS)]
        self._used = [torch.cuda.Event() for _ in range(SLOTS)]
        self._stream = torch.cuda.Stream(device)
        self._pieces = min(8, os.cpu_count() or 1)
        self._gatherers = ThreadPoolExecutor(self._pieces, thread_name_prefix="weightzoo-gather")

    def read(self, slot: int, rows: np.ndarray) -> tuple[ColumnBatch, Tensor, list[Tensor]]:
        """Gather, then enqueue the copies of weights and columns."""
        table_rows = self._dataset.rows[rows]
        self._copied[slot].synchronize()  # returns at once for an event never recorded
        host = self._pinned[slot][: len(rows)]
        self._gather(table_rows, host.numpy())
        columns = self._dataset.columns.take(table_rows)
        pinned = [torch.from_numpy(block).pin_memory() for block in columns.blocks]
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[slot])
            weights = host.to(self._device, non_blocking=True)
            blocks = [block.to(self._device, non_blocking=True) for block in pinned]
            self._copied[slot].record(self._stream)
        return columns, weights, blocks

    def hand_out(self, slot: int, read: Any) -> dict[str, Any]:
        """The batch, once the consumer's stream reaches the end of its copies."""
        columns, weights, blocks = read
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied[slot])
        for tensor in (weights, *blocks):
            tensor.record_stream(stream)  # freed memory waits for the consumer's kernels
        return columns.as_torch(blocks) | {WEIGHTS: weights}

    def release(self, slot: int) -> None:
        """Let the slot's next copy wait for what the consumer enqueued so far."""
        self._used[slot].record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """End the gathering threads."""
        self._gatherers.shutdown()

    def _gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Rows by several threads at once: one alone does not fill the bus."""
        pieces = max(1, min(self._pieces, math.ceil(out.nbytes / PIECE_BYTES)))
        bounds = [len(rows) * piece // pieces for piece in range(pieces + 1)]
        spans = [slice(*pair) for pair in zip(bounds, bounds[1:], strict=False)]
        take = self._dataset.source.take
        list(self._gatherers.map(lambda span: take(rows[span], out=out[span]), spans))
