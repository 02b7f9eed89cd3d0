"""The trained values in flat weight vectors: what every encoder looks at, buffers left out.

Shape letters: B models, D length of the flat vector, P trained values.
"""

import torch
from torch import Tensor

from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable, TensorSpec

SEVERAL = "SNE, DeepSets and NeuralGraph"  # encoders of several architectures, for messages


def parameter_tensors(layer_table: LayerTable) -> tuple[TensorSpec, ...]:
    """The tensors of a table that are trained, in its order.

    Raises:
        UnsuitableError: if there is none.
    """
    specs = tuple(spec for spec in layer_table if spec.role != "buffer" and spec.size)
    if not specs:
        raise UnsuitableError("layer table has no parameter: there is nothing to encode")
    return specs


def check_weights(weights: Tensor, layer_table: LayerTable) -> None:
    """Refuse weights that are not (B, D) with the table's D.

    Raises:
        ValueError: if they are not.
    """
    if weights.ndim != 2 or weights.shape[1] != layer_table.width:
        raise ValueError(
            f"weights must be (B, D) with D={layer_table.width} of the layer table, "
            f"got {tuple(weights.shape)}"
        )


def parameter_values(weights: Tensor, layer_table: LayerTable) -> Tensor:
    """The trained values (B, P) of flat vectors (B, D), in the order of the table.

    Raises:
        ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
    """
    check_weights(weights, layer_table)
    specs = parameter_tensors(layer_table)
    return torch.cat([weights[:, spec.offset : spec.offset + spec.size] for spec in specs], dim=1)


def check_same_table(given: LayerTable, own: LayerTable, encoder: str, several: str) -> None:
    """Refuse an architecture other than the one that an encoder was made for.

    Args:
        given: the table of the weights at hand.
        own: the table that the encoder was made for.
        encoder: its name, for the message.
        several: the encoders that take several architectures, for the message.

    Raises:
        UnsuitableError: if the tables differ.
    """
    if given is not own and given != own:
        raise UnsuitableError(
            f"{encoder} was made for one architecture of D={own.width} in {len(own)} tensors, got "
            f"another of D={given.width} in {len(given)}: its weights are tied to places in "
            f"that one; {several} take several architectures"
        )
