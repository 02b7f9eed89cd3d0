"""Weight statistics: seven numbers per tensor, a strong baseline for learned encoders.

Source: Unterthiner et al. 2020, "Predicting Neural Network Accuracy from Weights",
arXiv:2002.11448, with the unbiased variance of the NFN code (neural functional networks,
arXiv:2302.14040), which the baselines called StatNN use. Reordering the values of a tensor does not
change its statistics.

Shape letters: B models, D length of the flat vector, T parameter tensors, V values of a tensor.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..zoos.networks.layer_table import LayerTable, TensorSpec
from .parts.parameters import check_weights, parameter_tensors

LARGEST = torch.finfo(torch.float32).max
CACHED_SIZES = 512  # numbers of values of a tensor; a ResNet-18 has about 20
GROUPS = 6  # of tensors that are pooled
SAMPLED_VALUES = 65_536  # of a group at most, evenly spaced: more only cost time
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
STATISTICS = ("mean", "variance", *(f"quantile_{level}" for level in QUANTILES))


def layer_statistics(
    weights: Tensor, layer_table: LayerTable, quantiles: Sequence[float] = QUANTILES
) -> Tensor:
    """Summarise every parameter tensor by mean, variance and quantiles.

    Args:
        weights: flat weight vectors of one architecture, (B, D).
        layer_table: layer table of the architecture; buffers are left out.
        quantiles: quantile levels in [0, 1], by default five.

    Returns:
        Statistics, (B, 7 * T), float32: `STATISTICS` of the first tensor, then of the second, and
        so on. For another number of quantiles 7 becomes 2 plus that number. The variance of a
        single value is 0; quantiles are interpolated linearly. A statistic beyond float32, such as
        the variance of weights of 1e20, is the largest float32.

    Raises:
        ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders import layer_statistics
        >>> train = load_zoo(ZOO, split="train")
        >>> layer_statistics(train.weights(), train.layer_table).shape
        torch.Size([6, 42])
    """
    check_weights(weights, layer_table)
    tensors = parameter_tensors(layer_table)
    values = [weights[:, spec.offset : spec.offset + spec.size].float() for spec in tensors]
    summaries = torch.cat([_summary(value, quantiles) for value in values], dim=1)
    return summaries.clamp(-LARGEST, LARGEST)


def pooled_statistics(weights: Tensor, layer_table: LayerTable) -> Tensor:
    """Summarise six groups of tensors as `layer_statistics` does tensors, for any architecture.

    Groups are the first and the last weight, the first and the last bias, all weights and all
    biases. Statistics of biases are 0 for a network without biases. Values are multiplied by the
    root of their tensor's fan-in, so that layers of different sizes are comparable. Attention,
    norm and embedding tensors count as weights or biases by their role.

    Args:
        weights: flat weight vectors of one architecture, (B, D).
        layer_table: layer table of the architecture.

    Returns:
        Statistics, (B, 42), float64: those of the first group, then of the second, and so on.

    Raises:
        ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders.statistics import pooled_statistics
        >>> train = load_zoo(ZOO, split="train")
        >>> pooled_statistics(train.weights(), train.layer_table).shape
        torch.Size([6, 42])
    """
    check_weights(weights, layer_table)
    return torch.cat([_pooled_summary(weights, group) for group in _groups(layer_table)], dim=1)


def _summary(
    values: Tensor, quantiles: Sequence[float], correction: int = 1, step: int = 1
) -> Tensor:
    """Statistics (B, 7) of values (B, V); quantiles are those of every step-th value."""
    correction = min(correction, values.shape[1] - 1)
    variance, mean = torch.var_mean(values, dim=1, correction=correction)
    levels = _quantiles(values[:, ::step], quantiles)
    return torch.cat([mean[:, None], variance[:, None], levels], dim=1)


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles (B, levels) of values (B, V); torch.quantile rejects large tensors."""
    ordered = values.sort(dim=1).values
    where = _neighbours(tuple(levels), values.shape[1], values.device, values.dtype)
    below, above, share = where
    return torch.lerp(ordered[:, below], ordered[:, above], share)


@lru_cache(maxsize=CACHED_SIZES)
@torch.inference_mode(False)  # places found in prediction can be reused in training
def _neighbours(
    levels: tuple[float, ...], count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the sorted values around each quantile, and the share of the upper one."""
    position = torch.tensor(levels, dtype=torch.float64) * (count - 1)
    below, above = position.floor(), position.ceil()
    share = (position - below).to(device, dtype)
    return below.long().to(device), above.long().to(device), share


def _groups(table: LayerTable) -> list[list[TensorSpec]]:
    weights = [spec for spec in table if spec.role == "weight" and spec.size]
    biases = [spec for spec in table if spec.role == "bias" and spec.size]
    return [weights[:1], weights[-1:], biases[:1], biases[-1:], weights, biases]


def _pooled_summary(weights: Tensor, group: list[TensorSpec]) -> Tensor:
    """Mean, variance and quantiles of the values of some tensors, (B, 7), float64."""
    if not group:
        return weights.new_zeros(len(weights), len(STATISTICS), dtype=torch.float64)
    parts = [
        weights[:, spec.offset : spec.offset + spec.size].double() * spec.fan_in**0.5
        for spec in group
    ]
    values = torch.cat(parts, dim=1)
    step = -(-values.shape[1] // SAMPLED_VALUES)
    return _summary(values, QUANTILES, correction=0, step=step)
