"""Weight space of a chain of layers: tensors whose axes are units that can be reordered.

Shape letters: B models, D length of the flat vector, O and I units out and in, K values per pair,
C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .equivariant import Slot
from .feed_forward import ChainLayer


class WeightSpace:
    """Weights and biases of a chain, as tensors whose axes are units that can be reordered.

    Attributes:
        layers: layers of the chain; set of units 0 is the input, set l the output of layer l.
        movable: numbers of the sets that can be reordered; the units of other sets are channels.
        slots: slots of weights and biases, layer by layer.
        fixed: number of fixed units per entry of each slot, which are channels.
    """

    def __init__(self, layers: Sequence[ChainLayer], symmetry: str) -> None:
        """Lay out the tensors of a chain.

        Args:
            layers: layers of the chain, input to output.
            symmetry: "np" reorders all sets of units, "hnp" the hidden ones only.
        """
        self.layers = tuple(layers)
        self.movable = set(range(len(layers) + 1) if symmetry == "np" else range(1, len(layers)))
        self.slots: list[Slot] = []
        self.fixed: list[int] = []
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
        """Read flat vectors (B, D) as one tensor (B, *axes, C) per slot."""
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


def _output_channels(pairs: Tensor) -> Tensor:
    """Join output units and channels: (B, O, [I,] C) to (B, [I,] O C)."""
    return torch.movedim(pairs, 1, -2).flatten(-2)
