"""Parts that several encoders are made of: perceptrons, encodings of positions, a transformer.

torch's `nn.TransformerEncoder` copies one block, so that all start from equal weights, and it reads
(tokens, batch) unless told otherwise, by which published code attended across the batch. Here every
block is drawn by itself and the batch comes first.

Shape letters: B models in the batch, N tokens, P positions, H width.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ENCODING_STEP = 1000  # between the starts of two encodings


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers between consecutive widths, with ReLU between them and none at the end.

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
    """A perceptron behind a batch norm.

    What an encoder averages over many values differs little between two networks, a thousandth of
    its size at the start, and training often stays at the constant without the norm. In training
    mode it needs at least two models.
    """
    return nn.Sequential(nn.BatchNorm1d(widths[0]), *perceptron(widths))


def encoding(positions: Tensor, width: int, start: int = 0) -> Tensor:
    """Encode whole numbers (P,) as (P, width), float32.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. As there, what is encoded
    outweighs its encoding by the root of the width.

    Args:
        positions: (P,), whole numbers.
        width: of the encoding.
        start: encodings to be summed count from different starts, because sums of equal ones
            would confuse (type 0, level 1) with (type 1, level 0).
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
            x: the tokens.
            padding: (B, N), bool, true on tokens that the others must not look at.
        """
        for block in self.blocks:
            x = block(x, src_key_padding_mask=padding)
        return self.norm(x)
