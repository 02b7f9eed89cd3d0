"""SNE, the set-based neural network encoder: one model for the weights of any architecture.

Source: Andreis, Bedionita, Torr, Hwang, "Set-based Neural Network Encoding Without Weight
Tying", NeurIPS 2024, arXiv:2305.16625. Tensors are cut into chunks; chunks become vectors, the
chunks of a tensor become one vector, weight and bias of a layer become one, and the layers of
the network become one. Equation numbers below are the paper's. Left open there, chosen here:

- A convolution is cut into chunks of whole kernels, as many as fit (at least one), and enters
  value by value like any other tensor, so that one encoder serves every kernel size.
- `positions="layer"` encodes layer type and level alone, the encodings that the equations name:
  the order of values in a chunk and of chunks in a tensor is then invisible, and with it which
  weight meets which. `positions="element"` also encodes both places.
- Each sinusoidal encoding counts from its own start, because sums of equal ones would confuse
  (type 0, level 1) with (type 1, level 0). A role encoding tells weight from bias.
- The head starts with a batch norm: after four poolings embeddings differ little from each
  other against what they share, and without it training often stays at the constant.

Any parameter tensor that is no convolution is flattened and cut like a linear layer's; buffers
are left out.

Shape letters: B models, D length of the flat vector, N chunks, S values of the longest chunk,
T tensors, L layers, H width of the encoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn

from ..zoos.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from .set_functions import PMA, SetToSet

POSITIONS = ("element", "layer")
TYPE, LEVEL, ROLE, ELEMENT, CHUNK = range(5)  # the encodings, each with its own start
ENCODING_STEP = 1000
CACHED_TABLES = 32


@dataclass(frozen=True)
class Groups:
    """How the rows of a flat axis fall into groups of unequal size.

    Attributes:
        mask: (groups, largest), bool, True where a group has a row.
        slots: (rows,), place of each row in the flattened mask.
    """

    mask: Tensor
    slots: Tensor

    def pad(self, rows: Tensor) -> Tensor:
        """Lay rows (B, rows, H) out as padded groups (B, groups, largest, H)."""
        padded = rows.new_zeros(len(rows), self.mask.numel(), rows.shape[-1])
        padded = padded.index_copy(1, self.slots, rows)
        return padded.unflatten(1, tuple(self.mask.shape))


@dataclass(frozen=True)
class Cut:
    """Where the chunks of one tensor lie: `size` values in chunks of `length`."""

    offset: int
    size: int
    length: int
    first_chunk: int

    @property
    def chunks(self) -> int:
        """Number of chunks; the last one may be short."""
        return -(-self.size // self.length)


@dataclass(frozen=True)
class ChunkPlan:
    """All that SNE asks of a layer table; tensors are ordered by layer.

    Attributes:
        cuts: T cuts.
        mask: (N, S), bool, True for a value and False for padding.
        kind: (N,), index in `KINDS`.
        level: (N,), depth of the layer.
        place: (N,), index of the chunk in its tensor.
        tensors: groups the N chunks into T tensors.
        tensor_level: (T,), depth of the tensor's layer.
        role: (T,), index in `ROLES`.
        layers: groups the T tensors into L layers.
        layer_level: (L,), depth of the layer.
    """

    cuts: tuple[Cut, ...]
    mask: Tensor
    kind: Tensor
    level: Tensor
    place: Tensor
    tensors: Groups
    tensor_level: Tensor
    role: Tensor
    layers: Groups
    layer_level: Tensor

    def chunks(self, weights: Tensor) -> Tensor:
        """Pad and chunk (eq. 1): flat vectors (B, D) to (B, N, S), one copy per tensor."""
        chunks = weights.new_zeros(len(weights), *self.mask.shape)
        for cut in self.cuts:
            whole, rest = divmod(cut.size, cut.length)
            values = weights[:, cut.offset : cut.offset + cut.size]
            target = chunks[:, cut.first_chunk : cut.first_chunk + cut.chunks]
            if whole:
                full = values[:, : whole * cut.length].unflatten(1, (whole, cut.length))
                target[:, :whole, : cut.length] = full
            if rest:
                target[:, whole, :rest] = values[:, whole * cut.length :]
        return chunks


class ChunkEncoder(nn.Module):
    """Chunks to vectors, Gamma[Phi_2(encodings + Phi_1(values))] (eqs. 2 to 6)."""

    def __init__(self, width: int, heads: int, blocks: int, positions: str) -> None:
        """Make Phi_1, Phi_2 and the pooling."""
        super().__init__()
        self.width, self.positions = width, positions
        self.values = SetToSet(1, width, heads, blocks)
        self.encoded = SetToSet(width, width, heads, blocks)
        self.pool = PMA(width, heads)

    def forward(self, chunks: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, N, S) to (B, N, H), all chunks of all models in one batch of sets."""
        models, shape = len(chunks), plan.mask.shape
        mask = plan.mask.expand(models, *shape).flatten(0, 1)
        sets = self.values(chunks.flatten(0, 1).unsqueeze(-1), mask)
        sets = (sets.unflatten(0, (models, -1)) + self._encodings(plan)).flatten(0, 1)
        return self.pool(self.encoded(sets, mask), mask).unflatten(0, (models, -1))

    def _encodings(self, plan: ChunkPlan) -> Tensor:
        """(N, 1 or S, H)."""
        chunk = encoding(plan.kind, self.width, TYPE) + encoding(plan.level, self.width, LEVEL)
        if self.positions == "layer":
            return chunk[:, None]
        chunk = chunk + encoding(plan.place, self.width, CHUNK)
        elements = torch.arange(plan.mask.shape[1], device=plan.mask.device)
        return chunk[:, None] + encoding(elements, self.width, ELEMENT)


class TensorEncoder(nn.Module):
    """Chunk vectors to tensor vectors, Gamma[level + Phi_3(chunks)] (eq. 7, "layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        """Make Phi_3 and the pooling."""
        super().__init__()
        self.chunks = SetToSet(width, width, heads, blocks)
        self.pool = PMA(width, heads)

    def forward(self, chunks: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, N, H) to (B, T, H)."""
        sets, mask = _groups(chunks, plan.tensors)
        sets = self.chunks(sets, mask).unflatten(0, (len(chunks), -1))
        sets = sets + encoding(plan.tensor_level, sets.shape[-1], LEVEL)[:, None]
        return self.pool(sets.flatten(0, 1), mask).unflatten(0, (len(chunks), -1))


class LayerEncoder(nn.Module):
    """Tensor vectors to layer vectors (appendix J, "separated layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        """Make the set function and the pooling."""
        super().__init__()
        self.tensors = SetToSet(width, width, heads, blocks)
        self.pool = PMA(width, heads)

    def forward(self, tensors: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, T, H) to (B, L, H)."""
        sets, mask = _groups(tensors + encoding(plan.role, tensors.shape[-1], ROLE), plan.layers)
        return self.pool(self.tensors(sets, mask), mask).unflatten(0, (len(tensors), -1))


class NetworkEncoder(nn.Module):
    """Layer vectors to the network's vector, Gamma[Phi_4(level + layers)] (eq. 9)."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        """Make Phi_4 and the pooling."""
        super().__init__()
        self.layers = SetToSet(width, width, heads, blocks)
        self.pool = PMA(width, heads)

    def forward(self, layers: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, L, H) to (B, H)."""
        mask = layers.new_ones(layers.shape[:2], dtype=torch.bool)
        sets = layers + encoding(plan.layer_level, layers.shape[-1], LEVEL)
        return self.pool(self.layers(sets, mask), mask)


class SNE(nn.Module):
    """The whole encoder with a small head; nothing in it depends on an architecture."""

    def __init__(
        self,
        width: int = 32,
        heads: int = 2,
        chunk_size: int = 32,
        positions: str = "element",
        outputs: int = 1,
        blocks: int = 2,
    ) -> None:
        """Make an encoder.

        Args:
            width: H, width of every vector on the way.
            heads: of every attention; divides `width`.
            chunk_size: values per chunk; a convolution's chunk holds whole kernels.
            positions: one of `POSITIONS`, what the encodings tell apart.
            outputs: numbers to predict.
            blocks: set attention blocks per set-to-set function; the paper has 2.
        """
        super().__init__()
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {positions!r}")
        if min(chunk_size, outputs, blocks) < 1:
            raise ValueError(
                f"chunk_size, outputs and blocks must be at least 1, "
                f"got {chunk_size!r}, {outputs!r} and {blocks!r}"
            )
        self.chunk_size = chunk_size
        self.chunks = ChunkEncoder(width, heads, blocks, positions)
        self.tensors = TensorEncoder(width, heads, blocks)
        self.layers = LayerEncoder(width, heads, blocks)
        self.network = NetworkEncoder(width, heads, blocks)
        self.head = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, outputs),
        )

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) of one architecture as (B, H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
        """
        if weights.ndim != 2 or weights.shape[1] != layer_table.width:
            raise ValueError(
                f"weights must be (B, D) with D={layer_table.width} of the layer table, "
                f"got {tuple(weights.shape)}"
            )
        plan = chunk_plan(layer_table, self.chunk_size, weights.device)
        chunks = self.chunks(plan.chunks(weights), plan)
        layers = self.layers(self.tensors(chunks, plan), plan)
        return self.network(layers, plan)

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))


def encoding(positions: Tensor, width: int, start: int) -> Tensor:
    """Sinusoidal encoding (Vaswani et al. 2017) of whole numbers (P,) as (P, width), float32.

    As there, what is encoded outweighs its encoding by the root of the width.
    """
    count = (width + 1) // 2
    frequency = 1e-4 ** (torch.arange(count, device=positions.device) / count)
    angle = (positions + start * ENCODING_STEP)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width] / width**0.5


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # a plan made while predicting serves training too
def chunk_plan(layer_table: LayerTable, chunk_size: int, device: torch.device) -> ChunkPlan:
    """Lay out the chunks of one architecture.

    Raises:
        ValueError: if the table holds buffers alone.
    """
    specs = [spec for spec in layer_table if spec.role != "buffer" and spec.size]
    specs.sort(key=lambda spec: spec.depth)
    if not specs:
        raise ValueError("layer table has no parameter: there is nothing to encode")
    cuts = _cuts(specs, chunk_size)
    counts = torch.tensor([cut.chunks for cut in cuts])
    lengths = [length for cut in cuts for length in _chunk_lengths(cut)]
    levels = torch.tensor([spec.depth for spec in specs])
    kinds = torch.tensor([KINDS.index(spec.kind) for spec in specs])
    layer_level, tensors_per_layer = levels.unique_consecutive(return_counts=True)
    return ChunkPlan(
        cuts=cuts,
        mask=_mask(torch.tensor(lengths)).to(device),
        kind=kinds.repeat_interleave(counts).to(device),
        level=levels.repeat_interleave(counts).to(device),
        place=torch.cat([torch.arange(cut.chunks) for cut in cuts]).to(device),
        tensors=_group(counts, device),
        tensor_level=levels.to(device),
        role=torch.tensor([ROLES.index(spec.role) for spec in specs]).to(device),
        layers=_group(tensors_per_layer, device),
        layer_level=layer_level.to(device),
    )


def _cuts(specs: Sequence[TensorSpec], chunk_size: int) -> tuple[Cut, ...]:
    cuts: list[Cut] = []
    for spec in specs:
        kernel = prod(spec.shape[2:]) if spec.kind == "conv" else 1
        length = max(1, chunk_size // kernel) * kernel
        first = cuts[-1].first_chunk + cuts[-1].chunks if cuts else 0
        cuts.append(Cut(spec.offset, spec.size, length, first))
    return tuple(cuts)


def _chunk_lengths(cut: Cut) -> list[int]:
    """Number of values in each chunk of a tensor."""
    return [min(cut.length, cut.size - start) for start in range(0, cut.size, cut.length)]


def _mask(counts: Tensor) -> Tensor:
    """(groups, largest), True in the first `counts` places of each row."""
    return torch.arange(int(counts.max())) < counts[:, None]


def _group(counts: Tensor, device: torch.device) -> Groups:
    mask = _mask(counts)
    return Groups(mask=mask.to(device), slots=mask.flatten().nonzero()[:, 0].to(device))


def _groups(rows: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Rows (B, rows, H) as sets (B * groups, largest, H) with their mask."""
    mask = groups.mask.expand(len(rows), *groups.mask.shape).flatten(0, 1)
    return groups.pad(rows).flatten(0, 1), mask
