"""NFT: attention between the rows and columns of weights, for one architecture.

Source: Zhou et al. 2023, "Neural Functional Transformers", arXiv:2305.13546: every weight and bias
is a token of width H, and a block is x <- x + SA(LayerNorm(x)), x <- x + MLP(LayerNorm(x)). SA sums
three heads (eqs. 4 to 6), with queries, keys and values linear in each token:

- rows: a row of W_l looks at the rows of W_l and, along the same units, the columns of W_{l-1};
- columns: a column of W_l looks at the columns of W_l and the rows of W_{l+1};
- all: a token looks at every token of the network.

A bias is one more column of its weight. So each set of units has its own attention, between all
rows and columns along these units, each a vector of units times channels, and a weight sums what it
gets from the sets at both its ends. Attention ignores the order of what it looks at, and scores sum
over units, so that reordered hidden units change nothing but the order of tokens. Inputs and
outputs stay in place: their codes and those of layers are learned.

The invariant encoding is the paper's cross-attention, a few learned queries that look at all
tokens. Means over tensors, as NFN takes them, were behind on the frequency of INRs (MSE on val 0.56
against 0.46, mean of two seeds at two learning rates) and as good on digits-cnn (tau_b on val 0.72
against 0.71, one seed).

Left open there, or different:
- "all" is attention between the averages of the tensors, repeated over them, as in the published
  code: between all tokens it would cost their number squared.
- The linear layer that makes the tokens of a tensor takes its K values per pair, the kernel of a
  convolution, to width H, and its bias is the layer's code. The published code keeps so many
  channels per kernel value. With one width, norms, projections and MLPs are shared by all tensors;
  there norms and MLPs are not.
- Heads split the channels and are joined without another projection; MLPs have GELU and twice the
  width, as in the published code. Its dropout and random Fourier features of INRs are left out.

Shape letters: B models, D length of the flat vector, N tokens, O and I units out and in, K values
per pair, U units of a set, T rows and columns along them, S tensors, H width of a token, C channels
of a head, Q queries.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron
from .parts.equivariant import Slot
from .parts.feed_forward import chain_layers
from .parts.parameters import SEVERAL, check_same_table, check_weights
from .parts.weight_space import WeightSpace

FEED_FORWARD = 2  # widths of a token in the hidden layer of an MLP


class WeightTokens(nn.Module):
    """Weights to tokens, with the codes of layers, inputs and outputs."""

    def __init__(self, space: WeightSpace, width: int) -> None:
        """Make a linear layer for each tensor and the codes."""
        super().__init__()
        self.slots, self.last = tuple(space.slots), len(space.layers)
        self.values = nn.ModuleList(nn.Linear(slot.channels, width) for slot in self.slots)
        self.inputs = nn.Parameter(torch.randn(space.layers[0].inputs, width))
        self.outputs = nn.Parameter(torch.randn(space.layers[-1].outputs, width))

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Map tensors (B, O, I, K) and (B, O, 1) to tokens (B, N, H), tensor by tensor."""
        parts = []
        for slot, values, tensor in zip(self.slots, self.values, tensors, strict=True):
            tokens = values(tensor)
            if slot.axes[-1] == 0:
                tokens = tokens + self.inputs
            if slot.axes[0] == self.last:
                tokens = tokens + (self.outputs if len(slot.axes) == 1 else self.outputs[:, None])
            parts.append(tokens.flatten(1, -2))
        return torch.cat(parts, dim=1)


class SelfAttention(nn.Module):
    """The weight-space self-attention layer."""

    def __init__(self, space: WeightSpace, width: int, heads: int) -> None:
        """Make the projection to queries, keys and values, which all tensors share."""
        super().__init__()
        self.heads = heads
        self.slots = tuple(space.slots)
        self.units = [space.layers[0].inputs, *(layer.outputs for layer in space.layers)]
        self.shapes = [_shape(slot, self.units) for slot in self.slots]
        self.projection = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, H) to (B, N, H)."""
        projected = self.projection(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        tensors = projected.split([outs * ins for outs, ins in self.shapes], dim=3)
        found = self._all(tensors)
        tensors = [one.unflatten(3, shape) for one, shape in zip(tensors, self.shapes, strict=True)]
        for units in range(len(self.units)):
            for index, one in self._along(units, tensors):
                found[index] = found[index] + one
        return torch.cat([one.flatten(3).flatten(1, 2) for one in found], dim=1)

    def _all(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What the averages of the tensors find in each other, (B, 1, 1, heads, C) for each."""
        averages = torch.stack([one.mean(dim=3) for one in tensors], dim=3)  # (3, B, heads, S, C)
        found = F.scaled_dot_product_attention(*averages)
        return list(found.transpose(1, 2)[:, :, None, None].unbind(1))

    def _along(self, units: int, tensors: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """What rows and columns along a set of units find: places and (B, O, I, heads, C)."""
        columns = [index for index, slot in enumerate(self.slots) if slot.axes[0] == units]
        rows = [index for index, slot in enumerate(self.slots) if slot.axes[1:] == (units,)]
        vectors = [tensors[index].transpose(3, 4) for index in columns]
        vectors += [tensors[index] for index in rows]
        joined = torch.cat(vectors, dim=3).flatten(4)  # (3, B, heads, T, U C)
        found = F.scaled_dot_product_attention(*joined).unflatten(-1, (self.units[units], -1))
        parts = found.permute(0, 2, 3, 1, 4).split([one.shape[3] for one in vectors], dim=1)
        for index, part in zip(columns + rows, parts, strict=True):
            yield index, part.transpose(1, 2) if index in columns else part


class AttentionBlock(nn.Module):
    """Self-attention and an MLP, both behind a layer norm and beside a residual."""

    def __init__(self, space: WeightSpace, width: int, heads: int) -> None:
        """Make the block."""
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(space, width, heads)
        hidden = FEED_FORWARD * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, H) to (B, N, H)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.norm(x))


class CrossAttention(nn.Module):
    """Learned queries that look at all tokens."""

    def __init__(self, width: int, heads: int, queries: int) -> None:
        """Make the queries and the projection to keys and values."""
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, H) to (B, Q H), whatever their order."""
        keys_values = self.projection(self.norm(x)).unflatten(-1, (2, self.heads, -1))
        queries = self.queries.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        found = F.scaled_dot_product_attention(
            queries.expand(len(x), -1, -1, -1), *keys_values.permute(2, 0, 3, 1, 4)
        )  # (B, heads, Q, C)
        return found.transpose(1, 2).flatten(1)


class NFT(nn.Module):
    """Blocks of weight-space attention, cross-attention and a perceptron."""

    def __init__(
        self,
        layer_table: LayerTable,
        width: int = 32,
        heads: int = 4,
        blocks: int = 2,
        queries: int = 4,
        outputs: int = 1,
    ) -> None:
        """Make the network.

        Args:
            layer_table: of the architecture, a chain of convolutional and linear layers.
            width: H, of a token; the published INR experiments have 256.
            heads: of attention; they divide the width.
            blocks: of self-attention; rows and columns reach one layer further with each.
            queries: Q, of the cross-attention; the encoding has Q H numbers.
            outputs: numbers to predict.

        Raises:
            UnsuitableError: if the architecture is no such chain.
            ValueError: if a number does not fit.
        """
        super().__init__()
        if min(width, heads, blocks, queries) < 1 or width % heads:
            raise ValueError(
                "width, heads, blocks and queries must be at least 1, and heads divide width, "
                f"got {width!r}, {heads!r}, {blocks!r} and {queries!r}"
            )
        self.config: dict[str, Any] = {
            "width": width,
            "heads": heads,
            "blocks": blocks,
            "queries": queries,
            "outputs": outputs,
        }
        self.layer_table = layer_table
        self.space = WeightSpace(chain_layers(layer_table, "NFT", SEVERAL), "np")
        self.encoder = nn.Sequential(
            WeightTokens(self.space, width),
            *(AttentionBlock(self.space, width, heads) for _ in range(blocks)),
            CrossAttention(width, heads, queries),
        )
        self.head = normalized_perceptron([queries * width, 2 * width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) as (B, Q H), unchanged by reordered hidden units.

        Raises:
            ValueError: if the weights are of another architecture.
        """
        check_same_table(layer_table, self.layer_table, "NFT", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.space.tensors(weights))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))


def _shape(slot: Slot, units: Sequence[int]) -> tuple[int, int]:
    """(O, I) of a tensor; a bias has one column."""
    return units[slot.axes[0]], units[slot.axes[1]] if len(slot.axes) > 1 else 1
