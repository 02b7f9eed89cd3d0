"""Order in which rows are read: a function of seed and epoch, the same on every machine.

`BatchOrder` yields row numbers batch by batch. `DeviceLoader` uses it, and a plain `DataLoader` can
take it as its `batch_sampler`.

Shape letters: N rows in total, n rows in a batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BlockShuffle:
    """Shuffle by blocks, for files on cold disks, which read a block at sequential speed.

    Blocks of consecutive rows come in random order. The rows of `window_blocks` successive blocks
    are shuffled together.

    Attributes:
        block_rows: number of rows per block.
        window_blocks: number of blocks whose rows are shuffled together.

    Example:
        >>> from weightzoo.loaders import BatchOrder, BlockShuffle
        >>> blocks = BlockShuffle(block_rows=2, window_blocks=1)
        >>> [batch.tolist() for batch in BatchOrder(rows=6, batch_size=2, shuffle=blocks)]
        [[4, 5], [2, 3], [0, 1]]
    """

    block_rows: int = 128
    window_blocks: int = 20

    def __post_init__(self) -> None:
        """Reject sizes below one."""
        _check_whole("block_rows", self.block_rows, 1)
        _check_whole("window_blocks", self.window_blocks, 1)


def epoch_order(
    rows: int, seed: int, epoch: int, shuffle: bool | BlockShuffle = True
) -> np.ndarray:
    """Order the rows of an epoch.

    The order depends only on the raw output of PCG64, which numpy keeps the same in all versions.

    Args:
        rows: N, number of rows.
        seed: random seed, a whole number from 0.
        epoch: epoch number, from 0.
        shuffle: True for random order, False for ascending order, or a `BlockShuffle`.

    Returns:
        Row numbers, (N,), int64, every row once.
    """
    if shuffle is False:
        return np.arange(rows)
    raw = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    if shuffle is True:
        return np.argsort(raw.random_raw(rows), kind="stable")
    blocks = math.ceil(rows / shuffle.block_rows)
    rank = np.empty(blocks, np.int64)
    rank[np.argsort(raw.random_raw(blocks), kind="stable")] = np.arange(blocks)
    window = rank[np.arange(rows) // shuffle.block_rows] // shuffle.window_blocks
    return np.lexsort((raw.random_raw(rows), window))


class Progress:
    """Progress of an iteration: its epoch and the number of delivered batches.

    Each iteration takes the next epoch, unless `set_epoch` names another one.

    Attributes:
        epoch: epoch number of the iteration, from 0.
        batches_done: batches already delivered in that epoch.
    """

    def __init__(self) -> None:
        """Start before the first batch of epoch 0."""
        self.epoch = self.batches_done = 0
        self._resumes = True  # whether the next iteration continues from here

    def start(self) -> tuple[int, int]:
        """Begin an iteration.

        Returns:
            Its epoch, and the number of batches of that epoch that were delivered before.
        """
        if not self._resumes:
            self.set_epoch(self.epoch + 1)
        self._resumes = False
        return self.epoch, self.batches_done

    def advance(self, epoch: int, batches_done: int) -> None:
        """Record the delivered batches.

        Args:
            epoch: epoch number of the iteration, from 0.
            batches_done: batches already delivered in that epoch.
        """
        self.epoch, self.batches_done = epoch, batches_done

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, which starts at its first batch."""
        _check_whole("epoch", epoch, 0)
        self.epoch, self.batches_done, self._resumes = epoch, 0, True

    def resume(self, epoch: int, batches_done: int, batches: int) -> None:
        """Continue the next iteration within an epoch, or with the next epoch if this one is done.

        Args:
            epoch: epoch number of the iteration to continue.
            batches_done: batches already delivered in that epoch.
            batches: number of batches of a whole epoch.
        """
        if batches_done >= batches:
            self.set_epoch(epoch + 1)
        else:
            self.set_epoch(epoch)
            self.batches_done = batches_done


class BatchOrder(Progress):
    """Row numbers batch by batch, for one of several ranks, resumable within an epoch.

    The rows of a batch are random; within a batch they ascend, because files are read faster that
    way. Several ranks together read the batches of one process whose batch size is that of all
    ranks together, and every rank reads one run of each such batch. Every row goes to exactly one
    rank. Without `drop_last` the runs differ by at most one row, and every rank still makes the
    same number of batches and takes the same number of steps. (With a batch size of 1 some ranks
    may make one batch less.) With `drop_last` every rank makes the same number of full batches.

    Each iteration takes the next epoch, unless `set_epoch` names another one. The state counts the
    delivered batches. In a `DataLoader` it is exact only with `num_workers=0`, because workers ask
    for batches ahead.

    Example:
        >>> from weightzoo.loaders import BatchOrder
        >>> order = BatchOrder(rows=5, batch_size=2, shuffle=False)
        >>> [batch.tolist() for batch in order]
        [[0, 1], [2, 3], [4]]
        >>> order.state_dict()["batches_done"]
        3
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        shuffle: bool | BlockShuffle = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Plan the batches.

        Args:
            rows: N, number of rows of the dataset.
            batch_size: n, rows per batch.
            shuffle: True for random order, False for ascending order, or a `BlockShuffle`.
            seed: random seed of the order.
            drop_last: drop rows that do not fill a batch on every rank.
            rank: number of this process, from 0.
            world_size: number of processes.

        Raises:
            ValueError: if a number is out of range, there are no rows, or fewer rows than ranks.
        """
        for name, value, minimum in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("world_size", world_size, 1),
            ("rank", rank, 0),
        ):
            _check_whole(name, value, minimum)
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size={world_size}, got {rank!r}")
        if rows == 0:
            raise ValueError("the dataset has no rows, so there is no batch: check its filter")
        if world_size > rows:
            raise ValueError(
                f"world_size={world_size} ranks cannot share {rows} rows, every rank needs one: "
                "start fewer processes, or load more rows"
            )
        if not isinstance(shuffle, bool | BlockShuffle):
            raise ValueError(f"shuffle must be True, False or a BlockShuffle, got {shuffle!r}")
        self.rows, self.batch_size, self.shuffle, self.seed = rows, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        super().__init__()

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """Range of every batch within the rows of this rank, (start, stop) each."""
        stops = list(accumulate(stop - start for start, stop in self._runs))
        return list(zip([0, *stops], stops, strict=False))

    @cached_property
    def _batches(self) -> list[tuple[int, int]]:
        """Range of every batch of all ranks together in the order of an epoch."""
        size, ranks = self.batch_size * self.world_size, self.world_size
        if self.drop_last:
            return [(index * size, (index + 1) * size) for index in range(self.rows // size)]
        count = math.ceil(self.rows / size)
        least = 0 if self.batch_size == 1 else ranks  # rows of a batch, one for every rank
        stops = [
            min((index + 1) * size, self.rows - (count - 1 - index) * least)
            for index in range(count)
        ]
        return list(zip([0, *stops], stops, strict=False))

    @cached_property
    def _runs(self) -> list[tuple[int, int]]:
        """Range of this rank in every batch of all ranks together."""
        runs = [
            (
                start + (stop - start) * self.rank // self.world_size,
                start + (stop - start) * (self.rank + 1) // self.world_size,
            )
            for start, stop in self._batches
        ]
        return [run for run in runs if run[0] < run[1]]

    def __len__(self) -> int:
        """Number of batches of this rank in an epoch."""
        return len(self.bounds)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the row numbers, (n,) int64, of the remaining batches of the next epoch."""
        epoch, first = self.start()
        order = self.order(epoch)
        for index, (start, stop) in enumerate(self.bounds[first:], first):
            self.advance(epoch, index + 1)
            yield order[start:stop]

    def order(self, epoch: int) -> np.ndarray:
        """Rows of this rank in an epoch, to be cut at `bounds`."""
        order = epoch_order(self.rows, self.seed, epoch, self.shuffle)
        for start, stop in self._batches:
            order[start:stop].sort()
        if self.world_size == 1:
            return order
        return np.concatenate([order[:0], *(order[start:stop] for start, stop in self._runs)])

    def state_dict(self) -> dict[str, Any]:
        """Progress of the iteration and settings of the order; equal on ranks that are in step."""
        return {"epoch": self.epoch, "batches_done": self.batches_done} | self._settings()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the next iteration from a saved state.

        Raises:
            ValueError: if the state was saved with other rows, batches, ranks or another seed.
        """
        settings = self._settings()
        if odd := [name for name, value in settings.items() if state.get(name) != value]:
            there = {name: state.get(name) for name in odd}
            here = {name: settings[name] for name in odd}
            raise ValueError(f"the state was saved with {there}, this order has {here}")
        self.resume(state["epoch"], state["batches_done"], len(self))

    def _settings(self) -> dict[str, Any]:
        names = ("rows", "batch_size", "seed", "drop_last", "world_size")
        return {name: getattr(self, name) for name in names} | {"shuffle": repr(self.shuffle)}


def _check_whole(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number from {minimum}, got {value!r}")
