"""Shared modules of encoders: perceptrons, encodings of positions, and a transformer.

torch's `nn.TransformerEncoder` copies one block, so all blocks start with equal weights. By default
it reads (tokens, batch), and published code therefore attended across the batch. Here every block
is initialized by itself, and the batch comes first.

Shape letters: B models in the batch, N tokens, P positions, H width.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ENCODING_STEP = 1000  # distance between the starts of two encodings


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Make linear layers between consecutive widths, with ReLU between the layers.

    Raises:
        ValueError: if a width is below 1.
    """
    if min(widths) < 1:
        raise ValueError(f"widths and outputs must be at least 1, got {list(widths)!r}")
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normalized_perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Make a perceptron that starts with a batch norm.

    Averages over many values differ little between two networks, at the start by a thousandth of
    their size. Without the norm training often stays at the constant prediction. In training mode
    the norm needs at least two models.
    """
    return nn.Sequential(nn.BatchNorm1d(widths[0]), *perceptron(widths))


def encoding(positions: Tensor, width: int, start: int = 0) -> Tensor:
    """Encode whole numbers (P,) as (P, width), float32.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. As there, the encoded vectors
    outweigh their encodings by the root of the width.

    Args:
        positions: whole numbers, (P,).
        width: width of the encoding.
        start: number of the encoding, different for encodings that are summed: sums of equal
            encodings would confuse (type 0, level 1) with (type 1, level 0).
    """
    count = (width + 1) // 2
    frequency = 1e-4 ** (torch.arange(count, device=positions.device) / count)
    angle = (positions + start * ENCODING_STEP)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width] / width**0.5


class Transformer(nn.Module):
    """Blocks of self-attention and a feed-forward layer (GELU), with a layer norm at the end."""

    def __init__(
        self, width: int, heads: int, blocks: int, feed_forward: int, dropout: float = 0.0
    ) -> None:
        """Make the blocks.

        Args:
            width: H, width of a token.
            heads: number of attention heads; divides the width.
            blocks: number of blocks.
            feed_forward: width of the feed-forward layers.
            dropout: dropout rate in training mode.

        Raises:
            ValueError: if heads do not divide the width, or a number is below 1.
        """
        super().__init__()
        if min(width, heads, blocks, feed_forward) < 1 or width % heads:
            raise ValueError(
                f"width, heads, blocks and feed_forward must be at least 1, and heads divide "
                f"width, got {width!r}, {heads!r}, {blocks!r} and {feed_forward!r}"
            )
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, feed_forward, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map (B, N, H) to (B, N, H).

        Args:
            x: tokens, (B, N, H).
            padding: mask of padding, (B, N), bool; other tokens do not attend to padding.
        """
        for block in self.blocks:
            x = block(x, src_key_padding_mask=padding)
        return self.norm(x)
