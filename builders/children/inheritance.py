"""Tensors that a model of one architecture takes over from a model of another.

Shape letters: M models, D length of the flat vector of the new architecture, P of the parent's.
"""

from collections.abc import Sequence

from torch import Tensor

from ...zoos.errors import BuildError
from ...zoos.networks.architectures import Architecture
from ...zoos.recipe import Model
from ..training.initialization import initial_weights


def shared_tensors(architecture: Architecture, parent: Architecture) -> list[str]:
    """Names of the tensors that two architectures share with the same shape.

    Args:
        architecture: architecture of the child; it gives the order of the names.
        parent: architecture of the parent.
    """
    shapes = {tensor.name: tensor.shape for tensor in parent.layer_table()}
    return [t.name for t in architecture.layer_table() if shapes.get(t.name) == t.shape]


def inherited_weights(
    architecture: Architecture, models: Sequence[Model], parent: Architecture, weights: Tensor
) -> Tensor:
    """Initial weights of models: the parent's tensors where shared, and new ones elsewhere.

    New tensors are drawn by the models' `init`, with their seeds.

    Args:
        architecture: architecture of the models.
        models: M models.
        parent: architecture of the parents.
        weights: weights of the parents, (M, P); they are not changed.

    Returns:
        (M, D), float32; `weights` themselves if the layer tables are equal.

    Raises:
        BuildError: if the architectures share no tensor.
    """
    table, parent_table = architecture.layer_table(), parent.layer_table()
    if table == parent_table:
        return weights
    shared = shared_tensors(architecture, parent)
    if not shared:
        raise BuildError(
            f"architecture {architecture.name!r} shares no tensor with {parent.name!r}: none has "
            f"the same name and shape in both, so there is nothing to start from; theirs are "
            f"{[tensor.name for tensor in table]} and {[tensor.name for tensor in parent_table]}"
        )
    flat = initial_weights(architecture, models)
    new, old = table.split(flat), parent_table.split(weights)
    for name in shared:
        new[name].copy_(old[name])
    return flat
