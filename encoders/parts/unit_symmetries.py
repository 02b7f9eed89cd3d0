"""Symmetries of hidden units beside their order: factors that leave the function unchanged.

If the activation function f is positively homogeneous, f(q x) = q f(x) for q > 0 (ReLU, leaky
ReLU), the weights into a hidden unit and its bias may be multiplied by q and the weights out of it
divided by q. If f is odd, f(-x) = -f(x) (tanh, sine), the same holds for q = -1. A sine layer has a
third symmetry: sin(w x + pi) = -sin(w x), so phases of half a turn can be removed
(`canonical_phases`).

Only units between two weight layers of the outer sequence count, with one activation function and
no norm, sum or attention between. Max pooling keeps positive factors, and no signs. All other units
have no symmetry here, although norms give some networks more.

Shape letters: B networks, D length of the flat vector, H width of features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.networks import layers
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import LayerTable
from ...zoos.networks.layers import Layer
from .weight_graph import WeightGraph

NONE, SCALE, SIGN = range(3)
SMALLEST, LARGEST = 1e-30, 1e18  # of features; beyond them the symmetry is not exact
HOMOGENEOUS = ("relu", "leaky_relu")
ODD = ("tanh",)
PASSING = (layers.MaxPool, layers.GlobalAvgPool, layers.Flatten, layers.Dropout)


@dataclass(frozen=True)
class HiddenUnits:
    """What happens to the outputs of a weight layer before the next one reads them.

    Attributes:
        function: activation layer.
        pooled: whether a maximum over positions is taken.
    """

    function: layers.Activation | layers.Sine
    pooled: bool

    def symmetry(self, activation: str) -> int:
        """NONE, SCALE or SIGN in a network with that activation function."""
        odd = isinstance(self.function, layers.Sine) or activation in ODD
        if odd:
            return NONE if self.pooled else SIGN
        return SCALE if activation in HOMOGENEOUS else NONE


def canonical(x: Tensor, symmetry: int) -> Tensor:
    """Features that the factors of a symmetry do not change.

    Args:
        x: features, (..., H).
        symmetry: SCALE, SIGN or NONE.
    """
    if symmetry == SCALE:  # the squares of large features would overflow
        largest = x.detach().abs().amax(-1, keepdim=True)
        return F.normalize(x / largest.clamp(min=SMALLEST), dim=-1)
    compressed = torch.asinh(x.clamp(-LARGEST, LARGEST))
    return compressed.abs() if symmetry == SIGN else compressed


@lru_cache(maxsize=32)
def hidden_units(architecture: Architecture) -> dict[str, HiddenUnits]:
    """Hidden units that can have a symmetry, by the name of the weight layer that outputs them."""
    found: dict[str, HiddenUnits] = {}
    name, between = "", list[Layer]()
    for own, layer in zip(architecture.layer_names(), architecture.layers, strict=True):
        if not isinstance(layer, layers.Conv | layers.Linear):
            between.append(layer)
            continue
        if name and (units := _units(between)) is not None:
            found[name] = units
        name, between = own, []
    return found


def set_symmetries(
    graph: WeightGraph, architecture: Architecture, activation: str
) -> tuple[int, ...]:
    """The symmetry of every set of units of a graph: NONE, SCALE or SIGN.

    Args:
        graph: graph of the architecture.
        architecture: architecture of the network.
        activation: activation function of the network.
    """
    known, found = hidden_units(architecture), [NONE] * len(graph.sets)
    for index, units in enumerate(graph.sets):
        into = {edges.spec.layer for edges in graph.edges if edges.target == index}
        if len(into | {spec.layer for spec in units.vectors}) == 1 and not units.numbered:
            hidden = known.get(next(iter(into), ""))
            found[index] = NONE if hidden is None else hidden.symmetry(activation)
    return tuple(found)


def canonical_phases(
    weights: Tensor, architecture: Architecture, layer_table: LayerTable
) -> Tensor:
    """Equal networks whose sine units have phases of at most a quarter of a turn.

    Source: ScaleGMN, Kalogeropoulos et al. 2024, arXiv:2406.10685, which canonicalises the phases
    of implicit neural representations before their signs.

    Args:
        weights: flat weights, (B, D).
        architecture: architecture of the networks.
        layer_table: its layer table.

    Returns:
        Flat weights, (B, D). A unit that lost an odd number of half turns has its incoming weights
        and its remaining phase multiplied by -1.
    """
    sines = {
        name: units.function.omega
        for name, units in hidden_units(architecture).items()
        if isinstance(units.function, layers.Sine) and not units.pooled
    }
    if not sines:
        return weights
    tensors = dict(layer_table.split(weights))
    for name, omega in sines.items():
        phase, half = tensors[f"{name}.bias"], math.pi / omega
        turns = (phase / half).round()
        sign = 1 - 2 * (turns % 2)
        tensors[f"{name}.bias"] = sign * (phase - half * turns)
        weight = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = weight * sign.view(*sign.shape, *[1] * (weight.dim() - 2))
    return torch.cat([tensors[spec.name].flatten(1) for spec in layer_table], dim=1)


def _units(between: Sequence[Layer]) -> HiddenUnits | None:
    """The units with these layers behind them, if those are one activation function and pools."""
    functions = [one for one in between if isinstance(one, layers.Activation | layers.Sine)]
    others = [one for one in between if one not in functions]
    if len(functions) != 1 or not all(isinstance(one, PASSING) for one in others):
        return None
    return HiddenUnits(functions[0], any(isinstance(one, layers.MaxPool) for one in others))
