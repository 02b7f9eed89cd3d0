"""Chunk plan of SNE, the set-based neural network encoder: pad-chunk of arXiv:2305.16625, eq. 1.

Every parameter tensor is a list of rows, one per output unit. A row is a list of pieces that stay
together: the values of a kernel of a convolution, or single values. `align="flat"`, as in the
paper, cuts the tensor as one long row, and its last chunk may be short. `align="row"` cuts each row
by itself, so that no chunk holds weights of two units.

- A chunk of a convolution holds whole kernels. `conv_chunk="values"`: as many as fit into the chunk
  size, at least one, so that chunks of all layers have about equal size. `conv_chunk="kernels"`, as
  in the paper: the chunk size counts kernels in a convolution and values elsewhere, because only
  the input and output dimensions of a convolution are cut.
- The joint input projection of an attention, (3 H, H), counts as three tensors, so that queries,
  keys and values can be distinguished.
- Norms, embeddings and other tensors are cut like linear layers. A tensor of more than two
  dimensions that is no convolution, such as a position embedding (1, N, H), has rows along its last
  dimension.

Shape letters: N chunks, T tensors, L layers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ...zoos.networks.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from .parameters import parameter_tensors
from .ragged import Ragged

ALIGNMENTS = ("flat", "row")
CONV_CHUNKS = ("values", "kernels")
CACHED_TABLES = 32
PROJECTIONS = 3  # queries, keys and values in one tensor


@dataclass(frozen=True)
class ChunkPlan:
    """Chunks, tensors and layers of an architecture; tensors are ordered by layer.

    Attributes:
        values: grouping of the values of the flat vector into N chunks.
        kind: index of the kind of layer in `KINDS`, (N,).
        level: depth of the layer of each chunk, (N,).
        chunk_index: index of the chunk in its tensor, (N,).
        chunks: grouping of the N chunks into T tensors.
        tensor_level: depth of the layer of each tensor, (T,).
        role: number of the tensor's role in the layer (weight or bias, of each projection), (T,).
        tensors: grouping of the T tensors into L layers.
        layer_level: depth of each layer, (L,).
    """

    values: Ragged
    kind: Tensor
    level: Tensor
    chunk_index: Tensor
    chunks: Ragged
    tensor_level: Tensor
    role: Tensor
    tensors: Ragged
    layer_level: Tensor

    def without_codes(self) -> "ChunkPlan":
        """Return the same chunks, tensors and layers, all of one kind, level, index and role."""
        return replace(
            self,
            kind=torch.zeros_like(self.kind),
            level=torch.zeros_like(self.level),
            chunk_index=torch.zeros_like(self.chunk_index),
            tensor_level=torch.zeros_like(self.tensor_level),
            role=torch.zeros_like(self.role),
            layer_level=torch.zeros_like(self.layer_level),
        )


@dataclass(frozen=True)
class TensorPart:
    """A tensor, or one projection of it, as rows of pieces.

    Attributes:
        spec: entry of the tensor in the layer table.
        offset: first value in the flat vector.
        size: number of values.
        row: number of values per row.
        piece: number of values per piece, which stay together.
        role: number of the role in the layer.
    """

    spec: TensorSpec
    offset: int
    size: int
    row: int
    piece: int
    role: int

    def chunk_lengths(self, chunk_size: int, align: str, conv_chunk: str) -> list[int]:
        """Count the values of each chunk, in order.

        Args:
            chunk_size: number of values per chunk.
            align: unit that is cut by itself, one of `ALIGNMENTS`.
            conv_chunk: unit that the chunk size counts in a convolution, one of `CONV_CHUNKS`.
        """
        row = self.size if align == "flat" else self.row
        pieces = chunk_size if conv_chunk == "kernels" else max(1, chunk_size // self.piece)
        length = pieces * self.piece
        return [min(length, row - start) for start in range(0, row, length)] * (self.size // row)


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # a plan made in prediction can be reused in training
def chunk_plan(
    layer_table: LayerTable,
    chunk_size: int,
    align: str,
    device: torch.device,
    conv_chunk: str = "values",
) -> ChunkPlan:
    """Lay out the chunks of one architecture.

    Args:
        layer_table: layer table of the architecture.
        chunk_size: number of values per chunk.
        align: unit that is cut by itself, one of `ALIGNMENTS`.
        device: device of the tensors of the plan.
        conv_chunk: unit that the chunk size counts in a convolution, one of `CONV_CHUNKS`.

    Raises:
        ValueError: if the table holds buffers only.
    """
    specs = sorted(parameter_tensors(layer_table), key=lambda spec: spec.depth)
    parts = [part for spec in specs for part in _tensor_parts(spec)]
    lengths = [torch.tensor(part.chunk_lengths(chunk_size, align, conv_chunk)) for part in parts]
    counts = torch.tensor([len(length) for length in lengths])
    starts = [part.offset + _starts(length) for part, length in zip(parts, lengths, strict=True)]
    levels = torch.tensor([part.spec.depth for part in parts])
    kinds = torch.tensor([KINDS.index(part.spec.kind) for part in parts])
    layer_level, tensors_per_layer = levels.unique_consecutive(return_counts=True)
    return ChunkPlan(
        values=Ragged.of(torch.cat(starts), torch.cat(lengths), device),
        kind=kinds.repeat_interleave(counts).to(device),
        level=levels.repeat_interleave(counts).to(device),
        chunk_index=torch.cat([torch.arange(int(count)) for count in counts]).to(device),
        chunks=Ragged.of(_starts(counts), counts, device),
        tensor_level=levels.to(device),
        role=torch.tensor([part.role for part in parts]).to(device),
        tensors=Ragged.of(_starts(tensors_per_layer), tensors_per_layer, device),
        layer_level=layer_level.to(device),
    )


def _tensor_parts(spec: TensorSpec) -> Iterator[TensorPart]:
    """The tensor, or its projections."""
    projected = spec.kind == "attention" and "in_proj" in spec.name
    count = PROJECTIONS if projected and spec.shape[0] % PROJECTIONS == 0 else 1
    size, role = spec.size // count, ROLES.index(spec.role)
    piece = math.prod(spec.shape[2:]) if spec.kind == "conv" else 1
    for index in range(count):
        which = role + len(ROLES) * (index + 1 if count > 1 else 0)
        offset = spec.offset + index * size
        yield TensorPart(spec, offset, size, min(size, _row(spec)), piece, which)


def _row(spec: TensorSpec) -> int:
    """Number of values per output unit."""
    if len(spec.shape) < 2:
        return spec.size
    if len(spec.shape) == 2 or spec.kind == "conv":
        return spec.size // spec.shape[0]
    return spec.shape[-1]


def _starts(sizes: Tensor) -> Tensor:
    """Start of each of consecutive runs."""
    return sizes.cumsum(0) - sizes
