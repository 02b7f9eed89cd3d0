"""Chains of convolutional and linear layers, as encoders see them that know about neurons.

A weight becomes (O, I, K): output units, input units, and the K values that join a pair of them,
the kernel of a convolution or, where a linear layer reads a flattened image, a block of pixels.
Global pooling leaves one value, so it needs no special care.

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
        weight: its weight tensor.
        bias: its bias tensor, if it has one.
        outputs: O, also of the bias.
        inputs: I, the units of the layer before.
        values: K.
    """

    weight: TensorSpec
    bias: TensorSpec | None
    outputs: int
    inputs: int
    values: int

    def pairs(self, weights: Tensor) -> Tensor:
        """The layer's weight in flat vectors (B, D), as (B, O, I, K)."""
        part = weights[:, self.weight.offset : self.weight.offset + self.weight.size]
        return part.unflatten(1, (self.outputs, self.inputs, self.values))

    def biases(self, weights: Tensor) -> Tensor:
        """The layer's bias in flat vectors (B, D), as (B, O, 1)."""
        assert self.bias is not None
        return weights[:, self.bias.offset : self.bias.offset + self.bias.size].unsqueeze(-1)


def chain_layers(layer_table: LayerTable, encoder: str, others: str) -> tuple[ChainLayer, ...]:
    """The layers of a network, input to output.

    Args:
        layer_table: of the architecture.
        encoder: who asks, for the message.
        others: the encoders that take what is no chain, for the message.

    Raises:
        UnsuitableError: if it holds another kind of layer, or one that does not read the one
            before.
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
                f"{encoder} takes chains of the layers {CHAINED}, each reading the one before, and "
                f"{name!r} of kind {specs[0].kind!r} and shape {specs[0].shape} is no link of one: "
                f"{others} take it"
            )
        inputs = units or weight.shape[1]
        values = math.prod(weight.shape[1:]) // inputs
        layers.append(ChainLayer(weight, bias, weight.shape[0], inputs, values))
    return tuple(layers)
