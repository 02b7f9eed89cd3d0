"""SANE: an autoencoder of networks as sequences of tokens, window by window.

Source: Schürholt et al. 2024, arXiv 2406.09997. Every token keeps a latent vector of its own, so
that a network of any size is encoded in windows. A token's code says where it is: its index n among
all tokens, the depth l of its layer and its index k in the layer (`RowChunks` also numbers as the
published code does, where l counts matrices and k is the neuron); half of the width holds the sum
of the codes of n and l, half the code of k. Differs from the published code: tokens beyond the
ends of the network, which a halo may reach, are hidden from the attention.

Shape letters: B windows in the batch, W tokens of a window, S values per token, H width, Z latent
size per token.
"""

import torch
from torch import Tensor, nn

from .parts.blocks import Transformer

POSITION_SCALE = 0.02


class PositionCodes(nn.Module):
    """Learned codes of (n, l, k)."""

    def __init__(self, sizes: tuple[int, int, int], width: int) -> None:
        """Make tables for numbers below `sizes`; `width` is even."""
        super().__init__()
        self.sizes = sizes
        tables = [nn.Embedding(size, width // 2) for size in sizes]
        for table in tables:
            nn.init.normal_(table.weight, std=POSITION_SCALE)
        self.tables = nn.ModuleList(tables)

    def forward(self, position: Tensor) -> Tensor:
        """Map (..., 3) to (..., H)."""
        n, level, k = (
            table(part) for table, part in zip(self.tables, position.unbind(-1), strict=True)
        )
        return torch.cat([n + level, k], -1)


class SANE(nn.Module):
    """The autoencoder of windows.

    Attributes:
        latent: Z.
    """

    def __init__(
        self,
        token_size: int,
        positions: tuple[int, int, int],
        *,
        latent: int = 16,
        width: int = 64,
        heads: int = 4,
        blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        """Make an autoencoder; the paper has widths of 1024 to 2048 and latents of 128.

        Args:
            token_size: S.
            positions: how many n, l and k there are.
            latent: Z.
            width: H, even.
            heads: of every attention.
            blocks: of the encoder, and as many of the decoder.
            dropout: rate, while training.

        Raises:
            ValueError: if the width is odd or a size below 1.
        """
        super().__init__()
        if width % 2 or min(token_size, latent, *positions) < 1:
            raise ValueError(
                f"width must be even and sizes at least 1, got width {width!r}, token_size "
                f"{token_size!r}, latent {latent!r}, positions {positions!r}"
            )
        self.latent = latent
        self.embedding = nn.Linear(token_size, width)
        self.position = PositionCodes(positions, width)
        self.encoder = Transformer(width, heads, blocks, 4 * width, dropout)
        self.compress = nn.Linear(width, latent)
        self.decompress = nn.Linear(latent, width)
        self.decoder_position = PositionCodes(positions, width)
        self.decoder = Transformer(width, heads, blocks, 4 * width, dropout)
        self.output = nn.Linear(width, token_size)

    def encode(self, values: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Map windows to latent vectors.

        Args:
            values: (B, W, S).
            position: (B, W, 3) or (W, 3), int64.
            mask: (B, W, S) or (W, S), bool, true on real values.

        Returns:
            (B, W, Z).
        """
        x = self.embedding(values) + self.position(position)
        return self.compress(self.encoder(x, _padding(mask, len(values))))

    def decode(self, latent: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Map latent vectors (B, W, Z) to values (B, W, S); other arguments as for `encode`."""
        x = self.decompress(latent) + self.decoder_position(position)
        return self.output(self.decoder(x, _padding(mask, len(latent))))

    def forward(self, values: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors (B, W, Z) and reconstructed values (B, W, S)."""
        latent = self.encode(values, position, mask)
        return latent, self.decode(latent, position, mask)


def _padding(mask: Tensor, windows: int) -> Tensor | None:
    """(B, W), true on tokens without a real value; None if there are none."""
    empty = ~mask.any(-1)
    return empty.expand(windows, -1) if bool(empty.any()) else None
