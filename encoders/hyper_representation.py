"""Hyper-representations: an autoencoder of whole networks, one token per neuron.

Sources: Schürholt et al. 2021, arXiv:2110.15288, and 2022, arXiv:2209.14733. A linear layer per
network layer embeds the weights and bias of each neuron. A transformer mixes the tokens, which are
compressed into one latent vector. The decoder mirrors the encoder. Differs from the published code,
which has two defects: there compression "token" has no effect, and with
`transformer_type="pytorch"` attention is across the batch; here it is always between the tokens of
a model. Blocks normalise before attention, as the published code does by default.

Shape letters: B models in the batch, N tokens, S values per token, H width, Z latent size.
"""

import torch
from torch import Tensor, nn

from ..zoos.networks.layer_table import LayerTable
from ..zoos.tokens.neurons import Neurons
from .parts.blocks import Transformer

COMPRESSIONS = ("linear", "token", "average")
BOTTLENECKS = ("linear", "bounded")
POSITION_SCALE = 0.02


class LayerEmbeddings(nn.Module):
    """One linear layer per network layer, between the values of its tokens and the width H."""

    def __init__(self, mask: Tensor, layer: Tensor, width: int, inverse: bool) -> None:
        """Make the linear layers.

        Args:
            mask: mask of real values, which come first in a token, (N, S), bool.
            layer: layer index of every token, (N,); the tokens of a layer are side by side.
            width: H, width of the embedded tokens.
            inverse: direction; True maps embedded tokens to values, False values to tokens.
        """
        super().__init__()
        _, counts = layer.unique_consecutive(return_counts=True)
        self.counts = counts.tolist()
        firsts = (counts.cumsum(0) - counts).tolist()
        self.sizes = [int(mask[first].sum()) for first in firsts]
        self.padded = mask.shape[1]
        self.linears = nn.ModuleList(
            nn.Linear(*((width, size) if inverse else (size, width))) for size in self.sizes
        )

    def embed(self, values: Tensor) -> Tensor:
        """Map (B, N, S) to (B, N, H)."""
        parts = zip(values.split(self.counts, 1), self.sizes, self.linears, strict=True)
        return torch.cat([linear(part[..., :size]) for part, size, linear in parts], 1)

    def values(self, x: Tensor) -> Tensor:
        """Map (B, N, H) to (B, N, S), zero in the padding."""
        parts = zip(x.split(self.counts, 1), self.sizes, self.linears, strict=True)
        made = [
            nn.functional.pad(linear(part), (0, self.padded - size)) for part, size, linear in parts
        ]
        return torch.cat(made, 1)


class HyperRepresentation(nn.Module):
    """Autoencoder of networks of one architecture.

    Attributes:
        reads: input that a loader gives it, layer sets of `tokenizer`.
        latent: Z, latent size.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders import HyperRepresentation
        >>> train = load_zoo(ZOO, split="train")
        >>> neurons = HyperRepresentation.tokenizer(train.layer_table)
        >>> mask, layer = neurons.shared["mask"], neurons.shared["tensor"]
        >>> encoder = HyperRepresentation(mask, layer, latent=2, width=8, heads=2, blocks=1)
        >>> encoder.encode(neurons(train.weights())["values"]).shape
        torch.Size([6, 2])
    """

    reads = "layer_sets"

    def __init__(
        self,
        mask: Tensor,
        layer: Tensor,
        *,
        latent: int = 64,
        width: int = 64,
        heads: int = 4,
        blocks: int = 2,
        feed_forward: int | None = None,
        dropout: float = 0.0,
        compression: str = "linear",
        bottleneck: str = "bounded",
    ) -> None:
        """Make the autoencoder.

        Args:
            mask: mask of real values, which come first in a token, (N, S), bool.
            layer: layer index of every token, (N,); the tokens of a layer are side by side.
            latent: Z, latent size.
            width: H, width of the embedded tokens.
            heads: number of heads of every attention.
            blocks: number of blocks of the encoder, and of the decoder.
            feed_forward: width of the feed-forward layers; None takes 2 H.
            dropout: dropout rate in training mode.
            compression: method that makes one vector of the tokens: "linear" concatenates them;
                "token" adds one token that attends to the others; "average" averages them.
            bottleneck: range of the latent vector: "bounded" is within -1 and 1 by tanh; "linear"
                is unbounded.

        Raises:
            ValueError: if an option is unknown, or a size is below 1.
        """
        super().__init__()
        if compression not in COMPRESSIONS or bottleneck not in BOTTLENECKS or latent < 1:
            raise ValueError(
                f"compression must be one of {COMPRESSIONS}, bottleneck one of {BOTTLENECKS} and "
                f"latent at least 1, got {compression!r}, {bottleneck!r} and {latent!r}"
            )
        self.latent, self.compression, self.bounded = latent, compression, bottleneck == "bounded"
        tokens, hidden = len(mask), feed_forward or 2 * width
        self.embedding = LayerEmbeddings(mask, layer, width, inverse=False)
        self.position = nn.Parameter(POSITION_SCALE * torch.randn(tokens, width))
        self.first = nn.Parameter(POSITION_SCALE * torch.randn(1, 1, width))
        self.encoder = Transformer(width, heads, blocks, hidden, dropout)
        self.compress = nn.Linear(width * (tokens if compression == "linear" else 1), latent)
        self.decompress = nn.Linear(latent, tokens * width)
        self.decoder_position = nn.Parameter(POSITION_SCALE * torch.randn(tokens, width))
        self.decoder = Transformer(width, heads, blocks, hidden, dropout)
        self.output = LayerEmbeddings(mask, layer, width, inverse=True)

    @staticmethod
    def tokenizer(layer_table: LayerTable) -> Neurons:
        """Make the tokenizer of the layer sets that the encoder reads: one token per neuron."""
        return Neurons(layer_table)

    def encode(self, values: Tensor) -> Tensor:
        """Map tokens (B, N, S) to latent vectors (B, Z)."""
        x = self.embedding.embed(values) + self.position
        if self.compression == "token":
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        x = self.encoder(x)
        compressed = {"linear": x.flatten(1), "token": x[:, 0], "average": x.mean(1)}
        latent = self.compress(compressed[self.compression])
        return latent.tanh() if self.bounded else latent

    def decode(self, latent: Tensor) -> Tensor:
        """Map latent vectors (B, Z) to tokens (B, N, S)."""
        x = self.decompress(latent).unflatten(1, self.decoder_position.shape)
        return self.output.values(self.decoder(x + self.decoder_position))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens (B, N, S) to latent vectors (B, Z) and reconstructed tokens (B, N, S)."""
        latent = self.encode(values)
        return latent, self.decode(latent)
