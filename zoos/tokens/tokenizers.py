"""Tokenizers: flat weights as a set of equally long tokens, layer by layer, and back.

All tokenizers use one scheme. The tensors of a layer are laid out as matrices, every row of a
matrix is cut into pieces, and each piece is a token, padded with zeros. Tokenizers differ in the
matrices (`chunks.py`, `neurons.py`). Tensors that are equal for all models describe the tokens.

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

from ..networks.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from .copy_plan import CopyPlan, Grid, RowsOfFile, Run
from .copy_runs import library

POSITIONS = ("running", "published")


@dataclass(frozen=True)
class Matrix:
    """A tensor as rows that are cut into tokens.

    Attributes:
        spec: entry of the tensor in the layer table.
        rows: number of rows; divides the size of the tensor.
        width: largest number of values per token.
        bias: tensor with one value per row, which follows the values of the row; None for none.
    """

    spec: TensorSpec
    rows: int
    width: int
    bias: TensorSpec | None = None

    @property
    def row_size(self) -> int:
        """Number of values of a row, without its bias."""
        return self.spec.size // self.rows

    @property
    def columns(self) -> int:
        """Number of values of a row, with its bias."""
        return self.row_size + (self.bias is not None)

    @property
    def tokens_per_row(self) -> int:
        """Number of tokens of a row; the last may be short."""
        return math.ceil(self.columns / self.width)


class Tokenizer:
    """Cuts flat weights of one architecture into tokens; the plan is made once.

    Attributes:
        layer_table: layer table of the architecture.
        shape: number of tokens and values per token, (N, S).
        shared: tensors that are equal for all models, on the CPU. `mask` (N, S), bool, is true on
            real values. The others are int64: `kind` and `role` (N,), indices into `KINDS` and
            `ROLES` (of the weight, where a token holds weight and bias); `level` (N,), depth of the
            layer; `tensor` (N,), index of the tensor in the layer table; `position` (N, 3), see
            `positions`.
        positions: kind of position, one of `POSITIONS`. "running": index of the token, depth of its
            layer, index of the token in its layer. "published": index of the token, of its matrix,
            and of its row in the matrix (the neuron), as in the published code of SANE
            (arXiv:2406.09997). A tensor without dimensions, such as a batch counter, has no token
            in that code; here it takes the index of the matrix before it.
    """

    def __init__(
        self, layer_table: LayerTable, matrices: Sequence[Matrix], positions: str = "running"
    ) -> None:
        """Make the plan.

        Args:
            layer_table: layer table of the architecture.
            matrices: matrices that hold every value of the table once.
            positions: kind of position, one of `POSITIONS`.

        Raises:
            ValueError: if the table has no values, or `positions` is unknown.
        """
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {positions!r}")
        self.layer_table, self.positions = layer_table, positions
        matrices = [matrix for matrix in matrices if matrix.spec.size]
        if not matrices:
            raise ValueError(
                "layer table has no values to cut: pass the table of a network with weights"
            )
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
            weights: flat weights, (B, D), of any type, on any device.

        Returns:
            `values` (B, N, S), zero where `mask` is false, and the tensors of `shared` on the same
            device. The shared tensors are the same objects in every call: copy one before writing
            into it. The memory of `values` is reused once nothing refers to it; padding that is
            changed through numpy instead of torch would appear in a later batch.

        Raises:
            ValueError: if the weights have another shape.
        """
        check_shape("weights", weights, (self.layer_table.width,))
        values = self._plan.cut(weights).view(len(weights), *self.shape)
        return {"values": values} | self.shared_on(weights.device)

    def cut_blocks(self, blocks: Iterable[np.ndarray], rows: int) -> dict[str, Tensor]:
        """Cut rows that come in blocks, such as mapped rows of a file, into tokens.

        Blocks are not kept, so all blocks can use the same memory. This is faster than gathering a
        batch first: small blocks stay in the processor's cache, and a block may be a single large
        row (64 kB or more) of a mapped file.

        Args:
            blocks: arrays (m, D), float32, contiguous.
            rows: B, number of rows in all blocks together.

        Returns:
            The same tensors as for a batch of these rows on the CPU.

        Raises:
            ValueError: if a block has another shape or type, or the blocks hold other than B rows.
        """
        values = self._plan.cut_blocks(self._checked(blocks, rows), rows)
        return {"values": values.view(rows, *self.shape)} | self.shared

    def cut_rows(self, parts: Iterable[RowsOfFile], rows: int) -> dict[str, Tensor]:
        """Cut rows of mapped files into tokens, without a flat batch between.

        Only for `can_cut_rows`: it takes the compiled copies.

        Args:
            parts: tables with the rows to cut.
            rows: B, number of rows in all parts together.

        Returns:
            The same tensors as for a batch of these rows on the CPU.

        Raises:
            ValueError: if a table has another shape or type, or the parts hold other than B rows.
            IndexError: if a number is out of range.
        """
        values = self._plan.cut_rows(self._checked_parts(parts, rows), rows)
        return {"values": values.view(rows, *self.shape)} | self.shared

    def _checked_parts(self, parts: Iterable[RowsOfFile], rows: int) -> Iterator[RowsOfFile]:
        """Pass parts on and check them: compiled loops would read and write anywhere."""
        width, left = self.layer_table.width, rows
        for table, numbers, indices in parts:
            if table.shape[1:] != (width,) or table.dtype != np.float32 or table.strides[1] != 4:
                raise ValueError(
                    f"tables must have shape (M, {width}), type float32 and contiguous rows, got "
                    f"{table.shape} and {table.dtype}"
                )
            if len(numbers) != (wanted := rows if indices is None else len(indices)):
                raise ValueError(f"{len(numbers)} rows are given and {wanted} indices")
            indices = None if indices is None else _in_range(indices, rows)
            yield table, _in_range(numbers, len(table)), indices
            left -= len(numbers)
        if left:
            raise ValueError(f"parts must have {rows} rows in all, got {rows - left}")

    def _checked(self, blocks: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
        """Pass blocks on and check them."""
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
        """Join tokens to flat weights; padding is ignored.

        Args:
            values: values of the tokens, (B, N, S).

        Returns:
            Flat weights, (B, D), exactly those that were cut.

        Raises:
            ValueError: if the values have another shape.
        """
        check_shape("values", values, self.shape)
        return self._plan.join(values.flatten(1))

    @property
    def shared(self) -> dict[str, Tensor]:
        """Tensors that are equal for all models, on the CPU."""
        return self.shared_on(torch.device("cpu"))

    def shared_on(self, device: torch.device) -> dict[str, Tensor]:
        """Return `shared` on a device; it is copied once."""
        if device not in self._shared:
            host = self._shared[torch.device("cpu")]
            with torch.inference_mode(False):  # a mask made while predicting serves training too
                self._shared[device] = {key: tensor.to(device) for key, tensor in host.items()}
        return self._shared[device]


def can_cut_rows() -> bool:
    """Whether `Tokenizer.cut_rows` works: with a C compiler."""
    return library() is not None


def _in_range(numbers: np.ndarray, length: int) -> np.ndarray:
    """Whole numbers from 0 to `length` - 1, contiguous int64."""
    numbers = np.ascontiguousarray(numbers, np.int64)
    if len(numbers) and numbers.view(np.uint64).max() >= length:  # negative ones are huge here
        raise IndexError(f"row numbers must be from 0 to {length - 1}")
    return numbers


def _runs(matrices: Sequence[Matrix], token_size: int) -> list[Run]:
    """Runs that fill the tokens, matrix by matrix."""
    runs, first = list[Run](), 0
    for matrix in matrices:
        runs += _row_runs(matrix, first, token_size)
        if matrix.bias is not None:
            runs.append(_bias_run(matrix.bias, matrix, first, token_size))
        first += matrix.rows * matrix.tokens_per_row * token_size
    return runs


def _row_runs(matrix: Matrix, first: int, token_size: int) -> list[Run]:
    """Runs of the rows without bias, to tokens from value `first`; as few as possible."""
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
    """Run of one bias value per row, to the position behind the row."""
    token, index = divmod(matrix.row_size, matrix.width)
    there = Grid(first, (matrix.tokens_per_row * token_size,), token * token_size + index)
    return Run(1, (matrix.rows,), Grid(bias.offset, (1,)), there)


@torch.inference_mode(False)
def _describe(
    layer_table: LayerTable, matrices: Sequence[Matrix], token_size: int
) -> dict[str, Tensor]:
    """The tensors that are equal for all models."""
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
    """Mask of real values, (tokens of the matrix, S), bool."""
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
    """Reject a batch whose items have another shape.

    Args:
        what: name of the tensor, for the error message.
        tensor: batch to check, (B, ...).
        shape: allowed shape, without B.

    Raises:
        ValueError: if the shape differs.
    """
    if tuple(tensor.shape[1:]) != shape:
        wanted = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"{what} must have shape ({wanted}), got {tuple(tensor.shape)}")


def checked_size(name: str, size: Any, least: int = 1) -> int:
    """Return a size if it is a whole number from `least`.

    Args:
        name: name of the size, for the error message.
        size: value to check.
        least: smallest allowed value.

    Raises:
        ValueError: if it is not such a number.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {size!r}")
    return size
