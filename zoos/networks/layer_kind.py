"""What every kind of layer states of itself, and the activation functions of models.

Shapes are (channels, height, width), (tokens, width) or (features,), without the batch.
"""

from collections.abc import Callable
from typing import ClassVar

from torch import nn

from ..errors import ZooFormatError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}

Shape = tuple[int, ...]


class LayerKind:
    """A layer as data: its name in architectures, output shape and torch module."""

    kind: ClassVar[str]

    def output_shape(self, shape: Shape) -> Shape:
        """The shape after the layer; unchanged unless the layer says otherwise.

        Args:
            shape: input shape, without the batch.

        Raises:
            ZooFormatError: if the layer does not fit the shape.
        """
        return shape

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """Make the torch module of the layer.

        Args:
            shape: input shape, without the batch.
            activation: name of the model's activation, a key of `ACTIVATIONS`.
            dropout: rate of the model's dropout layers, in [0, 1).

        Raises:
            NotImplementedError: unless a layer defines it.
        """
        raise NotImplementedError(f"layer {self.kind!r} has no torch module")


def image_shape(shape: Shape, kind: str) -> Shape:
    """The shape, if it is that of an image.

    Args:
        shape: input shape of a layer, without the batch.
        kind: kind of the layer, for the error.

    Raises:
        ZooFormatError: if the shape is not (channels, height, width).
    """
    if len(shape) != 3:
        raise ZooFormatError(f"{kind} needs an image (channels, height, width), got shape {shape}")
    return shape


def token_shape(shape: Shape, kind: str) -> Shape:
    """The shape, if it is that of tokens.

    Args:
        shape: input shape of a layer, without the batch.
        kind: kind of the layer, for the error.

    Raises:
        ZooFormatError: if the shape is not (tokens, width).
    """
    if len(shape) != 2:
        raise ZooFormatError(f"{kind} needs tokens (tokens, width), got shape {shape}")
    return shape
