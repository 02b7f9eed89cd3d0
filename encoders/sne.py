"""SNE, the set-based neural network encoder: one model for the weights of any architecture.

Source: Andreis, Bedionita, Torr, Hwang, "Set-based Neural Network Encoding Without Weight
Tying", NeurIPS 2024, arXiv:2305.16625. Tensors are cut into chunks; chunks become vectors, the
chunks of a tensor become one vector, weight and bias of a layer become one, and the layers of
the network become one. Equation numbers below are the paper's. Left open there, chosen here:

- How tensors are cut is told in `chunk_plan.py`; a convolution enters value by value like any
  other tensor, so that one encoder serves every kernel size.
- `positions="layer"` encodes layer type and level alone, the encodings that the equations name:
  the order of values in a chunk and of chunks in a tensor is then invisible, and with it which
  weight meets which. `positions="element"` also encodes both places. `positions="none"` encodes
  nothing: all that is left is which values lie in one chunk, tensor and layer. With
  `hierarchy=False` besides, all that is left is which lie in one chunk. "Without positional and
  hierarchical encoding", the paper's ablation, can be read as either.
- Each sinusoidal encoding counts from its own start; a role encoding tells weight from bias.
- The head starts with a batch norm, unless `head_norm=False`: after four poolings embeddings
  differ little from each other against what they share, and without it training often stays
  at the constant.

Differs from the paper by default: the chunk size counts values in convolutions too, which keeps
their chunks as small as those of linear layers. With `conv_chunk="kernels"` it counts kernels
there, as in the paper.

Differs from the paper on demand only:

- `features="scales"` shows every value on four logarithmic scales, because the layer norm of
  w x + b over a scalar x keeps little but its sign once x is large, and adds to each chunk's vector
  a linear map of its averages on them and of their sizes.
- `norm="pre"` (`set_functions.py`), `align="row"` (`chunk_plan.py`).
- `element_size=8` makes eight consecutive values one element of a chunk: an eighth of the elements.

Memory grows with the number of values, not with its square, since attention never holds its
matrix: a training step at H = 32 took 6 KB per value and model at chunk sizes 32 and 128 alike
(CNN-l, 10,853 values, 4 models: 317 and 274 MB; a ViT of 45,946, 1 model: 283 and 281 MB), and
1.4 KB with elements of eight values. Time also grows with the chunk size and with the number of
chunks of the largest tensor.

Shape letters: B models, D length of the flat vector, N chunks, S values of a chunk, T tensors,
L layers, M sets of a rectangle, H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import encoding, normalized_perceptron, perceptron
from .parts.chunk_plan import ALIGNMENTS, CONV_CHUNKS, ChunkPlan, chunk_plan
from .parts.parameters import check_weights
from .parts.ragged import Rectangle
from .parts.set_functions import PMA, SetToSet

POSITIONS = ("element", "layer", "none")
FEATURES = ("value", "scales")
SCALES = (0.1, 1.0, 10.0, 100.0)
TYPE, LEVEL, ROLE, ELEMENT, CHUNK = range(5)  # the encodings, each with its own start


class ChunkEncoder(nn.Module):
    """Chunks to vectors, Gamma[Phi_2(encodings + Phi_1(values))] (eqs. 2 to 6)."""

    def __init__(
        self,
        width: int,
        heads: int,
        blocks: int,
        norm: str,
        positions: str,
        features: str,
        element_size: int,
    ) -> None:
        """Make Phi_1, Phi_2 and the pooling."""
        super().__init__()
        self.width, self.positions, self.element_size = width, positions, element_size
        scales = features == "scales"
        if norm == "pre" and not scales:
            raise ValueError("norm 'pre' needs features 'scales', got features 'value'")
        self.mix = nn.Linear(len(SCALES) * element_size, width) if scales else None
        width_in = width if scales else element_size
        self.values = SetToSet(width_in, width, heads, blocks, norm)
        self.encoded = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)
        self.averages = nn.Linear(2 * len(SCALES), width) if scales else None

    def forward(self, weights: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, D) to (B, N, H), all chunks of like length in one batch of sets."""
        codes = self._chunk_codes(plan)

        def encode(sets: Tensor, mask: Tensor | None, rectangle: Rectangle) -> Tensor:
            features = sets if self.mix is None else _on_scales(sets)
            elements, filled = _elements(features, mask, self.element_size)
            hidden = self.values(elements if self.mix is None else self.mix(elements), filled)
            code = codes[rectangle.sets, None] + self._element_codes(hidden)
            hidden = (hidden.unflatten(0, (len(weights), -1)) + code).flatten(0, 1)
            pooled = self.pool(self.encoded(hidden, filled), filled)
            if self.averages is None:
                return pooled
            return pooled + self.averages(_average_sizes(features, mask))

        return plan.values.map(weights[..., None], encode)

    def _chunk_codes(self, plan: ChunkPlan) -> Tensor:
        """(N, H)."""
        code = encoding(plan.kind, self.width, TYPE) + encoding(plan.level, self.width, LEVEL)
        if self.positions == "element":
            code = code + encoding(plan.chunk_index, self.width, CHUNK)
        return code

    def _element_codes(self, sets: Tensor) -> Tensor | float:
        """(S, H) for sets (M, S, H), or nothing to add."""
        if self.positions != "element":
            return 0.0
        return encoding(torch.arange(sets.shape[1], device=sets.device), self.width, ELEMENT)


class TensorEncoder(nn.Module):
    """Chunk vectors to tensor vectors, Gamma[level + Phi_3(chunks)] (eq. 7, "layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make Phi_3 and the pooling."""
        super().__init__()
        self.chunks = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, chunks: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, N, H) to (B, T, H)."""
        level = encoding(plan.tensor_level, chunks.shape[-1], LEVEL)

        def encode(sets: Tensor, mask: Tensor | None, rectangle: Rectangle) -> Tensor:
            hidden = self.chunks(sets, mask).unflatten(0, (len(chunks), -1))
            hidden = hidden + level[rectangle.sets, None]
            return self.pool(hidden.flatten(0, 1), mask)

        return plan.chunks.map(chunks, encode)


class LayerEncoder(nn.Module):
    """Tensor vectors to layer vectors (appendix J, "separated layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make the set function and the pooling."""
        super().__init__()
        self.tensors = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, tensors: Tensor, plan: ChunkPlan) -> Tensor:
        """Map (B, T, H) to (B, L, H)."""
        tensors = tensors + encoding(plan.role, tensors.shape[-1], ROLE)
        return plan.tensors.map(
            tensors, lambda sets, mask, _: self.pool(self.tensors(sets, mask), mask)
        )


class NetworkEncoder(nn.Module):
    """Vectors of layers to the network's, Gamma[Phi_4(level + layers)] (eq. 9)."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make Phi_4 and the pooling."""
        super().__init__()
        self.layers = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, layers: Tensor, level: Tensor) -> Tensor:
        """Map (B, L, H) of layers at depths (L,) to (B, H)."""
        sets = layers + encoding(level, layers.shape[-1], LEVEL)
        return self.pool(self.layers(sets, None), None)


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
        *,
        align: str = "flat",
        features: str = "value",
        norm: str = "post",
        head: Sequence[int] | None = None,
        head_norm: bool = True,
        element_size: int = 1,
        hierarchy: bool = True,
        conv_chunk: str = "values",
    ) -> None:
        """Make an encoder.

        Args:
            width: H, width of every vector on the way.
            heads: of every attention; divides `width`.
            chunk_size: values per chunk; a convolution's chunk holds whole kernels.
            positions: one of `POSITIONS`, what the encodings tell apart.
            outputs: numbers to predict.
            blocks: set attention blocks per set-to-set function; the paper has 2.
            align: one of `chunk_plan.ALIGNMENTS`, what is cut by itself.
            features: one of `FEATURES`, how a value enters.
            norm: one of `set_functions.NORMS`, where layer norms stand.
            head: widths of the head's hidden layers; None takes one of 4 H. The paper's for
                INRs is (512, 512).
            head_norm: whether the head starts with a batch norm.
            element_size: consecutive values of a chunk that enter as one element; the paper's
                elements are single values.
            hierarchy: whether chunks become tensors, tensors layers and layers the network; if
                not, all chunks are one set, whose vectors go where those of layers went.
            conv_chunk: one of `chunk_plan.CONV_CHUNKS`, what `chunk_size` counts in a convolution.
        """
        super().__init__()
        for name, value, allowed in (
            ("positions", positions, POSITIONS),
            ("align", align, ALIGNMENTS),
            ("features", features, FEATURES),
            ("conv_chunk", conv_chunk, CONV_CHUNKS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        for name, flag in (("head_norm", head_norm), ("hierarchy", hierarchy)):
            if not isinstance(flag, bool):  # the text "False" would count as true
                raise ValueError(f"{name} must be true or false, got {flag!r}")
        if min(chunk_size, outputs, blocks, element_size) < 1:
            raise ValueError(
                "chunk_size, outputs, blocks and element_size must be at least 1, "
                f"got {chunk_size!r}, {outputs!r}, {blocks!r} and {element_size!r}"
            )
        hidden = [4 * width] if head is None else list(head)
        self.config: dict[str, Any] = {
            "width": width,
            "heads": heads,
            "chunk_size": chunk_size,
            "positions": positions,
            "outputs": outputs,
            "blocks": blocks,
            "align": align,
            "features": features,
            "norm": norm,
            "head": hidden,
            "head_norm": head_norm,
            "element_size": element_size,
            "hierarchy": hierarchy,
            "conv_chunk": conv_chunk,
        }
        self.chunks = ChunkEncoder(width, heads, blocks, norm, positions, features, element_size)
        self.tensors = TensorEncoder(width, heads, blocks, norm) if hierarchy else None
        self.layers = LayerEncoder(width, heads, blocks, norm) if hierarchy else None
        self.network = NetworkEncoder(width, heads, blocks, norm)
        make_head = normalized_perceptron if head_norm else perceptron
        self.head = make_head([width, *hidden, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) of one architecture as (B, H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
        """
        check_weights(weights, layer_table)
        size, align, conv = (self.config[key] for key in ("chunk_size", "align", "conv_chunk"))
        plan = chunk_plan(layer_table, size, align, weights.device, conv)
        return self.encode(weights, plan)

    def encode(self, weights: Tensor, plan: ChunkPlan) -> Tensor:
        """Encode flat weight vectors (B, D) as cut by a plan: (B, H)."""
        if self.config["positions"] == "none":
            plan = plan.without_codes()
        chunks = self.chunks(weights, plan)
        if self.tensors is None or self.layers is None:
            return self.network(chunks, plan.level)
        return self.network(self.layers(self.tensors(chunks, plan), plan), plan.layer_level)

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))


def _on_scales(values: Tensor) -> Tensor:
    """Values x, (..., 1), as asinh(s x) at several scales s, each 1 at x = 1: (..., scales)."""
    scales = torch.tensor(SCALES, dtype=values.dtype, device=values.device)
    return torch.asinh(values * scales) / torch.asinh(scales)


def _elements(features: Tensor, mask: Tensor | None, size: int) -> tuple[Tensor, Tensor | None]:
    """Every `size` values (M, S, F) as one element (M, S / size, size F); the last is filled up."""
    if size == 1:
        return features, mask
    if mask is not None:
        features = features * mask[..., None]  # what stands in padding must not enter
        mask = functional.pad(mask, (0, -mask.shape[1] % size))
        mask = mask.unflatten(1, (-1, size)).any(dim=2)
    features = functional.pad(features, (0, 0, 0, -features.shape[1] % size))
    return features.unflatten(1, (-1, size)).flatten(2), mask


def _average_sizes(features: Tensor, mask: Tensor | None) -> Tensor:
    """Means over the elements of features (M, S, F) and of their sizes: (M, 2 F)."""
    both = torch.cat([features, features.abs()], dim=-1)
    if mask is None:
        return both.mean(dim=1)
    counts = mask.sum(dim=1, keepdim=True)
    return (both * mask[..., None]).sum(dim=1) / counts
