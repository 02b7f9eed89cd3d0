"""SNE, the set-based neural network encoder: one model for the weights of any architecture.

Source: Andreis, Bedionita, Torr, Hwang, "Set-based Neural Network Encoding Without Weight
Tying", NeurIPS 2024, arXiv:2305.16625. Tensors are cut into chunks; chunks become vectors, the
chunks of a tensor become one vector, weight and bias of a layer become one, and the layers of
the network become one. Equation numbers below are the paper's. Our choices where the paper is
silent:

- `zoos/tokens/chunks.py` describes how tensors are cut. The encoder takes these layer sets, or cuts
  flat weights in the same way. A convolution enters value by value like any other
  tensor, so that one encoder serves every kernel size.
- `positions="layer"` encodes layer type and level alone, the encodings that the equations name. The
  order of values in a chunk and of chunks in a tensor then has no effect, so the connectivity of
  weights is invisible. `positions="element"` also encodes both orders. `positions="none"` encodes
  nothing: only the grouping of values in chunks, tensors and layers remains. With `hierarchy=False`
  in addition, only the grouping in chunks remains. "Without positional and hierarchical encoding",
  the paper's ablation, can mean either. `omit` leaves out the encoding of layer type or level, and
  `heads=0` the attention of all set functions.
- Each sinusoidal encoding has its own start; a role encoding distinguishes weight and bias.
- The head starts with a batch norm, unless `head_norm=False`: after four poolings the differences
  between embeddings are small against what they share, and without the norm training often stays
  at the constant prediction.

`SNE.paper()` is the configuration of the paper. `SNE()` is ours, chosen on the val split of a
zoo of 1,000 convolutional networks (`docs/measured.md`), and differs from it in this:

- `features="scales"` encodes every value on four logarithmic scales, because the layer norm of
  w x + b over a scalar x keeps little but its sign for large x. It also adds a linear map of the
  averages of a chunk, on these scales, of its values and of their magnitudes to its vector.
- `features="magnitudes"`, the default, also encodes the magnitude of every value on these scales:
  a linear map of eight signed values shows their size only by chance.
- `norm="pre"` (`set_functions.py`).
- `element_size=8` makes eight consecutive values one element of a chunk: an eighth of the elements.
- `conv_chunk="values"`: the chunk size counts values in convolutions too, which keeps their chunks
  as small as those of linear layers. The paper counts kernels there.
- One set attention block in place of two, and a head of one hidden layer.

On request only: `align="row"` (`chunk_plan.py`).

Memory grows with the number of values, not with its square, because attention never stores its
matrix. A training step at H = 32 took 6 KB per value and model at chunk sizes 32 and 128 alike
(CNN-l, the larger published convolutional network, of 10,853 values, 4 models: 317 and 274 MB; a
vision transformer, ViT, of 45,946 values, 1 model: 283 and 281 MB), and 1.4 KB with elements of
eight values. Time also grows with the chunk size and with the number of chunks of the largest
tensor.

Shape letters: B models, D length of the flat vector, N chunks, S values of a chunk, C chunks with
those of buffers, T tensors, L layers, M sets of a rectangle, H width of the encoding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..zoos.networks.layer_table import LayerTable
from ..zoos.tokens.chunks import Chunks
from ..zoos.tokens.tokenizers import check_shape
from .parts.blocks import encoding, normalized_perceptron, perceptron
from .parts.chunk_plan import (
    ALIGNMENTS,
    CODES,
    CONV_CHUNKS,
    ChunkPlan,
    cached_chunks,
    chunk_plan,
)
from .parts.parameters import check_weights
from .parts.ragged import Rectangle
from .parts.set_functions import PMA, SetToSet, set_mean

POSITIONS = ("element", "layer", "none")
FEATURES = ("value", "scales", "magnitudes")
OMITTED = ("type", "level")
SCALES = (0.1, 1.0, 10.0, 100.0)
PAPER: dict[str, Any] = {
    "width": 32,
    "heads": 2,
    "chunk_size": 32,
    "positions": "element",
    "blocks": 2,
    "align": "flat",
    "features": "value",
    "norm": "post",
    "head": [512, 512],
    "head_norm": True,
    "element_size": 1,
    "hierarchy": True,
    "conv_chunk": "kernels",
    "omit": [],
}
"""Configuration of the paper, see `SNE.paper`."""
TYPE, LEVEL, ROLE, ELEMENT, CHUNK = range(5)  # indices of the encodings, each with its own start


class ChunkEncoder(nn.Module):
    """Maps chunks to vectors, Gamma[Phi_2(encodings + Phi_1(values))] (eqs. 2 to 6)."""

    scales: Tensor

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
        """Make Phi_1, Phi_2 and the pooling.

        Args:
            width: H, width of every vector.
            heads: number of attention heads; divides the width.
            blocks: number of set attention blocks per set-to-set function.
            norm: position of the layer norms, one of `set_functions.NORMS`.
            positions: encoded positions, one of `POSITIONS`.
            features: features of a value, one of `FEATURES`.
            element_size: number of values per element.

        Raises:
            ValueError: if norm is "pre" and features are "value".
        """
        super().__init__()
        self.width, self.positions, self.element_size = width, positions, element_size
        scales = features != "value"
        if norm == "pre" and not scales:
            raise ValueError(
                "norm 'pre' needs features 'scales' or 'magnitudes', got 'value': take norm 'post'"
            )
        self.shown = {"value": 1, "scales": len(SCALES), "magnitudes": 2 * len(SCALES)}[features]
        self.mix = nn.Linear(self.shown * element_size, width) if scales else None
        width_in = width if scales else element_size
        self.values = SetToSet(width_in, width, heads, blocks, norm)
        self.encoded = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)
        self.averages = nn.Linear(2 * len(SCALES), width) if scales else None
        in_full = torch.tensor(SCALES, dtype=torch.float64)  # rounded to the values' type when used
        self.register_buffer("scales", in_full, persistent=False)

    def forward(self, values: Tensor, plan: ChunkPlan) -> Tensor:
        """Encode chunks; all chunks of similar length are one batch of sets.

        Args:
            values: values of the chunks, (B, C, S).
            plan: chunks, tensors and layers of the architecture.

        Returns:
            Chunk vectors, (B, N, H).
        """
        codes = self._chunk_codes(plan)

        def encode(sets: Tensor, mask: Tensor | None, rectangle: Rectangle) -> Tensor:
            features = sets if self.mix is None else self._on_scales(sets)
            elements, filled = _elements(features[..., : self.shown], mask, self.element_size)
            hidden = self.values(elements if self.mix is None else self.mix(elements), filled)
            code = codes[rectangle.sets, None] + self._element_codes(hidden)
            hidden = (hidden.unflatten(0, (len(values), -1)) + code).flatten(0, 1)
            pooled = self.pool(self.encoded(hidden, filled), filled)
            if self.averages is None:
                return pooled
            return pooled + self.averages(set_mean(features, mask))

        return plan.values.map(values.flatten(1)[..., None], encode)

    def _on_scales(self, values: Tensor) -> Tensor:
        """Features asinh(s x) / asinh(s) of values x (..., 1), and magnitudes, (..., 2 scales)."""
        scales = self.scales.to(values.dtype)
        features = torch.asinh(values * scales) / torch.asinh(scales)
        return torch.cat([features, features.abs()], dim=-1)

    def _chunk_codes(self, plan: ChunkPlan) -> Tensor:
        """Codes of the chunks, (N, H)."""
        code = encoding(plan.kind, self.width, TYPE) + encoding(plan.level, self.width, LEVEL)
        if self.positions == "element":
            code = code + encoding(plan.chunk_index, self.width, CHUNK)
        return code

    def _element_codes(self, sets: Tensor) -> Tensor | float:
        """Codes (S, H) of the elements of sets (M, S, H); 0 without element positions."""
        if self.positions != "element":
            return 0.0
        return encoding(torch.arange(sets.shape[1], device=sets.device), self.width, ELEMENT)


class TensorEncoder(nn.Module):
    """Maps chunk to tensor vectors, Gamma[level + Phi_3(chunks)] (eq. 7, "layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make Phi_3 and the pooling.

        Args:
            width: H, width of every vector.
            heads: number of attention heads; divides the width.
            blocks: number of set attention blocks.
            norm: position of the layer norms, one of `set_functions.NORMS`.
        """
        super().__init__()
        self.chunks = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, chunks: Tensor, plan: ChunkPlan) -> Tensor:
        """Encode tensors.

        Args:
            chunks: chunk vectors, (B, N, H).
            plan: chunks, tensors and layers of the architecture.

        Returns:
            Tensor vectors, (B, T, H).
        """
        level = encoding(plan.tensor_level, chunks.shape[-1], LEVEL)

        def encode(sets: Tensor, mask: Tensor | None, rectangle: Rectangle) -> Tensor:
            hidden = self.chunks(sets, mask).unflatten(0, (len(chunks), -1))
            hidden = hidden + level[rectangle.sets, None]
            return self.pool(hidden.flatten(0, 1), mask)

        return plan.chunks.map(chunks, encode)


class LayerEncoder(nn.Module):
    """Maps tensor to layer vectors (appendix J, "separated layer encoder")."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make the set function and the pooling.

        Args:
            width: H, width of every vector.
            heads: number of attention heads; divides the width.
            blocks: number of set attention blocks.
            norm: position of the layer norms, one of `set_functions.NORMS`.
        """
        super().__init__()
        self.tensors = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, tensors: Tensor, plan: ChunkPlan) -> Tensor:
        """Encode layers.

        Args:
            tensors: tensor vectors, (B, T, H).
            plan: chunks, tensors and layers of the architecture.

        Returns:
            Layer vectors, (B, L, H).
        """
        tensors = tensors + encoding(plan.role, tensors.shape[-1], ROLE)
        return plan.tensors.map(
            tensors, lambda sets, mask, _: self.pool(self.tensors(sets, mask), mask)
        )


class NetworkEncoder(nn.Module):
    """Maps layer vectors to the network vector, Gamma[Phi_4(level + layers)] (eq. 9)."""

    def __init__(self, width: int, heads: int, blocks: int, norm: str) -> None:
        """Make Phi_4 and the pooling.

        Args:
            width: H, width of every vector.
            heads: number of attention heads; divides the width.
            blocks: number of set attention blocks.
            norm: position of the layer norms, one of `set_functions.NORMS`.
        """
        super().__init__()
        self.layers = SetToSet(width, width, heads, blocks, norm)
        self.pool = PMA(width, heads, norm)

    def forward(self, layers: Tensor, level: Tensor) -> Tensor:
        """Encode networks.

        Args:
            layers: layer vectors, (B, L, H).
            level: depth of each layer, (L,).

        Returns:
            Network vectors, (B, H).
        """
        sets = layers + encoding(level, layers.shape[-1], LEVEL)
        return self.pool(self.layers(sets, None), None)


class SNE(nn.Module):
    """The whole encoder with a small head; no parameter depends on an architecture.

    Attributes:
        reads: input that a loader gives it, layer sets of `tokenizer`.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders import SNE
        >>> train = load_zoo(ZOO, split="train")
        >>> encoder = SNE(width=8, heads=1, blocks=1)
        >>> encoder(train.weights(), train.layer_table).shape
        torch.Size([6, 1])
        >>> encoder.embed(train.weights(), train.layer_table).shape
        torch.Size([6, 8])
    """

    reads = "layer_sets"

    def __init__(
        self,
        width: int = 32,
        heads: int = 2,
        chunk_size: int = 64,
        positions: str = "element",
        outputs: int = 1,
        blocks: int = 1,
        *,
        align: str = "flat",
        features: str = "magnitudes",
        norm: str = "pre",
        head: Sequence[int] | None = None,
        head_norm: bool = True,
        element_size: int = 8,
        hierarchy: bool = True,
        conv_chunk: str = "values",
        omit: Sequence[str] = (),
    ) -> None:
        """Make an encoder of our configuration, or of a similar one.

        Args:
            width: H, width of every vector.
            heads: number of attention heads; divides the width. 0 takes means in place of
                attention, as in Deep Sets.
            chunk_size: number of values per chunk; a chunk of a convolution holds whole kernels.
            positions: encoded positions, one of `POSITIONS`.
            outputs: number of predicted values.
            blocks: number of set attention blocks per set-to-set function; the paper has 2.
            align: unit that is cut by itself, one of `chunk_plan.ALIGNMENTS`.
            features: features of a value, one of `FEATURES`.
            norm: position of the layer norms, one of `set_functions.NORMS`; "pre" needs features
                other than "value".
            head: widths of the hidden layers of the head; None takes one layer of 4 H. The paper
                has (512, 512) for implicit neural representations (INRs).
            head_norm: whether the head starts with a batch norm.
            element_size: number of consecutive values per element of a chunk; the paper has 1.
            hierarchy: whether chunks become tensors, tensors layers and layers the network; False
                makes all chunks one set, whose vectors replace those of layers.
            conv_chunk: unit that `chunk_size` counts in a convolution, one of
                `chunk_plan.CONV_CHUNKS`.
            omit: encodings that are left out, of `OMITTED`.

        Raises:
            ValueError: if an option is unknown, options exclude each other, or a size is below 1.
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
        if isinstance(omit, str) or not set(omit) <= set(OMITTED):
            raise ValueError(f"omit must be a list of {OMITTED}, got {omit!r}")
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
            "omit": list(omit),
        }
        self._cutting = (chunk_size, align, conv_chunk)
        self.chunks = ChunkEncoder(width, heads, blocks, norm, positions, features, element_size)
        self.tensors = TensorEncoder(width, heads, blocks, norm) if hierarchy else None
        self.layers = LayerEncoder(width, heads, blocks, norm) if hierarchy else None
        self.network = NetworkEncoder(width, heads, blocks, norm)
        make_head = normalized_perceptron if head_norm else perceptron
        self.head = make_head([width, *hidden, outputs])

    @classmethod
    def paper(cls, outputs: int = 1, **changes: Any) -> "SNE":
        """Make an encoder of the configuration of the paper, `PAPER`.

        The paper states elements of one value, set functions of two blocks with layer norms on the
        residual path, chunks of whole kernels, one encoding per level, and for implicit neural
        representations a width of 32 and a head of two layers of 512. It leaves open, and is
        filled in here: two heads, chunks of 32, encoded orders of values and chunks, the batch norm
        of the head, and width and head for other networks.

        Args:
            outputs: number of predicted values.
            **changes: options of the constructor that differ from `PAPER`.

        Example:
            >>> from weightzoo.encoders import SNE
            >>> SNE().config["element_size"], SNE.paper().config["element_size"]
            (8, 1)
        """
        return cls(outputs=outputs, **{**PAPER, **changes})

    def tokenizer(self, layer_table: LayerTable) -> Chunks:
        """Make the tokenizer of the layer sets that the encoder reads."""
        return Chunks(layer_table, *self._cutting)

    def embed(self, weights: Tensor | Mapping[str, Tensor], layer_table: LayerTable) -> Tensor:
        """Encode weights of one architecture.

        Args:
            weights: layer sets of `tokenizer`, or flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
        """
        return self.encode(*self.planned(weights, layer_table))

    def planned(
        self, weights: Tensor | Mapping[str, Tensor], layer_table: LayerTable
    ) -> tuple[Tensor, ChunkPlan]:
        """Cut flat weights, and make the plan of the architecture or take the one made before.

        Args:
            weights: layer sets of `tokenizer`, or flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Arguments of `encode`.
        """
        size, align, conv = self._cutting
        if isinstance(weights, Tensor):
            check_weights(weights, layer_table)
            weights = cached_chunks(layer_table, size, align, conv)(weights)
        values = weights["values"]
        check_shape("layer sets", values, cached_chunks(layer_table, size, align, conv).shape)
        return values, chunk_plan(layer_table, size, align, values.device, conv)

    def encode(self, values: Tensor, plan: ChunkPlan) -> Tensor:
        """Encode chunks that are grouped by a given plan.

        Args:
            values: values of the chunks, (B, C, S).
            plan: chunks, tensors and layers of the architecture.

        Returns:
            Embeddings, (B, H).
        """
        plan = plan.without(CODES if self.config["positions"] == "none" else self.config["omit"])
        chunks = self.chunks(values, plan)
        if self.tensors is None or self.layers is None:
            return self.network(chunks, plan.level)
        return self.network(self.layers(self.tensors(chunks, plan), plan), plan.layer_level)

    def forward(self, weights: Tensor | Mapping[str, Tensor], layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        In training mode the batch norm of the head needs at least two models.

        Args:
            weights: layer sets of `tokenizer`, or flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))


def _elements(features: Tensor, mask: Tensor | None, size: int) -> tuple[Tensor, Tensor | None]:
    """Join `size` values (M, S, F) to one element (M, S / size, size F); the last is padded."""
    if size == 1:
        return features, mask
    if mask is not None:
        features = features * mask[..., None]  # values in the padding must have no effect
        mask = functional.pad(mask, (0, -mask.shape[1] % size))
        mask = mask.unflatten(1, (-1, size)).any(dim=2)
    features = functional.pad(features, (0, 0, 0, -features.shape[1] % size))
    return features.unflatten(1, (-1, size)).flatten(2), mask
