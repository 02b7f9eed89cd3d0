"""Trained values in flat weight vectors, which every encoder reads; buffers are left out.

Shape letters: B models, D length of the flat vector, P trained values.
"""

import torch
from torch import Tensor

from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable, TensorSpec

SEVERAL = "SNE, DeepSets and NeuralGraph"  # encoders of several architectures, for messages


def parameter_tensors(layer_table: LayerTable) -> tuple[TensorSpec, ...]:
    """List the trained tensors of a layer table, in its order.

    Raises:
        UnsuitableError: if there is none.
    """
    specs = tuple(spec for spec in layer_table if spec.role != "buffer" and spec.size)
    if not specs:
        raise UnsuitableError("layer table has no parameter: there is nothing to encode")
    return specs


def check_weights(weights: Tensor, layer_table: LayerTable) -> None:
    """Reject weights whose shape does not fit the layer table.

    Args:
        weights: flat weight vectors, (B, D).
        layer_table: layer table of the architecture.

    Raises:
        ValueError: if the shape is not (B, D) with the D of the table.
    """
    if weights.ndim != 2 or weights.shape[1] != layer_table.width:
        raise ValueError(
            f"weights must have shape (B, D) with D={layer_table.width} of the layer table, "
            f"got {tuple(weights.shape)}"
        )


def parameter_values(weights: Tensor, layer_table: LayerTable) -> Tensor:
    """Select the trained values, in the order of the layer table.

    Args:
        weights: flat weight vectors, (B, D).
        layer_table: layer table of the architecture.

    Returns:
        Trained values, (B, P).

    Raises:
        ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
    """
    check_weights(weights, layer_table)
    specs = parameter_tensors(layer_table)
    return torch.cat([weights[:, spec.offset : spec.offset + spec.size] for spec in specs], dim=1)


def check_same_table(given: LayerTable, own: LayerTable, encoder: str, several: str) -> None:
    """Reject an architecture other than that of an encoder.

    Args:
        given: layer table of the weights.
        own: layer table that the encoder was made for.
        encoder: name of the encoder, for the error message.
        several: names of encoders of several architectures, for the error message.

    Raises:
        UnsuitableError: if the tables differ.
    """
    if given is not own and given != own:
        raise UnsuitableError(
            f"{encoder} was made for one architecture of D={own.width} in {len(own)} tensors, got "
            f"another of D={given.width} in {len(given)}: its weights are tied to places in "
            f"that one; use {several} for several architectures"
        )
