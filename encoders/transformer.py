"""A stack of pre-norm transformer blocks, as encoder and decoder of autoencoders share it.

torch's `nn.TransformerEncoder` copies one block, so that all start from equal weights, and it reads
(tokens, batch) unless told otherwise, by which published code attended across the batch. Here every
block is drawn by itself and the batch comes first.

Shape letters: B models in the batch, N tokens, H width.
"""

from torch import Tensor, nn


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
