"""`DeviceLoader`: batches of a zoo on a device, without a Python loop over rows.

Shape letters: N rows of the dataset, n rows in a batch, D length of the flat weight vector, k
columns of one type.
"""

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.format import WEIGHTS
from ..dataset.checks import check_dataset
from ..dataset.zoo_dataset import ZooDataset
from ..storage.buffers import BufferPool
from .order import BatchOrder, BlockShuffle
from .ring import CudaSlots, HostSlots, Slots, read_ahead

MODES = ("auto", "resident", "streaming")
FREE_SHARE = 0.5  # largest share of the device's free memory for a resident split
STAGING_BYTES = 2**26  # size of the pinned block that rows pass through

DeviceBatch = dict[str, Any]
Transform = Callable[[Tensor], Any]


class DeviceLoader:
    """Batches of a dataset as dicts of tensors on a device.

    A batch holds `weights` (n, D), float32, and the chosen columns: numbers as tensors (n,) on the
    device, text as a list of str. A batch is never overwritten while anything refers to one of its
    tensors or a view of them. It can be kept for any time, at the cost of its memory.

    Resident mode keeps all rows on the device and gathers batches there. Streaming mode reads
    three batches ahead through a ring of reused buffers. Both modes give the same batches in the
    same order, which depends on seed and epoch alone. Each iteration takes the next epoch, unless
    `set_epoch` names another one. When an iteration stops early, its threads end when the
    iterator is dropped.

    Attributes:
        dataset: dataset to read.
        device: device where batches are placed.
        mode: chosen mode, "resident" or "streaming".
        order: row numbers of every batch.

    Example:
        >>> from weightzoo import DeviceLoader, load_zoo
        >>> loader = DeviceLoader(load_zoo(ZOO, split="train"), batch_size=4)
        >>> [len(batch["weights"]) for batch in loader]
        [4, 2]
    """

    def __init__(
        self,
        dataset: ZooDataset,
        batch_size: int,
        device: str | torch.device = "cpu",
        *,
        shuffle: bool | BlockShuffle = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        mode: str = "auto",
        columns: Sequence[str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        """Plan the batches, and in resident mode copy the rows to the device.

        Args:
            dataset: dataset to read, in format "torch" or "layer_sets". In "layer_sets" its
                tokenizer is the default transform.
            batch_size: n, rows per batch.
            device: device where batches are placed, such as "cuda" or "cpu".
            shuffle: True for random order, False for ascending order, or a `BlockShuffle`, which
                suits streaming mode with files on a cold disk.
            seed: random seed of the order.
            drop_last: drop rows that do not fill a batch on every rank.
            rank: number of this process, from 0; None asks `torch.distributed`, or takes 0
                without it.
            world_size: number of processes; None asks `torch.distributed`, or takes 1 without it.
            mode: "resident", "streaming", or "auto", which is resident if the rows take at most
                half of the free memory of a CUDA device. On the CPU "auto" streams, because mapped
                files are in memory already.
            columns: names of the columns in a batch; None takes all columns of numbers.
            transform: function of the weights (n, D) on the device. If it returns a mapping, its
                entries replace `weights` in the batch; any other result becomes `weights`.

        Raises:
            TypeError: if it is no dataset, such as the dict of splits that `load_zoo` returns.
            ValueError: if an argument is out of range, there are more ranks than rows, or there is
                no such device.
            KeyError: if the dataset has no such column.
        """
        check_dataset(dataset, "DeviceLoader")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        if dataset.format not in ("torch", "layer_sets"):
            raise ValueError(
                f"DeviceLoader reads format 'torch' or 'layer_sets', got {dataset.format!r}: use "
                "with_format('torch') or with_format('layer_sets')"
            )
        self.dataset = dataset.select_columns(_numbers(dataset) if columns is None else columns)
        self.device = _indexed(torch.device(device))
        here, processes = _distributed()
        self.order = BatchOrder(
            len(dataset),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=here if rank is None else rank,
            world_size=processes if world_size is None else world_size,
        )
        self._transform = dataset.tokenizer if transform is None else transform
        if self.dataset.shown:
            self.dataset.table.read()  # before threads read it
        self._resident = self._load(mode)
        self.mode = "streaming" if self._resident is None else "resident"

    def __len__(self) -> int:
        """Number of batches of this rank in an epoch."""
        return len(self.order)

    def __iter__(self) -> Generator[DeviceBatch, None, None]:
        """Iterate over the remaining batches of the next epoch."""
        epoch, first = self.order.start()
        rows, bounds = self.order.order(epoch), self.order.bounds[first:]
        with closing(self._read(rows, bounds)) as batches:
            for done, batch in enumerate(batches, first + 1):
                self.order.advance(epoch, done)
                yield self._transformed(batch)
                del batch  # only the consumer's reference keeps the memory in use

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, which starts at its first batch."""
        self.order.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Current epoch and number of delivered batches; equal on ranks that are in step."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the next iteration behind the last delivered batch.

        Raises:
            ValueError: if the state was saved with other rows, batches, ranks or another seed.
        """
        self.order.load_state_dict(state)

    def _read(
        self, rows: np.ndarray, bounds: list[tuple[int, int]]
    ) -> Generator[DeviceBatch, None, None]:
        """Batches of the given rows of the dataset, cut at the bounds."""
        if self._resident is not None:
            return self._resident.batches(rows, bounds)
        return read_ahead(self._slots(), (rows[start:stop] for start, stop in bounds))

    def _slots(self) -> Slots:
        if self.device.type == "cuda":
            return CudaSlots(self.dataset, self.device, self.order.batch_size)
        return HostSlots(self.dataset, self.device)

    def _load(self, mode: str) -> "ResidentRows | None":
        """The rows on the device, if resident mode is wanted and they fit."""
        needed = 4 * len(self.dataset) * self.dataset.source.width
        if mode == "streaming" or mode == "auto" and needed > FREE_SHARE * free_bytes(self.device):
            return None
        try:
            return ResidentRows(self.dataset, self.device)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            warnings.warn(
                f"{needed:,} bytes of weights do not fit the memory of {self.device}: "
                "falling back to mode='streaming'",
                stacklevel=3,
            )
            return None

    def _transformed(self, batch: DeviceBatch) -> DeviceBatch:
        if self._transform is None:
            return batch
        made = self._transform(batch.pop(WEIGHTS))
        return batch | (dict(made) if isinstance(made, Mapping) else {WEIGHTS: made})


class ResidentRows:
    """All rows of a dataset on a device."""

    def __init__(self, dataset: ZooDataset, device: torch.device) -> None:
        """Copy the rows to the device.

        Args:
            dataset: dataset to copy.
            device: device where the rows are placed.

        Raises:
            torch.cuda.OutOfMemoryError: if the rows do not fit.
            MemoryError: if they do not fit on the CPU.
        """
        self._dataset, self._device, self._pool = dataset, device, BufferPool()
        self._weights = _upload(dataset, device)
        blocks = dataset.columns.take(dataset.rows).blocks
        self._blocks = [torch.from_numpy(block).to(device) for block in blocks]

    def batches(
        self, rows: np.ndarray, bounds: Sequence[tuple[int, int]]
    ) -> Generator[DeviceBatch, None, None]:
        """Batches of the given rows.

        Args:
            rows: row numbers of the dataset.
            bounds: first row of each batch and one past its last, as indices into `rows`.
        """
        index = torch.from_numpy(rows).to(self._device)
        for start, stop in bounds:
            yield self._batch(index[start:stop], rows[start:stop])

    def _batch(self, index: Tensor, rows: np.ndarray) -> DeviceBatch:
        """One batch, by its row numbers on the device and on the CPU."""
        blocks = [block.index_select(1, index) for block in self._blocks]
        columns = self._dataset.columns.take(self._dataset.rows[rows], texts_only=True)
        return columns.as_torch(blocks) | {WEIGHTS: self._gather(index, rows)}

    def _gather(self, index: Tensor, rows: np.ndarray) -> Tensor:
        if self._device.type != "cpu":
            return self._weights.index_select(0, index)  # torch's memory pool reuses freed batches
        out = self._pool.take(len(rows), self._weights.shape[1])
        return torch.from_numpy(np.take(self._weights.numpy(), rows, 0, mode="clip", out=out))


def free_bytes(device: torch.device) -> float:
    """Free memory of a CUDA device; 0 for others, which share the host's or do not report it."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _upload(dataset: ZooDataset, device: torch.device) -> Tensor:
    """All weights (N, D) on the device, copied through one block of pinned memory on CUDA."""
    if device.type == "cpu":
        return dataset.weights()
    width = dataset.source.width
    weights = torch.empty(len(dataset), width, device=device)
    count = min(len(dataset), max(1, STAGING_BYTES // (4 * width)))
    staging = torch.empty(count, width, pin_memory=device.type == "cuda")
    for start in range(0, len(dataset), count):
        rows = dataset.rows[start : start + count]
        dataset.source.take(rows, out=staging[: len(rows)].numpy())
        weights[start : start + len(rows)].copy_(staging[: len(rows)])
    return weights


def _numbers(dataset: ZooDataset) -> list[str]:
    """Names of the columns that a device can hold."""
    return [name for name in dataset.shown if dataset.features[name] != "text"]


def _indexed(device: torch.device) -> torch.device:
    """The device with its number, so that all threads use the same one."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"torch finds no CUDA device here for {str(device)!r}: pass device='cpu'")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _distributed() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) unless torch.distributed is initialized."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
