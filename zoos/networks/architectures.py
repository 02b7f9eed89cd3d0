"""Architectures as data: a list of layers from which module and layer table are made.

An architecture holds what all its models share. What differs by model without changing the
layer table, the activation and the dropout rate, is a hyper-parameter given to `module`.
Layer names count by kind (`conv1`, `conv2`, `linear1`), so that a dropout layer never shifts
the keys of a state dict, as it does in the published Model Zoos code.

Shapes are (channels, height, width) or (features,), without the batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

import torch
from torch import nn

from ..errors import ZooFormatError
from .layer_kind import Shape
from .layer_table import LayerTable
from .layers import LAYERS, Layer, Residual, layer_names, sequential, shapes

LARGEST = 2**31 - 1  # of any number in an architecture, so that sizes fit torch's integers
DEEPEST = 16  # residuals inside residuals


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
            ZooFormatError: if a key or layer kind is missing or unknown, or a value has another
                type or range than allowed; the message lists what is known.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(spec, Mapping) or set(spec) != wanted:
            raise ZooFormatError(f"architecture must have the keys {sorted(wanted)}, got {spec!r}")
        if not isinstance(spec["layers"], list) or not isinstance(spec["input_shape"], list):
            raise ZooFormatError("architecture: layers and input_shape must be lists")
        architecture = cls(
            name=str(spec["name"]),
            input_shape=tuple(_whole(number, "input_shape", 1) for number in spec["input_shape"]),
            layers=_layers(spec["layers"], "layers", 0),
        )
        architecture.shapes()
        return architecture

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes an equal architecture."""
        layers = [_layer_json(layer) for layer in self.layers]
        return {"name": self.name, "input_shape": list(self.input_shape), "layers": layers}

    def shapes(self) -> list[Shape]:
        """The input's shape and the shape after every layer.

        Raises:
            ZooFormatError: if a layer does not fit what comes before it.
        """
        return shapes(self.layers, self.input_shape)

    def kinds(self) -> set[str]:
        """The kinds of all layers, those inside residuals too."""
        return _kinds(self.layers)

    def layer_names(self) -> list[str]:
        """The name of every layer in the module, counted by kind from 1."""
        return layer_names(self.layers)

    def module(self, activation: str = "relu", dropout: float = 0.0) -> nn.Sequential:
        """Build the torch module, with torch's default initial weights.

        Args:
            activation: a name in `layers.ACTIVATIONS`.
            dropout: rate in [0, 1) of every dropout layer.
        """
        return sequential(self.layers, self.input_shape, activation, dropout)

    def layer_table(self) -> LayerTable:
        """Where each tensor lies in the flat vector."""
        with torch.device("meta"):  # shapes only: no memory, no draw from torch's generator
            return LayerTable.from_module(self.module())


def _kinds(layers: Sequence[Layer]) -> set[str]:
    inner = (
        _kinds(layer.body) | _kinds(layer.shortcut)
        for layer in layers
        if isinstance(layer, Residual)
    )
    return {layer.kind for layer in layers}.union(*inner)


def _layer_json(layer: Layer) -> dict[str, Any]:
    """{kind, ...}, branches of a residual as lists."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    plain = {
        key: [_layer_json(inner) for inner in value] if isinstance(value, tuple) else value
        for key, value in values.items()
    }
    return {"kind": layer.kind} | plain


def _layers(rows: Any, key: str, depth: int) -> tuple[Layer, ...]:
    if not isinstance(rows, list) or depth > DEEPEST:
        raise ZooFormatError(f"{key} must be a list of layers, at most {DEEPEST} lists deep")
    return tuple(_layer(row, depth) for row in rows)


def _layer(row: Any, depth: int) -> Layer:
    """One layer from its table {kind, ...}."""
    kind = row.get("kind") if isinstance(row, Mapping) else None
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ZooFormatError(f"layer must be a table with kind in {list(LAYERS)}, got {row!r}")
    cls = LAYERS[kind]
    known = {field.name: field for field in fields(cls)}
    given = {key: value for key, value in row.items() if key != "kind"}
    missing = {key for key, field in known.items() if field.default is MISSING} - set(given)
    if set(given) - set(known) or missing:
        raise ZooFormatError(f"layer {row!r}: {cls.kind} takes the keys {list(known)}")
    layer: Layer = cls(**{key: _value(known[key], value, depth) for key, value in given.items()})
    return layer


def _value(field: "Field[Any]", value: Any, depth: int) -> Any:
    """A layer's value, if it has the type of its field."""
    key = field.name
    if field.type is int:
        return _whole(value, key, 0 if key == "padding" else 1)
    if field.type is float:
        return _number(value, key)
    if field.type in (bool, str):
        if type(value) is not field.type:
            name = "true or false" if field.type is bool else "a text"
            raise ZooFormatError(f"{key} must be {name}, got {value!r}")
        return value
    return _layers(value, key, depth + 1)


def _whole(value: Any, key: str, minimum: int) -> int:
    if type(value) is not int or not minimum <= value <= LARGEST:
        raise ZooFormatError(
            f"{key} must be a whole number from {minimum} to {LARGEST}, got {value!r}"
        )
    return value


def _number(value: Any, key: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ZooFormatError(f"{key} must be a finite number, got {value!r}")
    return float(value)
