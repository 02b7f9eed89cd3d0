"""Chains of convolutional and linear layers, for encoders that distinguish neurons.

A weight becomes (O, I, K): output units, input units, and the K values that join a pair of units:
the kernel of a convolution or, where a linear layer reads a flattened image, a block of pixels.
Global pooling leaves one value per unit and needs no special case.

Shape letters: B models, D length of the flat vector, O and I units out and in, K values per pair.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable, TensorSpec
from .parameters import parameter_tensors

CHAINED = ("conv", "linear")


@dataclass(frozen=True)
class ChainLayer:
    """One layer of a chain.

    Attributes:
        weight: weight tensor.
        bias: bias tensor; None for a layer without bias.
        outputs: O, number of output units.
        inputs: I, number of output units of the previous layer.
        values: K, number of values per pair of units.
    """

    weight: TensorSpec
    bias: TensorSpec | None
    outputs: int
    inputs: int
    values: int

    def pairs(self, weights: Tensor) -> Tensor:
        """View the weight of the layer in flat vectors (B, D) as (B, O, I, K)."""
        part = weights[:, self.weight.offset : self.weight.offset + self.weight.size]
        return part.unflatten(1, (self.outputs, self.inputs, self.values))

    def biases(self, weights: Tensor) -> Tensor:
        """View the bias of the layer in flat vectors (B, D) as (B, O, 1)."""
        assert self.bias is not None
        return weights[:, self.bias.offset : self.bias.offset + self.bias.size].unsqueeze(-1)


def chain_layers(layer_table: LayerTable, encoder: str, others: str) -> tuple[ChainLayer, ...]:
    """Read the chain of layers of a network, from input to output.

    Args:
        layer_table: layer table of the architecture.
        encoder: name of the encoder, for the error message.
        others: names of encoders that take other architectures, for the error message.

    Raises:
        UnsuitableError: if a layer is of another kind, or does not read the previous layer.
    """
    layers = list[ChainLayer]()
    by_layer = dict[str, list[TensorSpec]]()
    for spec in parameter_tensors(layer_table):
        by_layer.setdefault(spec.layer, []).append(spec)
    for name, specs in by_layer.items():
        weight = next((spec for spec in specs if spec.role == "weight"), None)
        bias = next((spec for spec in specs if spec.role == "bias"), None)
        units = layers[-1].outputs if layers else None
        odd = any(spec.kind not in CHAINED for spec in specs) or weight is None or len(specs) > 2
        if odd or weight is None or weight.shape[1] % (units or 1):
            raise UnsuitableError(
                f"{encoder} takes chains of the layers {CHAINED}, each reading the one before, but "
                f"{name!r} of kind {specs[0].kind!r} and shape {specs[0].shape} is no link of one: "
                f"use {others}"
            )
        inputs = units or weight.shape[1]
        values = math.prod(weight.shape[1:]) // inputs
        layers.append(ChainLayer(weight, bias, weight.shape[0], inputs, values))
    return tuple(layers)
