"""Permutation groups: the hidden units of an architecture that can be reordered together.

The units of a hidden layer have no order. A network computes the same function after the outputs of
a layer and the inputs of the layers that read them are reordered in the same way. Elementwise
activations, dropout, pooling and tokens keep the units apart, so the order passes through them.
Norms follow the order with their parameters and buffers. Flattening turns a channel of height *
width values into a block of as many inputs. A residual sum adds unit by unit, so the units of both
branches are one group. The heads of an attention can be reordered as wholes. Within a head, queries
and keys are reordered alike, and values by themselves, because attention only compares queries with
keys and averages values.

The units of the input and of the output of a network stay in place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...zoos.errors import UnsuitableError
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Layer, Shape, layer_names, shapes

SIDES = ("out", "in")
PASSING = (
    "max_pool",
    "global_avg_pool",
    "activation",
    "sine",
    "offset",
    "dropout",
    "flatten",
    "tokens",
    "token_pool",
)
_NORM_TENSORS = {
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),
    "layer_norm": ("weight", "bias"),
}


@dataclass(frozen=True)
class Axis:
    """Side of a tensor that has one slice per unit of a group.

    Attributes:
        tensor: name of the tensor in the layer table.
        side: "out", the first dimension, with an equal number of values for each of U units; or
            "in", the second dimension, with K values for each of I units.
    """

    tensor: str
    side: str


@dataclass(frozen=True)
class PermutationGroup:
    """Hidden units that can be reordered, and every axis that must follow.

    Attributes:
        layer: name of the layer that outputs the units; groups of one name reorder heads alike.
        units: U, number of units.
        axes: axes that follow the order. A sum of the outputs of several layers, as in residual
            networks, is one group with the axes of all of these layers.
        heads: number of equal blocks of units that are reordered as wholes; units are reordered
            only within their block.
    """

    layer: str
    units: int
    axes: tuple[Axis, ...]
    heads: int = 1


def hidden_groups(architecture: Architecture) -> tuple[PermutationGroup, ...]:
    """Find the groups of a network, from input to output, without those of its input and output.

    Raises:
        UnsuitableError: if the effect of one of its layers on the order of units is not known.
    """
    walk = _Walk()
    given = _Units("input", _units_of(architecture.input_shape), fixed=True)
    walk.through(architecture.layers, architecture.input_shape, given, "").root.fixed = True
    return tuple(
        PermutationGroup(units.layer, units.count, tuple(units.axes), units.heads)
        for units in walk.found
        if units.root is units and not units.fixed
    )


@dataclass(eq=False)
class _Units:
    """Units that are reordered together; merged units have the same root."""

    layer: str
    count: int
    axes: list[Axis] = field(default_factory=list)
    heads: int = 1
    fixed: bool = False
    merged: "_Units | None" = None

    @property
    def root(self) -> "_Units":
        """The units that hold the axes."""
        return self if self.merged is None else self.merged.root

    def follow(self, layer: str, tensors: Sequence[str], side: str) -> None:
        """Add axes of the tensors of a layer."""
        self.root.axes += [Axis(f"{layer}.{tensor}", side) for tensor in tensors]

    def merge(self, other: "_Units") -> None:
        """Merge units, as a sum does; units that cannot be paired one by one become fixed."""
        one, two = self.root, other.root
        if one is two:
            return
        fixed = one.fixed or two.fixed
        if one.count != two.count:
            one.fixed = two.fixed = True
            return
        one.axes, one.fixed, two.merged = [*one.axes, *two.axes], fixed, one


class _Walk:
    """Walk through the layers that follows the units and collects all groups."""

    def __init__(self) -> None:
        self.found: list[_Units] = []
        self._steps: dict[str, Callable[[Any, Shape, _Units, str], _Units]] = {
            "conv": self._weighted,
            "linear": self._weighted,
            "batch_norm": self._norm,
            "layer_norm": self._norm,
            "position_embedding": self._position,
            "attention": self._attention,
            "causal_attention": self._attention,
            "embedding": self._embedding,
            "residual": self._residual,
            **dict.fromkeys(PASSING, self._passing),
        }

    def through(self, layers: Sequence[Layer], shape: Shape, units: _Units, prefix: str) -> _Units:
        """The units after the last layer, given those before the first layer."""
        befores = shapes(layers, shape)
        for layer, name, before in zip(layers, layer_names(layers), befores, strict=False):
            if layer.kind not in self._steps:
                raise UnsuitableError(
                    f"layer kind must be one of {sorted(self._steps)} to find permutations, got "
                    f"{layer.kind!r}: pass the groups to `HiddenPermutations` yourself"
                )
            units = self._steps[layer.kind](layer, before, units, prefix + name)
        return units

    def _new(self, layer: str, count: int, heads: int = 1) -> _Units:
        self.found.append(_Units(layer, count, heads=heads))
        return self.found[-1]

    def _passing(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        if layer.kind == "flatten" and len(before) == 2:
            units.root.fixed = (
                True  # flattening separates the tokens of a unit, so its values are no block
            )
        return units

    def _weighted(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        units.follow(name, ["weight"], "in")
        made = self._new(name, layer.out)
        made.follow(name, ["weight", "bias"] if getattr(layer, "bias", True) else ["weight"], "out")
        return made

    def _norm(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        if (
            layer.kind == "batch_norm" or len(before) < 3
        ):  # layer norm of an image normalises its columns
            units.follow(name, _NORM_TENSORS[layer.kind], "out")
        return units

    def _position(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        units.follow(name, ["position"], "in")
        units.follow(name, ["class_token"] if layer.class_token else [], "out")
        return units

    def _embedding(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        made = self._new(name, layer.width)
        made.follow(name, ["weight"], "in")
        return made

    def _attention(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        width, heads = before[-1], layer.heads
        units.follow(name, ["query.weight", "key.weight", "value.weight"], "in")
        compared, averaged = (self._new(name, width, heads) for _ in range(2))
        compared.follow(name, ["query.weight", "query.bias", "key.weight", "key.bias"], "out")
        averaged.follow(name, ["value.weight", "value.bias"], "out")
        averaged.follow(name, ["out.weight"], "in")
        made = self._new(f"{name}.out", width)
        made.follow(name, ["out.weight", "out.bias"], "out")
        return made

    def _residual(self, layer: Any, before: Shape, units: _Units, name: str) -> _Units:
        body, shortcut = layer.body, layer.shortcut
        added = self.through(shortcut, before, units, f"{name}.shortcut.")
        added.merge(self.through(body, before, units, f"{name}.body."))
        return added


def _units_of(shape: Shape) -> int:
    """Number of channels of an image, of features, or of values of a token."""
    return shape[-1] if len(shape) == 2 else shape[0]
