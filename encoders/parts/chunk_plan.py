"""Chunk plan of SNE, the set-based neural network encoder: its sets of chunks and tensors.

`zoos/tokens/chunks.py` cuts the tensors. This plan groups the chunks of trained tensors: the values
of a chunk, the chunks of a tensor, the tensors of a layer. Chunks of buffers are in no group.

Shape letters: N chunks, T tensors, L layers, C chunks of all tensors with buffers, S values of the
longest chunk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...zoos.networks.layer_table import ROLES, LayerTable, TensorSpec
from ...zoos.tokens.chunks import ALIGNMENTS, CONV_CHUNKS, Chunks, projections
from .parameters import parameter_tensors
from .ragged import Ragged

__all__ = ["ALIGNMENTS", "CODES", "CONV_CHUNKS", "ChunkPlan", "cached_chunks", "chunk_plan"]
CACHED_TABLES = 32
CODES = {
    "type": ("kind",),
    "level": ("level", "tensor_level", "layer_level"),
    "chunk": ("chunk_index",),
    "role": ("role",),
}
"""What the encodings of a plan tell, with the fields of `ChunkPlan` that hold it."""


@dataclass(frozen=True)
class ChunkPlan:
    """Chunks, tensors and layers of an architecture; tensors are ordered by layer.

    Attributes:
        values: grouping of the values of all tokens, (C * S,), into N chunks.
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

    def without(self, codes: Iterable[str]) -> "ChunkPlan":
        """Return the same chunks, tensors and layers, with equal codes.

        Args:
            codes: what is equal for all, of `CODES`.
        """
        fields = [field for name in codes for field in CODES[name]]
        same: dict[str, Any] = {field: torch.zeros_like(getattr(self, field)) for field in fields}
        return replace(self, **same)


@dataclass(frozen=True)
class TensorPart:
    """A tensor, or one projection of it, as consecutive tokens.

    Attributes:
        spec: entry of the tensor in the layer table.
        first: number of its first token.
        count: number of its tokens.
        role: number of the role in the layer.
    """

    spec: TensorSpec
    first: int
    count: int
    role: int


@lru_cache(maxsize=CACHED_TABLES)
def cached_chunks(
    layer_table: LayerTable, chunk_size: int, align: str, conv_chunk: str = "values"
) -> Chunks:
    """Return the tokenizer for flat weights that come without one.

    Args:
        layer_table: layer table of the architecture.
        chunk_size: number of values per chunk.
        align: unit that is cut by itself, one of `ALIGNMENTS`.
        conv_chunk: unit that the chunk size counts in a convolution, one of `CONV_CHUNKS`.
    """
    return Chunks(layer_table, chunk_size, align, conv_chunk)


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # a plan made in prediction can be reused in training
def chunk_plan(
    layer_table: LayerTable,
    chunk_size: int,
    align: str,
    device: torch.device,
    conv_chunk: str = "values",
) -> ChunkPlan:
    """Group the chunks of one architecture.

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
    tokenizer = cached_chunks(layer_table, chunk_size, align, conv_chunk)
    of_token = tokenizer.shared
    tokens = torch.bincount(of_token["tensor"], minlength=len(layer_table))
    first = dict(zip(layer_table, _starts(tokens).tolist(), strict=True))
    count = dict(zip(layer_table, tokens.tolist(), strict=True))
    parts = [part for spec in specs for part in _tensor_parts(spec, first[spec], count[spec])]
    rows = torch.cat([torch.arange(part.first, part.first + part.count) for part in parts])
    lengths = of_token["mask"][rows].sum(1)
    counts = torch.tensor([part.count for part in parts])
    levels = torch.tensor([part.spec.depth for part in parts])
    layer_level, tensors_per_layer = levels.unique_consecutive(return_counts=True)
    return ChunkPlan(
        values=Ragged.of(rows * tokenizer.shape[1], lengths, device),
        kind=of_token["kind"][rows].to(device),
        level=of_token["level"][rows].to(device),
        chunk_index=torch.cat([torch.arange(int(count)) for count in counts]).to(device),
        chunks=Ragged.of(_starts(counts), counts, device),
        tensor_level=levels.to(device),
        role=torch.tensor([part.role for part in parts]).to(device),
        tensors=Ragged.of(_starts(tensors_per_layer), tensors_per_layer, device),
        layer_level=layer_level.to(device),
    )


def _tensor_parts(spec: TensorSpec, first: int, count: int) -> Iterator[TensorPart]:
    """The tensor, or its projections, whose tokens follow one another."""
    parts, role = projections(spec), ROLES.index(spec.role)
    size = count // parts
    for index in range(parts):
        which = role + len(ROLES) * (index + 1 if parts > 1 else 0)
        yield TensorPart(spec, first + index * size, size, which)


def _starts(sizes: Tensor) -> Tensor:
    """Start of each of consecutive runs."""
    return sizes.cumsum(0) - sizes
