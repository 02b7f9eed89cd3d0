"""Architectures as data: a list of layers from which module and layer table are made.

An architecture holds what all its models share. What differs by model without changing the
layer table, the activation and the dropout rate, is a hyper-parameter given to `module`.
Layer names count by kind (`conv1`, `conv2`, `linear1`), so that a dropout layer never shifts
the keys of a state dict, as it does in the published Model Zoos code.

Shapes are (channels, height, width) or (features,), without the batch.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import nn

from .errors import ZooFormatError
from .layer_table import LayerTable

LARGEST = 2**31 - 1  # of any number in an architecture, so that sizes fit torch's integers
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Conv:
    """2-D convolution with bias; a square kernel, no padding by default."""

    kind: ClassVar[str] = "conv"
    out: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        _, height, width = _image(shape, self.kind)
        return self.out, self._side(height), self._side(width)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer for an input of `shape`."""
        return nn.Conv2d(shape[0], self.out, self.kernel, self.stride, self.padding)

    def _side(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Maximum over squares of `size`, which do not overlap; a rest is dropped."""

    kind: ClassVar[str] = "max_pool"
    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width) after the layer."""
        channels, height, width = _image(shape, self.kind)
        return channels, height // self.size, width // self.size

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer."""
        return nn.MaxPool2d(self.size)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Fully connected layer with bias."""

    kind: ClassVar[str] = "linear"
    out: int

    def output_shape(self, shape: Shape) -> Shape:
        """(out,)."""
        if len(shape) != 1:
            raise ZooFormatError(f"linear needs a flat input, got shape {shape}: flatten first")
        return (self.out,)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer for an input of `shape`."""
        return nn.Linear(shape[0], self.out)


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """All features in one dimension, channels first."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        """(features,)."""
        return (math.prod(shape),)

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer."""
        return nn.Flatten()


@dataclass(frozen=True, kw_only=True)
class Activation:
    """The model's own activation function."""

    kind: ClassVar[str] = "activation"

    def output_shape(self, shape: Shape) -> Shape:
        """The shape, unchanged."""
        return shape

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer of that name."""
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
        return ACTIVATIONS[activation]()


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Dropout with the model's own rate; stays in place at rate 0."""

    kind: ClassVar[str] = "dropout"

    def output_shape(self, shape: Shape) -> Shape:
        """The shape, unchanged."""
        return shape

    def module(self, shape: Shape, activation: str, dropout: float) -> nn.Module:
        """The torch layer."""
        return nn.Dropout(dropout)


Layer = Conv | MaxPool | Linear | Flatten | Activation | Dropout
LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer for layer in (Conv, MaxPool, Linear, Flatten, Activation, Dropout)
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network's layers, input to output.

    Attributes:
        name: what the field calls it, e.g. "cnn-s".
        input_shape: (channels, height, width) or (features,).
        layers: the layers.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]

    @classmethod
    def from_json(cls, spec: Any) -> "Architecture":
        """Read an architecture from JSON or TOML data.

        Raises:
            ZooFormatError: if a key or layer kind is missing or unknown, or a number is not a
                positive integer; the message lists what is known.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(spec, Mapping) or set(spec) != wanted:
            raise ZooFormatError(f"architecture must have the keys {sorted(wanted)}, got {spec!r}")
        if not isinstance(spec["layers"], list) or not isinstance(spec["input_shape"], list):
            raise ZooFormatError("architecture: layers and input_shape must be lists")
        architecture = cls(
            name=str(spec["name"]),
            input_shape=tuple(_whole(number, "input_shape", 1) for number in spec["input_shape"]),
            layers=tuple(_layer(row) for row in spec["layers"]),
        )
        architecture.shapes()
        return architecture

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes an equal architecture."""
        layers = [{"kind": layer.kind} | asdict(layer) for layer in self.layers]
        return {"name": self.name, "input_shape": list(self.input_shape), "layers": layers}

    def shapes(self) -> list[Shape]:
        """The input's shape and the shape after every layer.

        Raises:
            ZooFormatError: if a layer does not fit what comes before it.
        """
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
            if min(shapes[-1]) < 1:
                raise ZooFormatError(f"{layer} leaves nothing of an input of {shapes[-2]}")
        return shapes

    def layer_names(self) -> list[str]:
        """The name of every layer in the module, counted by kind from 1."""
        counts: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            counts[layer.kind] += 1
            names.append(f"{layer.kind}{counts[layer.kind]}")
        return names

    def module(self, activation: str = "relu", dropout: float = 0.0) -> nn.Sequential:
        """Build the torch module, with torch's default initial weights.

        Args:
            activation: a name in `ACTIVATIONS`.
            dropout: rate in [0, 1) of every dropout layer.
        """
        modules = [
            layer.module(shape, activation, dropout)
            for layer, shape in zip(self.layers, self.shapes(), strict=False)
        ]
        return nn.Sequential(OrderedDict(zip(self.layer_names(), modules, strict=True)))

    def layer_table(self) -> LayerTable:
        """Where each tensor lies in the flat vector."""
        with torch.device("meta"):  # shapes only: no memory, no draw from torch's generator
            return LayerTable.from_module(self.module())


def _layer(row: Any) -> Layer:
    """One layer from its table {kind, ...}."""
    if not isinstance(row, Mapping) or row.get("kind") not in LAYERS:
        raise ZooFormatError(f"layer must be a table with kind in {list(LAYERS)}, got {row!r}")
    cls = LAYERS[row["kind"]]
    known = {field.name: field for field in fields(cls)}
    given = {key: value for key, value in row.items() if key != "kind"}
    missing = {key for key, field in known.items() if field.default is MISSING} - set(given)
    if set(given) - set(known) or missing:
        raise ZooFormatError(f"layer {row!r}: {cls.kind} takes the keys {list(known)}")
    minimum = {"padding": 0}
    return cls(**{key: _whole(value, key, minimum.get(key, 1)) for key, value in given.items()})


def _whole(value: Any, key: str, minimum: int) -> int:
    if type(value) is not int or not minimum <= value <= LARGEST:
        raise ZooFormatError(
            f"{key} must be a whole number from {minimum} to {LARGEST}, got {value!r}"
        )
    return value


def _image(shape: Shape, kind: str) -> Shape:
    if len(shape) != 3:
        raise ZooFormatError(f"{kind} needs an image (channels, height, width), got shape {shape}")
    return shape
