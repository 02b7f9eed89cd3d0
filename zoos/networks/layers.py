"""The layers of an architecture as data, with their output shapes and torch modules.

Layers of tokens are in `token_layers`; layers inside a `Residual` are of the same kinds as all
others.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..errors import ZooFormatError
from . import modules
from .layer_kind import ACTIVATIONS, LayerKind, Shape, image_shape
from .token_layers import (
    Attention,
    CausalAttention,
    Embedding,
    PositionEmbedding,
    TokenPool,
    Tokens,
)


@dataclass(frozen=True, kw_only=True)
class Conv(LayerKind):
    """2-D convolution; a square kernel, no padding by default."""

    kind: ClassVar[str] = "conv"
    out: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        _, height, width = image_shape(shape, self.kind)
        return self.out, self._side(height), self._side(width)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.Conv2d(shape[0], self.out, self.kernel, self.stride, self.padding, bias=self.bias)

    def _side(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class MaxPool(LayerKind):
    """Maximum over squares of `size` without overlap; remaining rows and columns are dropped."""

    kind: ClassVar[str] = "max_pool"
    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        channels, height, width = image_shape(shape, self.kind)
        return channels, height // self.size, width // self.size

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.MaxPool2d(self.size)


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(LayerKind):
    """Mean over all positions of an image."""

    kind: ClassVar[str] = "global_avg_pool"

    def output_shape(self, shape: Shape) -> Shape:
        """(channels,)."""
        return (image_shape(shape, self.kind)[0],)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.GlobalAvgPool()


@dataclass(frozen=True, kw_only=True)
class Linear(LayerKind):
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
        """See `LayerKind`."""
        return nn.Linear(shape[-1], self.out)


@dataclass(frozen=True, kw_only=True)
class Flatten(LayerKind):
    """All features in one dimension, channels first."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        """(features,)."""
        return (math.prod(shape),)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.Flatten()


@dataclass(frozen=True, kw_only=True)
class Activation(LayerKind):
    """The model's own activation function."""

    kind: ClassVar[str] = "activation"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`.

        Raises:
            ValueError: if the activation is unknown.
        """
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
        return ACTIVATIONS[activation]()


@dataclass(frozen=True, kw_only=True)
class Sine(LayerKind):
    """sin(omega x): the activation of SIREN, independent of the model's activation."""

    kind: ClassVar[str] = "sine"
    omega: float = 30.0

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.Sine(self.omega)


@dataclass(frozen=True, kw_only=True)
class Offset(LayerKind):
    """x + value with a fixed value; the published implicit neural representations add 0.5."""

    kind: ClassVar[str] = "offset"
    value: float

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return modules.Offset(self.value)


@dataclass(frozen=True, kw_only=True)
class Dropout(LayerKind):
    """Dropout with the model's own rate; the layer exists at rate 0 too."""

    kind: ClassVar[str] = "dropout"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.Dropout(dropout)


@dataclass(frozen=True, kw_only=True)
class BatchNorm(LayerKind):
    """Batch normalisation of every channel, with torch's momentum (0.1) and eps (1e-5)."""

    kind: ClassVar[str] = "batch_norm"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.BatchNorm2d(image_shape(shape, self.kind)[0])


@dataclass(frozen=True, kw_only=True)
class LayerNorm(LayerKind):
    """Layer normalisation of every token, or of the features, with torch's eps (1e-5)."""

    kind: ClassVar[str] = "layer_norm"

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """See `LayerKind`."""
        return nn.LayerNorm(shape[-1])


@dataclass(frozen=True, kw_only=True)
class Residual(LayerKind):
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
        """See `LayerKind`."""
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
