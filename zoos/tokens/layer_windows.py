"""Windows of the flat weight vector: the values of a layer, and the layer table of a window.

Shape letters: D length of the flat weight vector.
"""

from dataclasses import replace

from ..networks.layer_table import LayerTable, TensorSpec


def find_layer(table: LayerTable, name: str) -> tuple[int, int]:
    """Find the values of a layer.

    Args:
        table: layer table of the whole flat vector.
        name: name of a layer, of a block of layers up to a dot, or of a tensor.

    Returns:
        First value and one past the last value.

    Raises:
        KeyError: if there is no such layer; the message lists the layers.
        ValueError: if tensors of other layers lie between its own.
    """
    tensors = [tensor for tensor in table if _belongs(tensor, name)]
    if not tensors:
        layers = list(dict.fromkeys(tensor.layer for tensor in table))
        raise KeyError(f"no layer or tensor {name!r}, the layers are {layers}")
    start, stop = tensors[0].offset, tensors[-1].offset + tensors[-1].size
    if sum(tensor.size for tensor in tensors) != stop - start:
        raise ValueError(
            f"the tensors of {name!r} do not lie side by side: name one tensor at a time"
        )
    return start, stop


def cut_table(table: LayerTable, start: int, stop: int) -> LayerTable:
    """Make the layer table of a window; a tensor that is cut becomes a flat piece.

    Args:
        table: layer table of the whole flat vector.
        start: first value of the window.
        stop: one past the last value.
    """
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
