"""`DeviceLoader`: batches of a zoo on a device, without a Python loop over rows.

Shape letters: N rows or models of the dataset, n of them in a batch, D length of the flat weight
vector, K checkpoints of a model, k columns of one type.
"""

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import tee
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.format import WEIGHTS
from ...zoos.networks.devices import upload
from ...zoos.tokens.buffers import BufferPool
from ..dataset.checks import check_dataset
from ..dataset.trajectories import Trajectories
from ..dataset.zoo_dataset import ZooDataset
from .order import BatchOrder, BlockShuffle
from .ring import CudaSlots, HostSlots, Slots, pinned_memory, read_ahead

MODES = ("auto", "resident", "streaming")
FREE_SHARE = 0.5  # largest share of the device's free memory for a resident split
MASK = "mask"  # entry of a batch of trajectories
STAGING_BYTES = 2**26  # size of the pinned block that rows pass through

DeviceBatch = dict[str, Any]
Transform = Callable[[Tensor], Any]
Prepare = Callable[[Tensor, np.ndarray], Tensor]


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

    Batches of trajectories hold whole models: `weights` (n, K, D), columns (n, K) or n lists of
    str, and `mask` (n, K), which is false where a model has fewer checkpoints than the longest one
    of the dataset; its last checkpoint is repeated there.

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
        dataset: ZooDataset | Trajectories,
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
        prepare: Prepare | None = None,
        transform: Transform | None = None,
    ) -> None:
        """Plan the batches, and in resident mode copy the rows to the device.

        Args:
            dataset: dataset to read, in format "torch" or "layer_sets", the `trajectories()` of
                one, or a stream of `load_zoo`. In "layer_sets" its tokenizer is the default
                transform.
            batch_size: n, rows per batch, or models per batch of trajectories.
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
            prepare: function of weights (n, D) on the device and their row numbers (n,), whose
                result (n, D) replaces them, always alike for a row. Resident rows are prepared
                once, others in each batch.
            transform: function of the weights, (n, D) or (n, K, D), on the device. If it returns a
                mapping, its entries replace `weights` in the batch; any other result becomes
                `weights`.

        Raises:
            TypeError: if it is no dataset, such as the dict of splits that `load_zoo` returns.
            ValueError: if an argument is out of range, there are more ranks than rows, or there is
                no such device.
            KeyError: if the dataset has no such column.
        """
        self._models: tuple[np.ndarray, np.ndarray] | None = None
        rows: Any = dataset
        if isinstance(dataset, Trajectories):
            self._models, rows = dataset.padded_rows(), dataset.dataset
        dataset = check_dataset(rows, "DeviceLoader")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        if dataset.format not in ("torch", "layer_sets"):
            raise ValueError(
                f"DeviceLoader reads format 'torch' or 'layer_sets', got {dataset.format!r}: use "
                "with_format('torch') or with_format('layer_sets')"
            )
        self.dataset = dataset.select_columns(_numbers(dataset) if columns is None else columns)
        self.device = _indexed(torch.device(device))
        here, processes = rank_and_world()
        self.order = BatchOrder(
            len(dataset) if self._models is None else len(self._models[0]),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=here if rank is None else rank,
            world_size=processes if world_size is None else world_size,
        )
        self._transform = dataset.tokenizer if transform is None else transform
        self._prepare = prepare
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
        with closing(self.read(rows[start:stop] for start, stop in bounds)) as batches:
            for done, batch in enumerate(batches, first + 1):
                self.order.advance(epoch, done)
                yield batch
                del batch  # only the consumer's reference keeps the memory in use

    def read(self, numbers: Iterable[np.ndarray]) -> Generator[DeviceBatch, None, None]:
        """Read given batches, for a caller with an order of its own; `order` is left as it is.

        Args:
            numbers: numbers of the rows or models of each batch, (n,) int64, at most `batch_size`.
        """
        given = (np.asarray(rows) for rows in numbers)
        with closing(self._read(given)) as batches:
            for batch in batches:
                yield self._transformed(batch)
                del batch

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

    def _read(self, numbers: Iterable[np.ndarray]) -> Generator[DeviceBatch, None, None]:
        """Batches of the given rows or models."""
        if self._models is not None:
            return self._read_models(numbers, *self._models)
        return self._read_rows(numbers)

    def _read_rows(self, rows: Iterable[np.ndarray]) -> Generator[DeviceBatch, None, None]:
        if self._resident is not None:
            return self._resident.batches(rows)
        if self._prepare is not None:
            return self._read_prepared(rows, self._prepare)
        return read_ahead(self._slots(), rows)

    def _read_prepared(
        self, rows: Iterable[np.ndarray], prepare: Prepare
    ) -> Generator[DeviceBatch, None, None]:
        asked, given = tee(rows)
        with closing(read_ahead(self._slots(), asked)) as batches:
            for numbers, batch in zip(given, batches, strict=True):
                yield batch | {WEIGHTS: prepare(batch.pop(WEIGHTS), numbers)}
                del batch

    def _read_models(
        self, numbers: Iterable[np.ndarray], rows: np.ndarray, mask: np.ndarray
    ) -> Generator[DeviceBatch, None, None]:
        """Batches of models, read as the rows of all their checkpoints."""
        first, second = tee(numbers)
        with closing(self._read_rows(rows[models].reshape(-1) for models in first)) as batches:
            for models, batch in zip(second, batches, strict=True):
                batch = {name: _folded(value, len(models)) for name, value in batch.items()}
                yield batch | {MASK: upload(torch.from_numpy(mask[models]), self.device)}
                del batch

    def _slots(self) -> Slots:
        if self.device.type == "cuda":
            return CudaSlots(self.dataset, self.device, self.order.batch_size * self._rows_each)
        return HostSlots(self.dataset, self.device)

    @property
    def _rows_each(self) -> int:
        """Rows of one number of the order: 1, or K of trajectories."""
        return 1 if self._models is None else self._models[0].shape[1]

    def _load(self, mode: str) -> "ResidentRows | None":
        """The rows on the device, if resident mode is wanted and they fit."""
        needed = 4 * len(self.dataset) * self.dataset.source.width
        if mode == "streaming" or mode == "auto" and needed > FREE_SHARE * free_bytes(self.device):
            return None
        try:
            return ResidentRows(self.dataset, self.device, self._prepare)
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

    def __init__(
        self, dataset: ZooDataset, device: torch.device, prepare: Prepare | None = None
    ) -> None:
        """Copy the rows to the device.

        Args:
            dataset: dataset to copy.
            device: device where the rows are placed.
            prepare: function of the rows and their numbers, see `DeviceLoader`.

        Raises:
            torch.cuda.OutOfMemoryError: if the rows do not fit.
            MemoryError: if they do not fit on the CPU.
        """
        self._dataset, self._device, self._pool = dataset, device, BufferPool()
        self._weights = _upload(dataset, device)
        step = max(1, STAGING_BYTES // (4 * dataset.source.width))
        for start in range(0, len(dataset), step) if prepare is not None else ():
            block = self._weights[start : start + step]
            block.copy_(prepare(block, np.arange(start, start + len(block))))  # type: ignore[misc]
        blocks = dataset.columns.take(dataset.rows).blocks
        self._blocks = [torch.from_numpy(block).to(device) for block in blocks]

    def batches(self, numbers: Iterable[np.ndarray]) -> Generator[DeviceBatch, None, None]:
        """Batches of the given row numbers of the dataset, (n,) each."""
        for rows in numbers:
            yield self._batch(upload(torch.from_numpy(rows), self._device), rows)

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


def _folded(value: Any, models: int) -> Any:
    """(n * K, ...) as (n, K, ...), text as n lists."""
    if isinstance(value, Tensor):
        return value.unflatten(0, (models, -1))
    length = len(value) // models
    return [value[first : first + length] for first in range(0, len(value), length)]


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
    staging = pinned_memory(count, width) if device.type == "cuda" else torch.empty(count, width)
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


def rank_and_world() -> tuple[int, int]:
    """Rank and number of processes of torch.distributed; (0, 1) unless it is initialized."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
