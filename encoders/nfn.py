"""NFN: networks of permutation-equivariant layers on weights, for one architecture.

Source: Zhou et al. 2023, "Permutation Equivariant Neural Functionals", arXiv:2302.14040: NF-layers
(`equivariant.py`) with ReLU, averages over units, a perceptron of 1000-1000; channels 16, 16, 5 are
those of its generalization task. The kernel of a convolution is channels.

- `symmetry="hnp"`: hidden units alone may be reordered. Input and output units are told apart:
  their axes are channels too.
- `symmetry="np"`: input and output units may be reordered as well, so it cannot tell which input
  or class a weight belongs to. The position embedding of the paper's NP variant is left out.

Differs: a slot has the same channels after the first layer, whatever its kernel and, with hnp, its
inputs or outputs; the paper keeps so many per kernel value, input and output.

Shape letters: B models, D length of the flat vector, O and I units out and in, K values per pair,
H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.layer_table import LayerTable
from .equivariant import EquivariantNetwork, Slot
from .feed_forward import ChainLayer, chain_layers
from .flat_mlp import SEVERAL
from .heads import normalized_perceptron
from .parameters import check_same_table, check_weights

SYMMETRIES = ("hnp", "np")


class WeightSpace:
    """The weights and biases of a chain as tensors with axes of units that may be reordered.

    Attributes:
        layers: of the chain; set of units 0 is its input, l the output of layer l.
        movable: the sets that may be reordered; the others are channels.
        slots: one per weight and bias, layer by layer.
    """

    def __init__(self, layers: Sequence[ChainLayer], symmetry: str) -> None:
        """Lay out the tensors of a chain."""
        self.layers = tuple(layers)
        self.movable = set(range(len(layers) + 1) if symmetry == "np" else range(1, len(layers)))
        self.slots: list[Slot] = []
        self.fixed: list[int] = []  # units of each slot that are channels
        for index, layer in enumerate(self.layers, start=1):
            self._add({index: layer.outputs, index - 1: layer.inputs}, layer.values)
            if layer.bias is not None:
                self._add({index: layer.outputs}, 1)

    def _add(self, units: dict[int, int], values: int) -> None:
        axes = tuple(axis for axis in units if axis in self.movable)
        fixed = 1
        for axis, count in units.items():
            fixed *= 1 if axis in self.movable else count
        self.slots.append(Slot(axes, fixed * values))
        self.fixed.append(fixed)

    def tensors(self, weights: Tensor) -> list[Tensor]:
        """Flat vectors (B, D) as one tensor (B, *axes, C) per slot."""
        tensors = []
        for index, layer in enumerate(self.layers, start=1):
            pairs = layer.pairs(weights)
            if index - 1 not in self.movable:
                pairs = pairs.flatten(2)  # (B, O, I K)
            tensors.append(pairs if index in self.movable else _output_channels(pairs))
            if layer.bias is not None:
                biases = layer.biases(weights)
                tensors.append(biases if index in self.movable else biases.flatten(1))
        return tensors


class NFN(nn.Module):
    """NF-layers, averages and a perceptron."""

    def __init__(
        self,
        layer_table: LayerTable,
        symmetry: str = "hnp",
        channels: Sequence[int] = (16, 16, 5),
        head: Sequence[int] = (1000, 1000),
        outputs: int = 1,
    ) -> None:
        """Make the network.

        Args:
            layer_table: of the architecture, a chain of convolutional and linear layers.
            symmetry: one of `SYMMETRIES`, which units may be reordered.
            channels: of each NF-layer.
            head: widths of the perceptron's hidden layers.
            outputs: numbers to predict.

        Raises:
            UnsuitableError: if the architecture is no such chain.
            ValueError: if the symmetry is unknown.
        """
        super().__init__()
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry must be one of {SYMMETRIES}, got {symmetry!r}")
        self.config: dict[str, Any] = {
            "symmetry": symmetry,
            "channels": list(channels),
            "head": list(head),
            "outputs": outputs,
        }
        self.layer_table = layer_table
        self.space = WeightSpace(chain_layers(layer_table, "NFN", SEVERAL), symmetry)
        slots = len(self.space.slots)
        self.encoder = EquivariantNetwork(self.space.slots, [[width] * slots for width in channels])
        self.head = normalized_perceptron([self.encoder.width, *head, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) as (B, H), unchanged by reordered units.

        Raises:
            ValueError: if the weights are of another architecture.
        """
        check_same_table(layer_table, self.layer_table, "NFN", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.space.tensors(weights))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))


def _output_channels(pairs: Tensor) -> Tensor:
    """(B, O, [I,] C) to (B, [I,] O C)."""
    return torch.movedim(pairs, 1, -2).flatten(-2)
