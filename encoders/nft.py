"""NFT (neural functional transformer): attention between rows and columns of weights.

Source: Zhou et al. 2023, "Neural Functional Transformers", arXiv:2305.13546. Every weight and bias
is a token of width H, and a block is x <- x + SA(LayerNorm(x)), x <- x + MLP(LayerNorm(x)), where
SA is self-attention and MLP a multilayer perceptron. SA sums three parts (eqs. 4 to 6), with
queries, keys and values linear in each token:

- rows: a row of W_l attends to the rows of W_l and, along the same units, the columns of W_{l-1};
- columns: a column of W_l attends to the columns of W_l and the rows of W_{l+1};
- all: a token attends to every token of the network.

A bias is one more column of its weight. Each set of units therefore has its own attention, between
all rows and columns along these units, each a vector of units times channels. A weight sums the
results of the sets at both its ends. Attention ignores the order of what it attends to, and scores
sum over units, so reordered hidden units only change the order of tokens. Inputs and outputs stay
in place: their codes and those of layers are learned.

The invariant encoding is the cross-attention of the paper: a few learned queries attend to all
tokens. Means over tensors, as in NFN (neural functional networks), were worse on the frequency of
implicit neural representations, INRs (MSE on val 0.56 against 0.46, mean of two seeds at two
learning rates), and as good on digits-cnn (Kendall's tau_b on val 0.72 against 0.71, one seed).

Our choices where the paper is silent, and differences:
- "all" is attention between the averages of the tensors, repeated over them, as in the published
  code. Between all tokens it would cost their number squared.
- The linear layer that makes the tokens of a tensor maps its K values per pair, the kernel of a
  convolution, to width H, and its bias is the code of the layer. The published code has this number
  of channels per kernel value. With one width, all tensors share norms, projections and MLPs; in
  the published code they do not share norms and MLPs.
- Heads split the channels and are joined without another projection. MLPs have GELU and twice the
  width, as in the published code. Its dropout and its random Fourier features of INRs are left out.

Shape letters: B models, D length of the flat vector, N tokens, O and I units out and in, K values
per pair, U units of a set, T rows and columns along them, S tensors, H width of a token, C channels
of a head, Q queries.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.attention import fused_attention
from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron
from .parts.equivariant import Slot
from .parts.feed_forward import chain_layers
from .parts.parameters import SEVERAL, check_same_table, check_weights
from .parts.weight_space import WeightSpace

FEED_FORWARD = 2  # hidden width of an MLP, in widths of a token


class WeightTokens(nn.Module):
    """Maps weights to tokens, with codes of layers, inputs and outputs."""

    def __init__(self, space: WeightSpace, width: int) -> None:
        """Make a linear layer for each tensor, and the codes.

        Args:
            space: weight space of the architecture.
            width: H, width of a token.
        """
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
    """Self-attention layer of a weight space."""

    def __init__(self, space: WeightSpace, width: int, heads: int) -> None:
        """Make the projection to queries, keys and values, which all tensors share.

        Args:
            space: weight space of the architecture.
            width: H, width of a token.
            heads: number of heads; divides the width.
        """
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
        """Attention between the averages of the tensors, (B, 1, 1, heads, C) for each."""
        averages = torch.stack([one.mean(dim=3) for one in tensors], dim=3)  # (3, B, heads, S, C)
        found = fused_attention(*averages)
        return list(found.transpose(1, 2)[:, :, None, None].unbind(1))

    def _along(self, units: int, tensors: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Attention of rows and columns along a set of units: slot and (B, O, I, heads, C)."""
        columns = [index for index, slot in enumerate(self.slots) if slot.axes[0] == units]
        rows = [index for index, slot in enumerate(self.slots) if slot.axes[1:] == (units,)]
        vectors = [tensors[index].transpose(3, 4) for index in columns]
        vectors += [tensors[index] for index in rows]
        joined = torch.cat(vectors, dim=3).flatten(4)  # (3, B, heads, T, U C)
        found = fused_attention(*joined).unflatten(-1, (self.units[units], -1))
        parts = found.permute(0, 2, 3, 1, 4).split([one.shape[3] for one in vectors], dim=1)
        for index, part in zip(columns + rows, parts, strict=True):
            yield index, part.transpose(1, 2) if index in columns else part


class AttentionBlock(nn.Module):
    """Self-attention and an MLP, each after a layer norm and with a residual."""

    def __init__(self, space: WeightSpace, width: int, heads: int) -> None:
        """Make the block.

        Args:
            space: weight space of the architecture.
            width: H, width of a token.
            heads: number of heads; divides the width.
        """
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
    """Learned queries that attend to all tokens."""

    def __init__(self, width: int, heads: int, queries: int) -> None:
        """Make the queries, and the projection to keys and values.

        Args:
            width: H, width of a token.
            heads: number of heads; divides the width.
            queries: Q, number of queries.
        """
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, H), in any order, to (B, Q H)."""
        keys_values = self.projection(self.norm(x)).unflatten(-1, (2, self.heads, -1))
        queries = self.queries.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        found = fused_attention(
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
            layer_table: layer table of a chain of convolutional and linear layers.
            width: H, width of a token; the published INR experiments have 256.
            heads: number of attention heads; divides the width.
            blocks: number of self-attention blocks; each reaches one layer further.
            queries: Q, number of queries of the cross-attention; the embedding has width Q H.
            outputs: number of predicted values.

        Raises:
            UnsuitableError: if the architecture is no chain of such layers.
            ValueError: if a number is below 1, or heads do not divide the width.
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
        """Encode weights of the architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, Q H), which reordered hidden units do not change.

        Raises:
            ValueError: if the weights belong to another architecture.
        """
        check_same_table(layer_table, self.layer_table, "NFT", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.space.tensors(weights))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        In training mode the batch norm of the head needs at least two models.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))


def _shape(slot: Slot, units: Sequence[int]) -> tuple[int, int]:
    """Shape (O, I) of a tensor; a bias has one column."""
    return units[slot.axes[0]], units[slot.axes[1]] if len(slot.axes) > 1 else 1
