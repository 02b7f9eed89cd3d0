"""The order in which rows are read: a function of seed and epoch, the same on every machine.

`BatchOrder` hands out row numbers batch by batch. It is what `DeviceLoader` follows, and serves a
plain `DataLoader` as its `batch_sampler`.

Shape letters: N rows in all, n rows in a batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BlockShuffle:
    """Shuffle by blocks, for files on cold disks: a disk reads a block as fast as in order.

    Blocks of consecutive rows come in random order; the rows of `window_blocks` blocks in
    succession are shuffled together.

    Attributes:
        block_rows: rows per block.
        window_blocks: blocks whose rows are mixed.
    """

    block_rows: int = 128
    window_blocks: int = 20

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        _check_whole("block_rows", self.block_rows, 1)
        _check_whole("window_blocks", self.window_blocks, 1)


def epoch_order(
    rows: int, seed: int, epoch: int, shuffle: bool | BlockShuffle = True
) -> np.ndarray:
    """The rows of an epoch in order.

    It rests on the raw output of PCG64, which numpy keeps unchanged between versions.

    Args:
        rows: N.
        seed: any whole number from 0.
        epoch: from 0.
        shuffle: True for full random, False for rising order, or blocks.

    Returns:
        (N,), int64, every row once.
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
    """How far a pass over an epoch has come.

    Every pass takes the next epoch, unless it was said which one comes next.

    Attributes:
        epoch: of the pass, from 0.
        batches_done: handed out so far in that epoch.
    """

    def __init__(self) -> None:
        """Stand before the first batch of epoch 0."""
        self.epoch = self.batches_done = 0
        self._resumes = True  # whether the next pass goes on from here

    def start(self) -> tuple[int, int]:
        """Begin a pass.

        Returns:
            Its epoch, and the number of its batches that were handed out before.
        """
        if not self._resumes:
            self.set_epoch(self.epoch + 1)
        self._resumes = False
        return self.epoch, self.batches_done

    def advance(self, epoch: int, batches_done: int) -> None:
        """Note how many batches of an epoch were handed out."""
        self.epoch, self.batches_done = epoch, batches_done

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that epoch, from its start."""
        _check_whole("epoch", epoch, 0)
        self.epoch, self.batches_done, self._resumes = epoch, 0, True

    def resume(self, epoch: int, batches_done: int, batches: int) -> None:
        """Let the next pass go on in the middle of an epoch, or take the next if it was at its end.

        Args:
            epoch: of the pass that was left.
            batches_done: of it.
            batches: of a whole epoch.
        """
        if batches_done >= batches:
            self.set_epoch(epoch + 1)
        else:
            self.set_epoch(epoch)
            self.batches_done = batches_done


class BatchOrder(Progress):
    """Row numbers batch by batch, for one rank of many, resumable in mid-epoch.

    Which rows make a batch is random; within it they rise, since files are read faster that way.
    The epoch's order is cut into one run of rows per rank: no row is given to two ranks and none
    is lost. Without `drop_last` ranks differ by at most one row, and still make the same number
    of batches, so that they take the same number of steps (with a batch size of 1 some rank may
    make one batch less). With `drop_last` all ranks make the same number of full batches.

    Every pass over it takes the next epoch; `set_epoch` says which one comes next. The state
    counts the batches that were handed out, so in a `DataLoader` it is exact with
    `num_workers=0` alone: workers ask for batches ahead.
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
            rows: N, of the dataset.
            batch_size: n.
            shuffle: True for full random, False for rising order, or a `BlockShuffle`.
            seed: of the order.
            drop_last: leave out what does not fill a batch on every rank.
            rank: which of the processes this is, from 0.
            world_size: number of processes.

        Raises:
            ValueError: if a number is out of range, or there are more ranks than rows or no rows.
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
            raise ValueError("there is no row to make batches of: does the filter leave any?")
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
        """Where every batch lies within this rank's rows: (start, stop) each."""
        start, stop = self._run()
        rows, size = stop - start, self.batch_size
        if self.drop_last:
            full = self.rows // self.world_size // size
            return [(index * size, (index + 1) * size) for index in range(full)]
        # as many as the rank with most rows makes, if need be by a shorter last batch
        most = math.ceil(self.rows / self.world_size)
        batches = rows if size == 1 else math.ceil(most / size)
        stops = [min((index + 1) * size, rows - (batches - 1 - index)) for index in range(batches)]
        return list(zip([0, *stops], stops, strict=False))

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        return len(self.bounds)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Row numbers (n,), int64, of the remaining batches of the epoch that comes next."""
        epoch, first = self.start()
        order = self.order(epoch)
        for index, (start, stop) in enumerate(self.bounds[first:], first):
            self.advance(epoch, index + 1)
            yield order[start:stop]

    def order(self, epoch: int) -> np.ndarray:
        """This rank's rows of an epoch, to be cut at `bounds`."""
        first, last = self._run()
        order = epoch_order(self.rows, self.seed, epoch, self.shuffle)[first:last]
        for start, stop in self.bounds:
            order[start:stop].sort()
        return order

    def state_dict(self) -> dict[str, Any]:
        """Where the pass is, and what the order depends on; equal on all ranks in step."""
        return {"epoch": self.epoch, "batches_done": self.batches_done} | self._settings()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on where another stood.

        Raises:
            ValueError: if that one had other rows, batches, ranks or another seed.
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

    def _run(self) -> tuple[int, int]:
        """The part of the epoch's order that is this rank's."""
        ends = [self.rows * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return ends[0], ends[1]


def _check_whole(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number from {minimum}, got {value!r}")
