"""Matches the tensors of a zoo to those of an architecture, by name or by order.

Shape letters: D length of the flat weight vector.
"""

from collections.abc import Mapping

import numpy as np

from ...builders.writing.model_layout import ModelLayout
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable, TensorSpec


def tensor_order(table: LayerTable, layout: ModelLayout) -> tuple[np.ndarray, str]:
    """Find each value of an architecture's flat vector in the flat vector of a zoo.

    Tensors are matched by their names in the architecture, by their names in the traced module, or
    else by their order.

    Args:
        table: layer table of the zoo.
        layout: layout with the architecture.

    Returns:
        Positions in the zoo's vector, (D,), and "name" or "order".

    Raises:
        UnsuitableError: if tensors are missing, left over or of another shape.
    """
    pairs, how = _pairs(table, layout)
    odd = [f"{_shown(ours)} is {_shown(own)}" for ours, own in pairs if ours.shape != own.shape]
    if odd:
        raise UnsuitableError(
            f"the architecture does not fit the zoo: {'; '.join(odd[:3])} in the zoo, where "
            f"tensors were matched by their {how}"
        )
    return np.concatenate([own.offset + np.arange(own.size) for _, own in pairs]), how


def _pairs(
    table: LayerTable, layout: ModelLayout
) -> tuple[list[tuple[TensorSpec, TensorSpec]], str]:
    """(tensor of the architecture, tensor of the zoo) in the order of the architecture."""
    own = {tensor.name: tensor for tensor in table}
    names: Mapping[str, str]
    for names in (layout.names, {name: name for name in layout.names}):
        if set(names.values()) == set(own):
            return [(ours, own[names[ours.name]]) for ours in layout.table], "name"
    if len(own) != len(layout.table):
        missing = sorted(set(layout.names.values()) - set(own))[:3]
        left = sorted(set(own) - set(layout.names.values()))[:3]
        raise UnsuitableError(
            f"the architecture has {len(layout.table)} tensors and the zoo {len(own)}: the zoo "
            f"lacks {missing}, and has {left}"
        )
    return list(zip(layout.table, table, strict=True)), "order"


def _shown(tensor: TensorSpec) -> str:
    return f"{tensor.name} {list(tensor.shape)}"
