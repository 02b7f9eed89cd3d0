"""Attention over sets: the set-to-set and set-to-vector functions of the Set Transformer.

Source: Lee et al. 2019, arXiv:1810.00825, with the layer norms and the row-wise feed-forward layer
before pooling that SNE (the set-based neural network encoder, arXiv:2305.16625, section 3.7)
defines. As in the published Set Transformer code, the residual is the projected query, so that
input and output widths may differ; the heads are joined without a further projection; and the
feed-forward layer is one linear layer with ReLU. Scores are scaled by the width of a head.

Shape letters: M sets, S elements of the largest set, Q queries, I width in, H width out.
A mask is (M, S), bool, True for an element and False for padding, or None without padding. Every
set needs an element. Values in the padding never change the output for other elements.

`norm="post"` is the published block. `norm="pre"` differs: layer norms precede attention and
feed-forward layer and are never on the residual path, so that magnitudes of elements are kept.

Where the elements of a set are no wider than a head, or all sets share the queries, attention works
on the elements themselves, with equal results: a score q (W y + b) is (q W) y plus a number that
the softmax ignores, and an average of W y + b is W times the average of y, plus b. Such a block
does not project its sets, and the bias of its keys has no gradient; in other blocks it is 0.

With no heads every query takes the mean of its set in place of attention, as in Deep Sets (Zaheer
et al. 2017, arXiv:1703.06114): an ablation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...zoos.networks.attention import fused_attention

SCALAR_BIAS = 0.3
NORMS = ("post", "pre")


def initialize(linear: nn.Linear) -> None:
    """Initialize with Xavier-uniform weights and zero bias, so that sets stay different.

    With torch's default, the poolings of SNE reduce the difference between two networks to a
    thousandth of the output, and training does not start. A layer with scalar input keeps torch's
    weights and gets a small bias: with zero bias the layer norm of w x is the sign of x, and with a
    bias as large as the weights all but large values give nearly the same result.
    """
    if linear.in_features > 1:
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    else:
        nn.init.uniform_(linear.bias, -SCALAR_BIAS, SCALAR_BIAS)


class MAB(nn.Module):
    """Multihead attention block (MAB): elements of X attend to the set Y.

    MAB(X, Y) = LayerNorm(A + rFF(A)) with A = LayerNorm(X W + Multihead(X, Y, Y)); with
    `norm="pre"` A + rFF(LayerNorm(A)) with A = X + Multihead(LayerNorm(X), Y', Y') and
    Y' = LayerNorm(Y), all of one width.
    """

    def __init__(
        self,
        query_width: int,
        set_width: int,
        width: int,
        heads: int,
        norm: str = "post",
        shared_queries: bool = False,
    ) -> None:
        """Make the block.

        Args:
            query_width: width of the elements of X.
            set_width: width of the elements of Y.
            width: H, output width.
            heads: number of heads; divides the width; 0 takes means in place of attention.
            norm: position of the layer norms, one of `NORMS`.
            shared_queries: whether all sets have the same few queries; results are equal either
                way.

        Raises:
            ValueError: if heads do not divide the width, the norm is unknown, or norm is "pre" and
                the widths differ.
        """
        super().__init__()
        if width < 1 or heads < 0 or (heads and width % heads):
            raise ValueError(
                f"heads must divide width or be 0, got width {width!r} and heads {heads!r}"
            )
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        if norm == "pre" and not query_width == set_width == width:
            raise ValueError(f"norm 'pre' needs one width, got {query_width, set_width, width}")
        self.heads, self.pre = heads, norm == "pre"
        self.unprojected = heads > 0 and (shared_queries or set_width <= width // heads)
        self.query = nn.Linear(query_width, width)
        self.key = nn.Linear(set_width, width) if heads else None
        self.value = nn.Linear(set_width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        for linear in (self.query, self.key, self.value, self.feed_forward):
            if linear is not None:
                initialize(linear)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to sets.

        Args:
            x: queries, (M, Q, I) or (1, Q, I).
            y: sets, (M, S, I).
            mask: mask of elements of the sets, (M, S), bool; None without padding.

        Returns:
            Results of the queries, (M, Q, H).
        """
        if self.pre:
            normal = self.attention_norm(x)
            attended_to = normal if x is y else self.attention_norm(y)
            hidden = x + self._attend(self.query(normal), attended_to, mask)
            return hidden + torch.relu(self.feed_forward(self.norm(hidden)))
        query = self.query(x)
        hidden = self.attention_norm(query + self._attend(query, y, mask))
        return self.norm(hidden + torch.relu(self.feed_forward(hidden)))

    def _attend(self, query: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Results (M, Q, H) of the attention of projected queries (M or 1, Q, H)."""
        if self.key is None:
            return self.value(set_mean(y, mask))[:, None]
        keys = None if mask is None else mask[:, None, None, :]
        if self.unprojected:
            return self._attend_to_elements(query, y, keys)
        attended = fused_attention(
            self._split_heads(query.expand(len(y), -1, -1)),
            self._split_heads(self.key(y)),
            self._split_heads(self.value(y)),
            keys,
        )
        return attended.transpose(1, 2).flatten(2)

    def _attend_to_elements(self, query: Tensor, y: Tensor, keys: Tensor | None) -> Tensor:
        """The same without projected sets; the heads of a query follow one another."""
        assert self.key is not None
        key, value = (
            torch.block_diag(*linear.weight.unflatten(0, (self.heads, -1)))  # (H, heads * I)
            for linear in (self.key, self.value)
        )
        queries = (query @ key).expand(len(y), -1, -1).unflatten(2, (self.heads, -1))
        elements, scale = y[:, None], (self.heads / query.shape[-1]) ** 0.5
        attended = fused_attention(queries.flatten(1, 2)[:, None], elements, elements, keys, scale)
        attended = attended.reshape(len(y), query.shape[1], -1)  # (M, Q, heads * I)
        return functional.linear(attended, value, self.value.bias)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(M, S, H) to (M, heads, S, H / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SAB(nn.Module):
    """Set attention block (SAB): SAB(X) = MAB(X, X)."""

    def __init__(self, width_in: int, width: int, heads: int, norm: str = "post") -> None:
        """Make the block.

        Args:
            width_in: I, input width.
            width: H, output width.
            heads: number of heads; divides the width; 0 takes means.
            norm: position of the layer norms, one of `NORMS`.
        """
        super().__init__()
        self.block = MAB(width_in, width_in, width, heads, norm)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map sets to sets.

        Args:
            x: sets, (M, S, I).
            mask: mask of elements, (M, S), bool; None without padding.

        Returns:
            Sets, (M, S, H).
        """
        return self.block(x, x, mask)


class SetToSet(nn.Module):
    """Stack of set attention blocks, Phi of SNE; the paper has two blocks."""

    def __init__(
        self, width_in: int, width: int, heads: int, blocks: int = 2, norm: str = "post"
    ) -> None:
        """Make the blocks.

        Args:
            width_in: I, input width.
            width: H, output width.
            heads: number of heads; divides the width; 0 takes means.
            blocks: number of blocks.
            norm: position of the layer norms, one of `NORMS`.
        """
        super().__init__()
        widths = [width_in] + [width] * (blocks - 1)
        self.blocks = nn.ModuleList(SAB(width_in, width, heads, norm) for width_in in widths)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map sets to sets.

        Args:
            x: sets, (M, S, I).
            mask: mask of elements, (M, S), bool; None without padding.

        Returns:
            Sets, (M, S, H).
        """
        for block in self.blocks:
            x = block(x, mask)
        return x


class PMA(nn.Module):
    """Pooling by multihead attention (PMA), Gamma of SNE: MAB(seed, rFF(X)) with one seed."""

    def __init__(self, width: int, heads: int, norm: str = "post") -> None:
        """Make the seed, Xavier-uniform as in the published code, and the block.

        Args:
            width: H, width of elements and vectors.
            heads: number of heads; divides the width; 0 takes means.
            norm: position of the layer norms, one of `NORMS`.
        """
        super().__init__()
        self.seed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, width)))
        self.feed_forward = nn.Linear(width, width)
        self.block = MAB(width, width, width, heads, norm, shared_queries=True)
        initialize(self.feed_forward)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map sets to vectors.

        Args:
            x: sets, (M, S, H).
            mask: mask of elements, (M, S), bool; None without padding.

        Returns:
            Vectors, (M, H).
        """
        return self.block(self.seed, torch.relu(self.feed_forward(x)), mask)[:, 0]


def set_mean(sets: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the elements of each set.

    Args:
        sets: sets, (M, S, I).
        mask: mask of elements, (M, S), bool; None without padding.

    Returns:
        Means, (M, I).
    """
    if mask is None:
        return sets.mean(dim=1)
    return torch.where(mask[..., None], sets, 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
