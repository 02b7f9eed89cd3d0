"""Weight statistics defined for any architecture, so that predictors transfer across architectures.

Shape letters: N rows, B models of a block, D length of the flat vector, V values of a group.
"""

import numpy as np
import torch
from torch import Tensor

from ...encoders.statistics import QUANTILES
from ...loaders import ZooDataset
from ...zoos.networks.layer_table import LayerTable, TensorSpec
from .regressors import fit_boosting

SAMPLED_VALUES = 65_536  # per group at most, evenly spaced: more only cost time


class PooledStatisticsBoosting:
    """Gradient boosting on `pooled_statistics`, the baseline across architectures."""

    name, seeded = "pooled statistics + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the pooled statistics of one zoo.

        Args:
            train: train rows.
            val: val rows, which choose the number of boosting rounds.
            target: name of the target column.
            seed: seed of the feature subsets.
        """
        self._model = fit_boosting(pooled_statistics, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,), for any architecture."""
        return self._model.predict(pooled_statistics(dataset))


def pooled_statistics(dataset: ZooDataset) -> np.ndarray:
    """Seven statistics of six groups of tensors of every row, (N, 42), float64.

    Groups are the first and the last weight, the first and the last bias, all weights and all
    biases. Statistics of biases are 0 for a network without biases. Values are multiplied by the
    root of their tensor's fan-in, so that layers of different sizes are comparable. Attention,
    norm and embedding tensors count as weights or biases by their role.
    """
    groups = _groups(dataset.layer_table)
    return np.concatenate([_summaries(weights, groups) for weights in dataset.weight_blocks()])


def _groups(table: LayerTable) -> list[list[TensorSpec]]:
    weights = [spec for spec in table if spec.role == "weight" and spec.size]
    biases = [spec for spec in table if spec.role == "bias" and spec.size]
    return [weights[:1], weights[-1:], biases[:1], biases[-1:], weights, biases]


def _summaries(weights: Tensor, groups: list[list[TensorSpec]]) -> np.ndarray:
    """(B, D) to (B, 42)."""
    return torch.cat([_summary(weights, group) for group in groups], dim=1).numpy()


def _summary(weights: Tensor, group: list[TensorSpec]) -> Tensor:
    """Mean, variance and quantiles of the values of some tensors, (B, 7), float64."""
    if not group:
        return torch.zeros(len(weights), 2 + len(QUANTILES), dtype=torch.float64)
    parts = [
        weights[:, spec.offset : spec.offset + spec.size].double() * spec.fan_in**0.5
        for spec in group
    ]
    values = torch.cat(parts, dim=1)
    step = -(-values.shape[1] // SAMPLED_VALUES)
    variance, mean = torch.var_mean(values, dim=1, correction=0)
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    quantiles = values[:, ::step].quantile(levels, dim=1).T
    return torch.cat([mean[:, None], variance[:, None], quantiles], dim=1)
