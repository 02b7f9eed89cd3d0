"""How SNE cuts the tensors of an architecture into chunks: pad-chunk of arXiv:2305.16625, eq. 1.

Every parameter tensor is a list of rows, one per output unit, and a row a list of pieces that
stay together: the values of a kernel of a convolution, single values elsewhere. `align="flat"`
is the paper's: the tensor is cut as one long row, and its last chunk may be short.
`align="row"` cuts each row by itself, so that no chunk holds weights of two units.

- A convolution's chunk holds whole kernels. `conv_chunk="values"`: as many as fit into the chunk
  size, at least one, so that chunks of all layers are about equally large. `conv_chunk="kernels"`
  is the paper's, whose chunk size counts kernels there and values elsewhere, as only the input and
  output dimensions of a convolution are cut.
- The joint input projection of an attention, (3 H, H), counts as three tensors, so that queries,
  keys and values can be told apart.
- Norms, embeddings and other tensors are cut as linear layers are; rows of a tensor of more than
  two dimensions that is no convolution, such as a position embedding (1, N, H), run along its
  last one.

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
    """All that SNE asks of a layer table; tensors are ordered by layer.

    Attributes:
        values: the flat vector's values as N chunks.
        kind: (N,), index in `KINDS`.
        level: (N,), depth of the layer.
        place: (N,), index of the chunk in its tensor.
        chunks: the N chunks as T tensors.
        tensor_level: (T,), depth of the tensor's layer.
        role: (T,), which of the layer's tensors: weight, bias, and so for each projection.
        tensors: the T tensors as L layers.
        layer_level: (L,), depth of the layer.
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
        """The same chunks, tensors and layers, all of one kind, level, place and role."""
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
    """A tensor, or one projection of it, as rows of pieces; sizes count values."""

    spec: TensorSpec
    offset: int
    size: int
    row: int
    piece: int
    role: int

    def chunk_lengths(self, chunk_size: int, align: str, conv_chunk: str) -> list[int]:
        """Number of values in each chunk, in order."""
        row = self.size if align == "flat" else self.row
        pieces = chunk_size if conv_chunk == "kernels" else max(1, chunk_size // self.piece)
        length = pieces * self.piece
        return [min(length, row - start) for start in range(0, row, length)] * (self.size // row)


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # a plan made while predicting serves training too
def chunk_plan(
    layer_table: LayerTable,
    chunk_size: int,
    align: str,
    device: torch.device,
    conv_chunk: str = "values",
) -> ChunkPlan:
    """Lay out the chunks of one architecture.

    Args:
        layer_table: of the architecture.
        chunk_size: values per chunk.
        align: one of `ALIGNMENTS`.
        device: of the plan's tensors.
        conv_chunk: one of `CONV_CHUNKS`, what the chunk size of a convolution counts.

    Raises:
        ValueError: if the table holds buffers alone.
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
    """Where each of consecutive runs begins."""
    return sizes.cumsum(0) - sizes
