"""Sparse networks of variational dropout, as published: weights with a variance each.

The layers of the published twins (arXiv 2209.14764, after Molchanov et al. 2017, arXiv 1701.05369)
store `log_sigma2` beside `weight` and `log_sigma2_bias` beside `bias`. Without training, a layer
computes with zero in place of every weight whose log alpha, log(sigma2 / weight^2), is 3 or more;
convolutions do so with their biases too. The variance of a linear bias is stored, but not used.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ...zoos.networks.layer_table import LayerTable
from ..checkpoints.tensors import Leaf
from ..checkpoints.unreadable import UnreadableFileError

THRESHOLD = 3.0  # smallest log alpha of a dropped weight
EPSILON = 1e-15  # added to the size of a weight before its logarithm is taken
PRUNABLE_KINDS = ("conv", "linear")
_VARIANCES = {"log_sigma2": "weight", "log_sigma2_bias": "bias"}


def take_variances(state: Mapping[str, Leaf]) -> tuple[dict[str, Leaf], dict[int, Leaf]]:
    """Separate the variances from the tensors of a network.

    Args:
        state: published state dict.

    Returns:
        The other tensors by name; and the variances of those that are clipped, by `id` of tensor.

    Raises:
        UnreadableFileError: if a variance has no tensor of its shape.
    """
    weights = {name: leaf for name, leaf in state.items() if _owner(name) is None}
    variances: dict[int, Leaf] = {}
    for name, leaf in state.items():
        owner = _owner(name)
        if owner is None:
            continue
        if owner not in state or tuple(state[owner].shape) != tuple(leaf.shape):
            raise UnreadableFileError(f"{name} has no tensor {owner} of shape {leaf.shape}")
        main = state.get(owner.rpartition(".")[0] + ".weight")
        convolution = main is not None and len(main.shape) == 4
        if owner.endswith("weight") or convolution:
            variances[id(state[owner])] = leaf
    return weights, variances


def clipped(
    read: Callable[[Leaf], np.ndarray], variances: Mapping[int, Leaf]
) -> Callable[[Leaf], np.ndarray]:
    """Function that reads a tensor with zeros in place of its dropped values.

    Args:
        read: function that reads a tensor as stored.
        variances: variances of the clipped tensors, by `id` of tensor.
    """

    def read_clipped(leaf: Leaf) -> np.ndarray:
        values, variance = read(leaf), variances.get(id(leaf))
        if variance is None:
            return values
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged twin keeps its values
            log_alpha = read(variance) - 2 * np.log(np.abs(values) + EPSILON)
        return np.where(log_alpha >= THRESHOLD, values.dtype.type(0), values)

    return read_clipped


def zero_share(weights: np.ndarray, table: LayerTable) -> np.ndarray:
    """Share of zeros among the weights of convolution and linear layers, (N,), by row.

    Args:
        weights: rows, (N, D); read row by row.
        table: layer table of the rows.
    """
    spans = [
        slice(one.offset, one.offset + one.size)
        for one in table
        if one.kind in PRUNABLE_KINDS and one.role == "weight"
    ]
    total = max(1, sum(span.stop - span.start for span in spans))
    zeros = [sum(int((row[span] == 0).sum()) for span in spans) for row in weights]
    return np.array(zeros, np.float64) / total


def _owner(name: str) -> str | None:
    """Name of the tensor that a variance belongs to; None for other tensors."""
    layer, _, role = name.rpartition(".")
    return f"{layer}.{_VARIANCES[role]}" if role in _VARIANCES else None
