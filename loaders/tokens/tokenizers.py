"""Tokenizers: flat weights as a set of equally long tokens, layer by layer, and back.

All tokenizers are one scheme: a layer's tensors are laid out as matrices, every row of a matrix
is cut into pieces, and each piece is a token, padded with zeros. They differ in the matrices
(`chunks.py`, `neurons.py`). What a token is stands in columns that hold for every model alike.

Shape letters: B models in the batch, D length of the flat vector, N tokens of the table, S values
per token.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.networks.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from .copy_plan import CopyPlan, Grid, Run

POSITIONS = ("running", "published")


@dataclass(frozen=True)
class Matrix:
    """A tensor as rows that are cut into tokens.

    Attributes:
        spec: the tensor.
        rows: number of rows; divides the tensor's size.
        width: most values of a token.
        bias: a tensor with one value per row, which follows the row's own values.
    """

    spec: TensorSpec
    rows: int
    width: int
    bias: TensorSpec | None = None

    @property
    def row_size(self) -> int:
        """Values of a row in the tensor itself."""
        return self.spec.size // self.rows

    @property
    def columns(self) -> int:
        """Values of a row with its bias."""
        return self.row_size + (self.bias is not None)

    @property
    def tokens_per_row(self) -> int:
        """Tokens of a row; the last may be short."""
        return math.ceil(self.columns / self.width)


class Tokenizer:
    """Cuts flat weights of one architecture into tokens; the plan is made once.

    Attributes:
        layer_table: of the architecture.
        shape: (N, S).
        shared: what holds for every model alike, on the CPU: `mask` (N, S) bool, true on real
            values; int64: `kind`, `role` (N,), indices into `KINDS` and `ROLES` (of the weight,
            where a bias stands with it); `level` (N,), depth of the layer; `tensor` (N,), index
            of the tensor in the layer table; `position` (N, 3), see `POSITIONS`.
        positions: one of `POSITIONS`. "running": index of the token, depth of its layer, index of
            the token in its layer. "published": index of the token, of its matrix, and of its row
            in the matrix, the neuron, as in the published code of SANE (arXiv 2406.09997); a
            tensor without dimensions, such as a batch counter, which has no token there, takes
            the index of the matrix before it.
    """

    def __init__(
        self, layer_table: LayerTable, matrices: Sequence[Matrix], positions: str = "running"
    ) -> None:
        """Make the plan.

        Args:
            layer_table: of the architecture.
            matrices: that hold every value of the table once.
            positions: one of `POSITIONS`.

        Raises:
            ValueError: if the table has no values, or `positions` is unknown.
        """
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {positions!r}")
        self.layer_table, self.positions = layer_table, positions
        matrices = [matrix for matrix in matrices if matrix.spec.size]
        if not matrices:
            raise ValueError("layer table has no values: there is nothing to cut")
        tokens = sum(matrix.rows * matrix.tokens_per_row for matrix in matrices)
        self.shape = (tokens, max(matrix.width for matrix in matrices))
        self._plan = CopyPlan(
            _runs(matrices, self.shape[1]), layer_table.width, math.prod(self.shape)
        )
        shared = _describe(layer_table, matrices, self.shape[1])
        if positions == "published":
            shared["position"] = _published_positions(matrices)
        self._shared = {torch.device("cpu"): shared}

    def __call__(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut flat weights into tokens.

        Args:
            weights: (B, D), of any type, on any device.

        Returns:
            `values` (B, N, S), zero where `mask` is false, beside the tensors of `shared` on the
            same device (the same ones in every call: copy one before writing into it).
            The memory of `values` is reused once nothing refers to it; padding changed through
            numpy instead of torch would come back in a later batch.

        Raises:
            ValueError: if the weights have another shape.
        """
        check_shape("weights", weights, (self.layer_table.width,))
        values = self._plan.cut(weights).view(len(weights), *self.shape)
        return {"values": values} | self.shared_on(weights.device)

    def cut_blocks(self, blocks: Iterable[np.ndarray], rows: int) -> dict[str, Tensor]:
        """Cut rows that come block by block, such as mapped rows of a file, into tokens.

        Nothing of a block is kept, so that all blocks can have the same memory. It is faster than
        to gather a batch first: small blocks stay in the processor's cache, and a block may be a
        single large row (64 kB and more) where it lies in a file.

        Args:
            blocks: arrays (m, D), float32, contiguous.
            rows: B, of all blocks together.

        Returns:
            As for a batch of them on the CPU.

        Raises:
            ValueError: if a block has another shape or type, or the rows are not B.
        """
        values = self._plan.cut_blocks(self._checked(blocks, rows), rows)
        return {"values": values.view(rows, *self.shape)} | self.shared

    def _checked(self, blocks: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
        """The blocks as they come."""
        width, left = self.layer_table.width, rows
        for block in blocks:
            if block.shape[1:] != (width,) or block.dtype != np.float32 or len(block) > left:
                raise ValueError(
                    f"blocks must have shape (m, {width}), type float32 and {rows} rows in all, "
                    f"got {block.shape} and {block.dtype}"
                )
            left -= len(block)
            yield block
        if left:
            raise ValueError(f"blocks must have {rows} rows in all, got {rows - left}")

    def inverse(self, values: Tensor) -> Tensor:
        """Put tokens together again; padding is ignored.

        Args:
            values: (B, N, S).

        Returns:
            (B, D), exactly the weights that were cut.

        Raises:
            ValueError: if the values have another shape.
        """
        check_shape("values", values, self.shape)
        return self._plan.join(values.flatten(1))

    @property
    def shared(self) -> dict[str, Tensor]:
        """What holds for every model alike, on the CPU."""
        return self.shared_on(torch.device("cpu"))

    def shared_on(self, device: torch.device) -> dict[str, Tensor]:
        """`shared` on a device, copied there once."""
        if device not in self._shared:
            host = self._shared[torch.device("cpu")]
            with torch.inference_mode(False):  # a mask made while predicting serves training too
                self._shared[device] = {key: tensor.to(device) for key, tensor in host.items()}
        return self._shared[device]


def _runs(matrices: Sequence[Matrix], token_size: int) -> list[Run]:
    """The copies that fill the tokens, matrix by matrix."""
    runs, first = list[Run](), 0
    for matrix in matrices:
        runs += _row_runs(matrix, first, token_size)
        if matrix.bias is not None:
            runs.append(_bias_run(matrix.bias, matrix, first, token_size))
        first += matrix.rows * matrix.tokens_per_row * token_size
    return runs


def _row_runs(matrix: Matrix, first: int, token_size: int) -> list[Run]:
    """Copies of the rows without bias to tokens from value `first`; as few as there can be."""
    offset, size, rows, width = matrix.spec.offset, matrix.row_size, matrix.rows, matrix.width
    step = matrix.tokens_per_row * token_size
    if step == size:  # no padding at all
        return [Run(rows * size, (), Grid(offset), Grid(first))]
    if width == token_size:  # the tokens of a row lie side by side
        return [Run(size, (rows,), Grid(offset, (size,)), Grid(first, (step,)))]
    full, rest = divmod(size, width)
    runs = []
    if full:
        here, there = Grid(offset, (size, width)), Grid(first, (step, token_size))
        runs.append(Run(width, (rows, full), here, there))
    if rest:
        here, there = Grid(offset, (size,), full * width), Grid(first, (step,), full * token_size)
        runs.append(Run(rest, (rows,), here, there))
    return runs


def _bias_run(bias: TensorSpec, matrix: Matrix, first: int, token_size: int) -> Run:
    """The copy of one value per row to the place behind the row."""
    token, index = divmod(matrix.row_size, matrix.width)
    there = Grid(first, (matrix.tokens_per_row * token_size,), token * token_size + index)
    return Run(1, (matrix.rows,), Grid(bias.offset, (1,)), there)


@torch.inference_mode(False)
def _describe(
    layer_table: LayerTable, matrices: Sequence[Matrix], token_size: int
) -> dict[str, Tensor]:
    """The tensors that hold for every model alike."""
    counts = torch.tensor([matrix.rows * matrix.tokens_per_row for matrix in matrices])
    of_matrix = {
        "kind": [KINDS.index(matrix.spec.kind) for matrix in matrices],
        "role": [ROLES.index(matrix.spec.role) for matrix in matrices],
        "level": [matrix.spec.depth for matrix in matrices],
        "tensor": [layer_table.index(matrix.spec) for matrix in matrices],
    }
    columns = {
        key: torch.tensor(numbers).repeat_interleave(counts) for key, numbers in of_matrix.items()
    }
    mask = torch.cat([_mask(matrix, token_size) for matrix in matrices])
    return {"mask": mask, **columns, "position": _positions(columns["level"])}


def _mask(matrix: Matrix, token_size: int) -> Tensor:
    """(tokens of the matrix, S), bool."""
    index = torch.arange(token_size)
    column = torch.arange(matrix.tokens_per_row)[:, None] * matrix.width + index
    mask = (column < matrix.columns) & (index < matrix.width)
    return mask.repeat(matrix.rows, 1)


def _positions(level: Tensor) -> Tensor:
    """(N, 3): token, level, index within the level."""
    index = torch.arange(len(level))
    within = torch.empty_like(index)
    for layer in level.unique():
        of_layer = level == layer
        within[of_layer] = torch.arange(int(of_layer.sum()))
    return torch.stack([index, level, within], dim=1)


@torch.inference_mode(False)
def _published_positions(matrices: Sequence[Matrix]) -> Tensor:
    """(N, 3): token, matrix, row of the matrix."""
    counted = torch.tensor([bool(matrix.spec.shape) for matrix in matrices])
    numbers = (counted.cumsum(0) - 1).clamp(min=0)
    parts = [
        torch.stack([number.expand(rows), torch.arange(rows)], 1).repeat_interleave(repeats, 0)
        for number, rows, repeats in zip(
            numbers,
            (matrix.rows for matrix in matrices),
            (matrix.tokens_per_row for matrix in matrices),
            strict=True,
        )
    ]
    indices = torch.cat(parts)
    return torch.cat([torch.arange(len(indices))[:, None], indices], 1)


def check_shape(what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a batch whose items have another shape.

    Raises:
        ValueError: naming both shapes.
    """
    if tuple(tensor.shape[1:]) != shape:
        wanted = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"{what} must have shape ({wanted}), got {tuple(tensor.shape)}")


def checked_size(name: str, size: Any, least: int = 1) -> int:
    """The size, if it is a whole number from `least`.

    Raises:
        ValueError: if it is not.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {size!r}")
    return size
