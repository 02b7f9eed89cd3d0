"""Weight statistics: seven numbers per tensor, a strong baseline for learned encoders.

Source: Unterthiner et al. 2020, "Predicting Neural Network Accuracy from Weights",
arXiv:2002.11448, with the unbiased variance of the NFN code (neural functional networks,
arXiv:2302.14040), which the baselines called StatNN use. Reordering the values of a tensor does not
change its statistics.

Shape letters: B models, D length of the flat vector, T parameter tensors, V values of a tensor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..zoos.networks.layer_table import LayerTable
from .parts.parameters import check_weights, parameter_tensors

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
        single value is 0; quantiles are interpolated linearly.

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
    return torch.cat([_summary(value, quantiles) for value in values], dim=1)


def _summary(values: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Statistics (B, 7) of values (B, V)."""
    variance, mean = torch.var_mean(values, dim=1, correction=min(1, values.shape[1] - 1))
    return torch.cat([mean[:, None], variance[:, None], _quantiles(values, quantiles)], dim=1)


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles (B, levels) of values (B, V); torch.quantile rejects large tensors."""
    ordered = values.sort(dim=1).values
    position = torch.tensor(levels, dtype=torch.float64) * (values.shape[1] - 1)
    below = position.floor().long().to(values.device)
    above = position.ceil().long().to(values.device)
    share = (position - position.floor()).to(values)
    return torch.lerp(ordered[:, below], ordered[:, above], share)
