"""The layers of an architecture as data, with their output shapes and torch modules.

Layers inside a `Residual` are of the same kinds as all others.

Shapes are (channels, height, width), (tokens, width) or (features,), without the batch.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..errors import ZooFormatError
from . import modules

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}
POOL_MODES = ("mean", "first")

Shape = tuple[int, ...]


class _Same:
    """A layer that keeps the shape."""

    def output_shape(self, shape: Shape) -> Shape:
        """The shape, unchanged."""
        return shape


@dataclass(frozen=True, kw_only=True)
class Conv:
    """2-D convolution; a square kernel, no padding by default."""

    kind: ClassVar[str] = "conv"
    out: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        _, height, width = _image(shape, self.kind)
        return self.out, self._side(height), self._side(width)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.Conv2d(shape[0], self.out, self.kernel, self.stride, self.padding, bias=self.bias)

    def _side(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Maximum over squares of `size` without overlap; remaining rows and columns are dropped."""

    kind: ClassVar[str] = "max_pool"
    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        channels, height, width = _image(shape, self.kind)
        return channels, height // self.size, width // self.size

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.MaxPool2d(self.size)


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool:
    """Mean over all positions of an image."""

    kind: ClassVar[str] = "global_avg_pool"

    def output_shape(self, shape: Shape) -> Shape:
        """(channels,)."""
        return (_image(shape, self.kind)[0],)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.GlobalAvgPool()


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Fully connected layer with bias, on features or on every token."""

    kind: ClassVar[str] = "linear"
    out: int

    def output_shape(self, shape: Shape) -> Shape:
        """(out,) or (tokens, out).

        Raises:
            ZooFormatError: if the input is an image.
        """
        if len(shape) == 3:
            raise ZooFormatError(f"linear needs a flat input, got shape {shape}: flatten first")
        return (*shape[:-1], self.out)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.Linear(shape[-1], self.out)


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """All features in one dimension, channels first."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        """(features,)."""
        return (math.prod(shape),)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.Flatten()


@dataclass(frozen=True, kw_only=True)
class Activation(_Same):
    """The model's own activation function."""

    kind: ClassVar[str] = "activation"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the activation.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).

        Raises:
            ValueError: if the activation is unknown.
        """
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
        return ACTIVATIONS[activation]()


@dataclass(frozen=True, kw_only=True)
class Sine(_Same):
    """sin(omega x): the activation of SIREN, independent of the model's activation."""

    kind: ClassVar[str] = "sine"
    omega: float = 30.0

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Sine(self.omega)


@dataclass(frozen=True, kw_only=True)
class Offset(_Same):
    """x + value with a fixed value; the published implicit neural representations add 0.5."""

    kind: ClassVar[str] = "offset"
    value: float

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Offset(self.value)


@dataclass(frozen=True, kw_only=True)
class Dropout(_Same):
    """Dropout with the model's own rate; the layer exists at rate 0 too."""

    kind: ClassVar[str] = "dropout"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.Dropout(dropout)


@dataclass(frozen=True, kw_only=True)
class BatchNorm(_Same):
    """Batch normalisation of every channel, with torch's momentum (0.1) and eps (1e-5)."""

    kind: ClassVar[str] = "batch_norm"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.BatchNorm2d(_image(shape, self.kind)[0])


@dataclass(frozen=True, kw_only=True)
class LayerNorm(_Same):
    """Layer normalisation of every token, or of the features, with torch's eps (1e-5)."""

    kind: ClassVar[str] = "layer_norm"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return nn.LayerNorm(shape[-1])


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Every position of an image as a token."""

    kind: ClassVar[str] = "tokens"

    def output_shape(self, shape: Shape) -> Shape:
        """(height * width, channels)."""
        channels, height, width = _image(shape, self.kind)
        return height * width, channels

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Tokens()


@dataclass(frozen=True, kw_only=True)
class PositionEmbedding:
    """A learned vector added to every token, after a learned class token if asked for."""

    kind: ClassVar[str] = "position_embedding"
    class_token: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """(tokens, width), one token more with a class token."""
        tokens, width = _tokens(shape, self.kind)
        return tokens + self.class_token, width

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        tokens, width = shape
        return modules.PositionEmbedding(tokens, width, self.class_token)


@dataclass(frozen=True, kw_only=True)
class Attention(_Same):
    """Multi-head self-attention with biases."""

    kind: ClassVar[str] = "attention"
    heads: int

    def output_shape(self, shape: Shape) -> Shape:
        """The shape, unchanged.

        Raises:
            ZooFormatError: if the heads do not divide the width.
        """
        _, width = _tokens(shape, self.kind)
        if width % self.heads:
            raise ZooFormatError(f"attention: {self.heads} heads do not divide the width {width}")
        return shape

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Attention(shape[1], self.heads)


@dataclass(frozen=True, kw_only=True)
class CausalAttention(Attention):
    """Multi-head self-attention in which a token sees itself and the tokens before it."""

    kind: ClassVar[str] = "causal_attention"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Attention(shape[1], self.heads, causal=True)


@dataclass(frozen=True, kw_only=True)
class Embedding:
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
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.TokenEmbedding(self.vocabulary, self.width)


@dataclass(frozen=True, kw_only=True)
class TokenPool:
    """The mean of all tokens, or the first one (the class token)."""

    kind: ClassVar[str] = "token_pool"
    mode: str = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown mode."""
        if self.mode not in POOL_MODES:
            raise ZooFormatError(f"token_pool: mode must be one of {POOL_MODES}, got {self.mode!r}")

    def output_shape(self, shape: Shape) -> Shape:
        """(width,)."""
        return (_tokens(shape, self.kind)[1],)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.TokenPool(self.mode)


@dataclass(frozen=True, kw_only=True)
class Residual:
    """body(x) + shortcut(x); an empty shortcut adds x itself."""

    kind: ClassVar[str] = "residual"
    body: tuple["Layer", ...]
    shortcut: tuple["Layer", ...] = ()

    def output_shape(self, shape: Shape) -> Shape:
        """The shape after both branches.

        Raises:
            ZooFormatError: if the branches differ in shape.
        """
        body, shortcut = shapes(self.body, shape)[-1], shapes(self.shortcut, shape)[-1]
        if body != shortcut:
            raise ZooFormatError(f"residual: body gives {body} but the shortcut {shortcut}")
        return body

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).
        """
        return modules.Residual(
            sequential(self.body, shape, activation, dropout),
            sequential(self.shortcut, shape, activation, dropout),
        )


Layer = (
    Conv
    | MaxPool
    | GlobalAvgPool
    | Linear
    | Flatten
    | Activation
    | Sine
    | Offset
    | Dropout
    | BatchNorm
    | LayerNorm
    | Tokens
    | PositionEmbedding
    | Attention
    | CausalAttention
    | Embedding
    | TokenPool
    | Residual
)
LAYERS: dict[str, Any] = {layer.kind: layer for layer in Layer.__args__}


def shapes(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """The input's shape and the shape after every layer.

    Args:
        layers: layers, input to output.
        shape: input shape, without the batch.

    Raises:
        ZooFormatError: if a layer does not fit the shape before it.
    """
    found = [shape]
    for layer in layers:
        found.append(layer.output_shape(found[-1]))
        if min(found[-1]) < 1:
            raise ZooFormatError(f"{layer} leaves nothing of an input of {found[-2]}")
    return found


def output_values(layers: Sequence[Layer], shape: Shape) -> int:
    """Number of output values of all layers for one input, those inside residuals included.

    Args:
        layers: layers, input to output.
        shape: input shape, without the batch.
    """
    before, total = shapes(layers, shape), 0
    for layer, given, made in zip(layers, before[:-1], before[1:], strict=True):
        total += math.prod(made)
        if isinstance(layer, Residual):
            total += output_values(layer.body, given) + output_values(layer.shortcut, given)
    return total


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """The name of every layer in its sequence, counted by kind from 1."""
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        counts[layer.kind] += 1
        names.append(f"{layer.kind}{counts[layer.kind]}")
    return names


def sequential(
    layers: Sequence[Layer], shape: Shape, activation: str, dropout: float
) -> nn.Sequential:
    """Make one torch module of all layers.

    Args:
        layers: layers, input to output.
        shape: input shape, without the batch.
        activation: name of the model's activation, a key of `ACTIVATIONS`.
        dropout: rate of the model's dropout layers, in [0, 1).
    """
    made = [
        layer.module(before, activation, dropout)
        for layer, before in zip(layers, shapes(layers, shape), strict=False)
    ]
    return nn.Sequential(OrderedDict(zip(layer_names(layers), made, strict=True)))


def _image(shape: Shape, kind: str) -> Shape:
    if len(shape) != 3:
        raise ZooFormatError(f"{kind} needs an image (channels, height, width), got shape {shape}")
    return shape


def _tokens(shape: Shape, kind: str) -> Shape:
    if len(shape) != 2:
        raise ZooFormatError(f"{kind} needs tokens (tokens, width), got shape {shape}")
    return shape
