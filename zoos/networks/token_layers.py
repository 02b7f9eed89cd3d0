"""The layers of an architecture that make, change or join tokens."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..errors import ZooFormatError
from . import modules
from .layer_kind import LayerKind, Shape, image_shape, token_shape

POOL_MODES = ("mean", "first")


@dataclass(frozen=True, kw_only=True)
class Tokens(LayerKind):
    """Every position of an image as a token."""

    kind: ClassVar[str] = "tokens"

    def output_shape(self, shape: Shape) -> Shape:
        """(height * width, channels)."""
        channels, height, width = image_shape(shape, self.kind)
        return height * width, channels

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.Tokens()


@dataclass(frozen=True, kw_only=True)
class PositionEmbedding(LayerKind):
    """A learned vector added to every token, after a learned class token if asked for."""

    kind: ClassVar[str] = "position_embedding"
    class_token: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """(tokens, width), one token more with a class token."""
        tokens, width = token_shape(shape, self.kind)
        return tokens + self.class_token, width

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        tokens, width = shape
        return modules.PositionEmbedding(tokens, width, self.class_token)


@dataclass(frozen=True, kw_only=True)
class Attention(LayerKind):
    """Multi-head self-attention with biases."""

    kind: ClassVar[str] = "attention"
    heads: int

    def output_shape(self, shape: Shape) -> Shape:
        """The shape, unchanged.

        Raises:
            ZooFormatError: if the heads do not divide the width.
        """
        _, width = token_shape(shape, self.kind)
        if width % self.heads:
            raise ZooFormatError(f"attention: {self.heads} heads do not divide the width {width}")
        return shape

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.Attention(shape[1], self.heads)


@dataclass(frozen=True, kw_only=True)
class CausalAttention(Attention):
    """Multi-head self-attention in which a token sees itself and the tokens before it."""

    kind: ClassVar[str] = "causal_attention"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.Attention(shape[1], self.heads, causal=True)


@dataclass(frozen=True, kw_only=True)
class Embedding(LayerKind):
    """A learned vector of every token of a vocabulary; the input holds the tokens' numbers."""

    kind: ClassVar[str] = "embedding"
    vocabulary: int
    width: int

    def output_shape(self, shape: Shape) -> Shape:
        """(tokens, width).

        Raises:
            ZooFormatError: if the input is no row of token numbers.
        """
        if len(shape) != 1:
            raise ZooFormatError(f"embedding needs token numbers (tokens,), got shape {shape}")
        return shape[0], self.width

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.TokenEmbedding(self.vocabulary, self.width)


@dataclass(frozen=True, kw_only=True)
class TokenPool(LayerKind):
    """The mean of all tokens, or the first one (the class token)."""

    kind: ClassVar[str] = "token_pool"
    mode: str = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown mode."""
        if self.mode not in POOL_MODES:
            raise ZooFormatError(f"token_pool: mode must be one of {POOL_MODES}, got {self.mode!r}")

    def output_shape(self, shape: Shape) -> Shape:
        """(width,)."""
        return (token_shape(shape, self.kind)[1],)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.TokenPool(self.mode)
