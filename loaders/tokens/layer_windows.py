"""Parts of the flat weight vector: which values a layer takes, and the layer table of a part.

Shape letters: D length of the flat weight vector.
"""

from dataclasses import replace

from ...zoos.networks.layer_table import LayerTable, TensorSpec


def find_layer(table: LayerTable, name: str) -> tuple[int, int]:
    """Find the values of a layer.

    Args:
        table: of the whole flat vector.
        name: of a layer, of a block of layers up to a dot, or of a tensor.

    Returns:
        First value and one past the last.

    Raises:
        KeyError: if there is no such layer; the layers are listed.
        ValueError: if tensors of other layers lie between its own.
    """
    tensors = [tensor for tensor in table if _belongs(tensor, name)]
    if not tensors:
        layers = list(dict.fromkeys(tensor.layer for tensor in table))
        raise KeyError(f"no layer or tensor {name!r}, the layers are {layers}")
    start, stop = tensors[0].offset, tensors[-1].offset + tensors[-1].size
    if sum(tensor.size for tensor in tensors) != stop - start:
        raise ValueError(f"the tensors of {name!r} do not lie side by side: take them one by one")
    return start, stop


def cut_table(table: LayerTable, start: int, stop: int) -> LayerTable:
    """Describe the values from start to stop; a tensor that is cut becomes a flat piece."""
    if (start, stop) == (0, table.width):
        return table
    pieces = []
    for tensor in table:
        low, high = max(start, tensor.offset), min(stop, tensor.offset + tensor.size)
        if low < high:
            pieces.append(_piece(tensor, low, high, low - start))
    return LayerTable(tuple(pieces))


def _belongs(tensor: TensorSpec, name: str) -> bool:
    return name in (tensor.layer, tensor.name) or tensor.layer.startswith(f"{name}.")


def _piece(tensor: TensorSpec, low: int, high: int, offset: int) -> TensorSpec:
    if high - low == tensor.size:
        return replace(tensor, offset=offset)
    first, last = low - tensor.offset, high - tensor.offset
    name = f"{tensor.name}[{first}:{last}]"
    return replace(tensor, name=name, shape=(last - first,), offset=offset)
