"""Weight statistics of pooled tensors, the same for any architecture.

Statistics are those of `statistics.py`. Groups of tensors take the place of single tensors, so that
their number does not depend on the architecture.

Shape letters: B models, D length of the flat vector.
"""

import torch
from torch import Tensor

from ..zoos.networks.layer_table import LayerTable, TensorSpec
from .statistics import QUANTILES, STATISTICS, ordered_quantiles

SAMPLED_VALUES = 65_536  # per group at most, evenly spaced: more only cost time
GROUPS = 6


def pooled_statistics(weights: Tensor, layer_table: LayerTable) -> Tensor:
    """Seven statistics of six groups of tensors.

    Groups are the first and the last weight, the first and the last bias, all weights and all
    biases. Statistics of biases are 0 for a network without biases. Values are multiplied by the
    root of their tensor's fan-in, so that layers of different sizes are comparable. Attention,
    norm and embedding tensors count as weights or biases by their role.

    Args:
        weights: flat weight vectors of one architecture, (B, D).
        layer_table: layer table of the architecture.

    Returns:
        Statistics, (B, 42), float64: those of the first group, then of the second, and so on.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders.pooled_statistics import pooled_statistics
        >>> train = load_zoo(ZOO, split="train")
        >>> pooled_statistics(train.weights(), train.layer_table).shape
        torch.Size([6, 42])
    """
    return torch.cat([_summary(weights, group) for group in _groups(layer_table)], dim=1)


def _groups(table: LayerTable) -> list[list[TensorSpec]]:
    weights = [spec for spec in table if spec.role == "weight" and spec.size]
    biases = [spec for spec in table if spec.role == "bias" and spec.size]
    return [weights[:1], weights[-1:], biases[:1], biases[-1:], weights, biases]


def _summary(weights: Tensor, group: list[TensorSpec]) -> Tensor:
    """Mean, variance and quantiles of the values of some tensors, (B, 7), float64."""
    if not group:
        return weights.new_zeros(len(weights), len(STATISTICS), dtype=torch.float64)
    parts = [
        weights[:, spec.offset : spec.offset + spec.size].double() * spec.fan_in**0.5
        for spec in group
    ]
    values = torch.cat(parts, dim=1)
    step = -(-values.shape[1] // SAMPLED_VALUES)
    variance, mean = torch.var_mean(values, dim=1, correction=0)
    quantiles = ordered_quantiles(values[:, ::step], QUANTILES)
    return torch.cat([mean[:, None], variance[:, None], quantiles], dim=1)
