"""Strided copies between flat rows and tokens: a few per layer, each for the whole batch.

A plan is made once per layer table. Cutting copies every value of a flat row to its token; joining
copies it back. Each is the exact inverse of the other, and its gradient.

On a CPU, compiled loops copy a batch, see `copy_runs`. Without a compiler rows are numpy records
with one field per run, and one assignment copies a batch, in half the time of strided tensor
copies. Both let other threads run and take every dtype, since they copy bytes. On another device a
run is one kernel over views of the batch.

Shape letters: B models in the batch, D length of the flat vector, T length of all tokens together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .buffers import BufferPool, PaddedBuffers
from .copy_runs import FIELDS, copy_runs, library

RowsOfFile = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""A table (M, D), float32, with contiguous rows; numbers of the rows to copy, and their indices in
the batch, int64; None for all rows of the batch in order."""

_RECORD_DEVICE = "cpu"  # device whose memory numpy can read


@dataclass(frozen=True)
class Grid:
    """Positions of the pieces of a run, counted in values.

    Attributes:
        offset: start of the grid.
        steps: distance from one cell to the next, along each dimension of the grid.
        lead: number of values in a cell before the piece.
    """

    offset: int
    steps: tuple[int, ...] = ()
    lead: int = 0


@dataclass(frozen=True)
class Run:
    """A grid of equally long pieces, evenly spaced in the flat row and in the tokens.

    Attributes:
        length: number of values of a piece, which stay side by side.
        counts: number of pieces along each dimension of the grid.
        flat: positions of the pieces in the flat row.
        tokens: positions of the pieces in the tokens.
    """

    length: int
    counts: tuple[int, ...]
    flat: Grid
    tokens: Grid


class CopyPlan:
    """Copies between flat rows (B, D) and tokens (B, T); tokens are zero outside the runs."""

    def __init__(self, runs: Sequence[Run], flat_width: int, tokens_width: int) -> None:
        """Prepare the copies.

        Args:
            runs: runs that cover every value of the flat row once.
            flat_width: D, length of a flat row.
            tokens_width: T, length of all tokens of a row together.
        """
        self.flat_width, self.tokens_width = flat_width, tokens_width
        moves = [(run, run.flat, run.tokens) for run in runs]
        self._to_tokens = _Copies(moves, flat_width, tokens_width)
        back = [(run, there, here) for run, here, there in moves]
        self._to_flat = _Copies(back, tokens_width, flat_width)
        self._tokens, self._flat = PaddedBuffers(tokens_width), BufferPool()

    def cut(self, weights: Tensor) -> Tensor:
        """Copy flat rows (B, D) to tokens (B, T), with gradients.

        On a CPU float32 tokens are in reused memory, see `PaddedBuffers`.
        """
        if weights.requires_grad and torch.is_grad_enabled():
            return _Cut.apply(weights, self)
        if _is_pooled(weights):
            tokens = self._tokens.take(len(weights))
        else:
            tokens = weights.new_zeros(len(weights), self.tokens_width)
        self._to_tokens(weights, tokens)
        return tokens

    def cut_blocks(self, blocks: Iterable[np.ndarray], rows: int) -> Tensor:
        """Copy flat rows that come in blocks to tokens.

        Args:
            blocks: arrays (m, D), float32.
            rows: B, number of rows in all blocks together.

        Returns:
            Tokens, (B, T).
        """
        tokens = self._tokens.take(rows)
        targets, start = tokens.numpy(), 0
        for block in blocks:
            target = targets[start : start + len(block)]
            self._to_tokens.copy_records(len(block), block, target, block.itemsize)
            start += len(block)
        return tokens

    def cut_rows(self, parts: Iterable[RowsOfFile], rows: int) -> Tensor:
        """Copy rows of tables to tokens without a flat batch between; needs the compiled copies.

        Args:
            parts: tables with the rows to copy, all numbers in range.
            rows: B, number of rows in all parts together.

        Returns:
            Tokens, (B, T).
        """
        tokens = self._tokens.take(rows)
        targets = tokens.numpy()
        for table, numbers, indices in parts:
            runs = self._to_tokens.runs(table.itemsize)
            copy_runs(runs, table, targets, numbers, indices)
        return tokens

    def join(self, tokens: Tensor) -> Tensor:
        """Copy tokens (B, T) back to flat rows (B, D), with gradients; memory as in `cut`."""
        if tokens.requires_grad and torch.is_grad_enabled():
            return _Join.apply(tokens, self)
        if _is_pooled(tokens):
            weights = torch.from_numpy(self._flat.take(len(tokens), self.flat_width))
        else:
            weights = tokens.new_empty(len(tokens), self.flat_width)
        self._to_flat(tokens, weights)
        return weights


def _is_pooled(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


class _Cut(torch.autograd.Function):
    """Cut with a gradient; the gradient of padding is dropped."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, plan: CopyPlan) -> Tensor:
        ctx.plan = plan
        return plan.cut(weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.plan.join(grads[0]), None


class _Join(torch.autograd.Function):
    """Join with a gradient; the gradient of padding is zero."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, plan: CopyPlan) -> Tensor:
        ctx.plan = plan
        return plan.join(tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.plan.cut(grads[0]), None


class _Copies:
    """The copies of all runs in one direction."""

    def __init__(
        self, moves: Sequence[tuple[Run, Grid, Grid]], width: int, target_width: int
    ) -> None:
        self._moves = moves  # run, source grid, target grid
        self._widths = (width, target_width)
        self._records: dict[int, list[np.dtype]] = {}
        self._runs: dict[int, np.ndarray] = {}

    def __call__(self, source: Tensor, target: Tensor) -> None:
        """Copy; `target` is contiguous and shares no memory with `source`."""
        source = source.detach().contiguous()
        if len(source) == 0:  # torch makes no byte views of empty tensors
            return
        if source.device.type == _RECORD_DEVICE:
            here, there = source.view(torch.uint8).numpy(), target.view(torch.uint8).numpy()
            return self.copy_records(len(source), here, there, source.element_size())
        for run, from_, to in self._moves:
            _pieces(target, run, to).copy_(_pieces(source, run, from_))

    def copy_records(self, rows: int, source: np.ndarray, target: np.ndarray, size: int) -> None:
        """Copy contiguous rows on a CPU, each a record of values of `size` bytes."""
        if library() is not None:
            return copy_runs(self.runs(size), source, target)
        if size not in self._records:
            grids = zip(*((here, there) for _, here, there in self._moves), strict=True)
            runs = [run for run, _, _ in self._moves]
            self._records[size] = [
                _record(runs, part, width, size)
                for part, width in zip(grids, self._widths, strict=True)
            ]
        here, there = self._records[size]
        np.ndarray((rows,), there, target)[...] = np.ndarray((rows,), here, source)

    def runs(self, size: int) -> np.ndarray:
        """The runs for compiled copies of values of `size` bytes, (runs, `FIELDS`), int64."""
        if size not in self._runs:
            numbers = [
                (run.length, *_two(run.counts, 1), *_place(here), *_place(there))
                for run, here, there in self._moves
            ]
            table = np.array(numbers, np.int64).reshape(-1, FIELDS)
            table[:, [0, *range(3, FIELDS)]] *= size
            self._runs[size] = table
        return self._runs[size]


def _place(grid: Grid) -> tuple[int, ...]:
    """First value and two steps of a grid."""
    return grid.offset + grid.lead, *_two(grid.steps, 0)


def _two(numbers: tuple[int, ...], missing: int) -> tuple[int, ...]:
    """The numbers of a grid of at most two dimensions, as two."""
    return (missing,) * (2 - len(numbers)) + numbers


def _pieces(tensor: Tensor, run: Run, grid: Grid) -> Tensor:
    """A view (B, *counts, length)."""
    size, stride = (len(tensor), *run.counts, run.length), (tensor.shape[1], *grid.steps, 1)
    return tensor.as_strided(size, stride, tensor.storage_offset() + grid.offset + grid.lead)


def _record(runs: Sequence[Run], grids: Sequence[Grid], width: int, size: int) -> np.dtype:
    """Type of a row of `width` values of `size` bytes, with a field for every run."""
    fields = [_field(*pair, size) for pair in zip(runs, grids, strict=True)]
    return np.dtype(
        {
            "names": [str(index) for index in range(len(runs))],
            "formats": [field for field, _ in fields],
            "offsets": [offset for _, offset in fields],
            "itemsize": width * size,
        }
    )


def _field(run: Run, grid: Grid, size: int) -> tuple[np.dtype, int]:
    """Type of the pieces of a run, as opaque bytes in their cells of the grid, and their offset."""
    field, lead = np.dtype((np.void, run.length * size)), grid.lead * size
    for count, step in reversed(list(zip(run.counts, grid.steps, strict=True))):
        if count > 1:
            cell = np.dtype(
                {"names": ["0"], "formats": [field], "offsets": [lead], "itemsize": step * size}
            )
            field, lead = np.dtype((cell, (count,))), 0
    return field, grid.offset * size + lead
