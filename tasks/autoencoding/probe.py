"""Linear probes of an autoencoder's embedding, which are saved with it.

The probe is that of `tasks.baselines.linear_probe`. Every feature enters as its quantile among the
train rows, because models of a mixed zoo differ in scale by orders of magnitude.

Shape letters: N rows, H width of the embedding, Q quantiles, K outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..baselines.linear_probe import fit_linear, linear_predictions
from ..scoring.targets import TargetMapping

QUANTILES = 200


@dataclass(frozen=True, eq=False)
class EmbeddingProbe:
    """A fitted probe.

    Attributes:
        mapping: mapping of the target column.
        quantiles: quantiles of every feature in the train rows, (Q, H).
        matrix: weights and bias, (K, H + 1).
    """

    mapping: TargetMapping
    quantiles: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(
        cls,
        train: tuple[Tensor, np.ndarray],
        val: tuple[Tensor, np.ndarray],
        target: str,
        seed: int = 0,
    ) -> "EmbeddingProbe":
        """Fit a probe.

        Args:
            train: embedding (N, H) and target (N,) of the train rows.
            val: embedding and target of the val rows, which choose the regularisation.
            target: name of the target column.
            seed: seed of the training for categories.

        Raises:
            ValueError: if the target is constant, or has too many categories.
        """
        mapping = TargetMapping.of("auto", target, train[1])
        features = [part[0].double().numpy() for part in (train, val)]
        shares = np.linspace(0, 1, min(QUANTILES, len(features[0])))
        quantiles = np.quantile(features[0], shares, axis=0)
        ranked = [quantiles_among(one, quantiles) for one in features]
        matrix = fit_linear((ranked[0], train[1]), (ranked[1], val[1]), mapping, seed)
        return cls(mapping, quantiles, matrix)

    def predict(self, embedding: Tensor) -> np.ndarray:
        """Predict the target of every row of an embedding (N, H): (N,) numbers, or categories."""
        features = quantiles_among(embedding.double().numpy(), self.quantiles)
        return linear_predictions(self.matrix, features, self.mapping)

    def tensors(self) -> dict[str, Tensor]:
        """The fitted arrays, for a file."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ("quantiles", "matrix")}

    @classmethod
    def from_file(
        cls, mapping: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "EmbeddingProbe":
        """Read what `tensors` gave.

        Args:
            mapping: the mapping of the target as plain data.
            tensors: tensors by name.
        """
        arrays = (tensors[name].numpy() for name in ("quantiles", "matrix"))
        return cls(TargetMapping.from_json(mapping), *arrays)


def quantiles_among(features: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Features as shares of the train rows that are smaller, (N, H) in [0, 1].

    Args:
        features: features, (N, H).
        quantiles: quantiles of the train rows, (Q, H), rising.
    """
    shares = np.linspace(0, 1, len(quantiles))
    columns = zip(features.T, quantiles.T, strict=True)
    both = [
        (
            np.interp(column, known, shares),
            1 - np.interp(-column, -known[::-1], shares),  # else equal quantiles take the last
        )
        for column, known in columns
    ]
    return np.stack([(low + high) / 2 for low, high in both], axis=1)
