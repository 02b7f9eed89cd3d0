"""SANE (sequential autoencoder for neural embeddings): networks as sequences of tokens, in windows.

Source: Schürholt et al. 2024, arXiv:2406.09997. Every token has its own latent vector, so networks
of any size are encoded in windows. The code of a token gives its position: its index n among all
tokens, the depth l of its layer and its index k in the layer. (`RowChunks` can also number tokens
as the published code does: there l counts matrices, and k is the neuron.) One half of the width
holds the sum of the codes of n and l, the other half the code of k. Differs from the published
code: tokens beyond the ends of the network, which a halo can reach, are masked in the attention.

Shape letters: B windows in the batch, W tokens of a window, S values per token, H width, Z latent
size per token.
"""

import torch
from torch import Tensor, nn

from ..zoos.networks.layer_table import LayerTable
from ..zoos.tokens.neurons import RowChunks
from .parts.blocks import Transformer

POSITION_SCALE = 0.02


class PositionCodes(nn.Module):
    """Learned codes of positions (n, l, k)."""

    def __init__(self, sizes: tuple[int, int, int], width: int) -> None:
        """Make the tables of codes.

        Args:
            sizes: number of possible values of n, l and k.
            width: H, even.
        """
        super().__init__()
        self.sizes = sizes
        tables = [nn.Embedding(size, width // 2) for size in sizes]
        for table in tables:
            nn.init.normal_(table.weight, std=POSITION_SCALE)
        self.tables = nn.ModuleList(tables)

    def forward(self, position: Tensor) -> Tensor:
        """Map positions (..., 3) to codes (..., H)."""
        n, level, k = (
            table(part) for table, part in zip(self.tables, position.unbind(-1), strict=True)
        )
        return torch.cat([n + level, k], -1)


class SANE(nn.Module):
    """Autoencoder of windows.

    Attributes:
        reads: input that a loader gives it, windows of the tokens of `tokenizer`.
        latent: Z, latent size per token.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders import SANE
        >>> train = load_zoo(ZOO, split="train")
        >>> tokens = SANE.tokenizer(train.layer_table, 8)(train.weights([0, 1]))
        >>> sane = SANE(8, (20, 5, 20), latent=2, width=8, heads=2, blocks=1)
        >>> sane.encode(tokens["values"], tokens["position"], tokens["mask"]).shape
        torch.Size([2, 15, 2])
    """

    reads = "windows"

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
        """Make the autoencoder; the paper has widths of 1024 to 2048 and latent sizes of 128.

        Args:
            token_size: S, values per token.
            positions: number of possible values of n, l and k.
            latent: Z, latent size per token.
            width: H, even.
            heads: number of heads of every attention.
            blocks: number of blocks of the encoder, and of the decoder.
            dropout: dropout rate in training mode.

        Raises:
            ValueError: if the width is odd, or a size is below 1.
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

    @staticmethod
    def tokenizer(layer_table: LayerTable, size: int, positions: str = "running") -> RowChunks:
        """Make the tokenizer of the tokens in the windows.

        Args:
            layer_table: layer table of the architecture.
            size: S, values per token.
            positions: kind of position, one of `tokenizers.POSITIONS`.
        """
        return RowChunks(layer_table, size, positions)

    def encode(self, values: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Map windows to latent vectors.

        Args:
            values: values of the tokens, (B, W, S).
            position: positions (n, l, k) of the tokens, (B, W, 3) or (W, 3), int64.
            mask: mask of real values, (B, W, S) or (W, S), bool.

        Returns:
            Latent vectors, (B, W, Z).
        """
        x = self.embedding(values) + self.position(position)
        return self.compress(self.encoder(x, _padding(mask, len(values))))

    def decode(self, latent: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Map latent vectors to windows.

        Args:
            latent: latent vectors, (B, W, Z).
            position: positions (n, l, k) of the tokens, (B, W, 3) or (W, 3), int64.
            mask: mask of real values, (B, W, S) or (W, S), bool.

        Returns:
            Reconstructed values, (B, W, S).
        """
        x = self.decompress(latent) + self.decoder_position(position)
        return self.output(self.decoder(x, _padding(mask, len(latent))))

    def forward(self, values: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows and reconstruct them.

        Args:
            values: values of the tokens, (B, W, S).
            position: positions (n, l, k) of the tokens, (B, W, 3) or (W, 3), int64.
            mask: mask of real values, (B, W, S) or (W, S), bool.

        Returns:
            Latent vectors, (B, W, Z), and reconstructed values, (B, W, S).
        """
        latent = self.encode(values, position, mask)
        return latent, self.decode(latent, position, mask)


def _padding(mask: Tensor, windows: int) -> Tensor | None:
    """Mask of tokens without a real value, (B, W); None if there are none."""
    empty = ~mask.any(-1)
    return empty.expand(windows, -1) if bool(empty.any()) else None
