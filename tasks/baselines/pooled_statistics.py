"""Boosting on weight statistics that are defined for any architecture.

Shape letter: N rows.
"""

import numpy as np
import torch

from ...encoders import statistics
from ...loaders import ZooDataset
from .regressors import fit_boosting


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

    They are those of `encoders.statistics.pooled_statistics`.
    """
    table = dataset.layer_table
    parts = [statistics.pooled_statistics(weights, table) for weights in dataset.weight_blocks()]
    return torch.cat(parts).numpy()
