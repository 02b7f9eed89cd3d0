"""The linear probe of the Model Zoos paper: properties predicted by a linear model of features.

Source: Schuerholt et al. 2022, arXiv:2209.14764, and its published protocol. Numbers are predicted
by closed-form ridge regression in float64 with a bias; lambda is the best of 17 by R2 on the val
split. Categories are predicted by one linear layer trained with Adam. Features are the flat
weights, or the mean, variance and percentiles 1, 25, 50, 75 and 99 of every tensor. Differs from
it: the bias is not penalised.

Shape letters: N rows, F features, C categories.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...encoders.statistics import layer_statistics
from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ..random_states import own_random_numbers
from ..scoring.metrics import r2
from ..scoring.targets import TargetMapping
from .regressors import Seeded

LAMBDAS = (1e3, *(lead * 10.0**power for power in range(2, -6, -1) for lead in (3, 1)))
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
FEATURES = ("weights", "statistics")
EPOCHS, BATCH_SIZE, LR, WEIGHT_DECAY = 50, 10, 1e-4, 1e-6  # of the linear layer

Features = Callable[[ZooDataset], np.ndarray]


class LinearProbe:
    """A `Predictor` that is linear in features of the weights.

    Attributes:
        name: name in the report.
        seeded: "categories", since numbers are fitted in closed form.
    """

    seeded: Seeded = "categories"

    def __init__(self, features: str | Features = "weights", name: str | None = None) -> None:
        """Choose the features.

        Args:
            features: one of `FEATURES`, or a function from a dataset to (N, F), such as the
                embedding of an encoder.
            name: name in the report; required with a function.

        Raises:
            ValueError: if the features are unknown, or a function has no name.
        """
        if isinstance(features, str):
            if features not in FEATURES:
                raise ValueError(f"features must be one of {FEATURES}, got {features!r}")
            name = name or f"linear probe on {features}"
            features = {"weights": flat_weights, "statistics": probe_statistics}[features]
        if name is None:
            raise ValueError(
                "name is missing: give a probe on features of your own a name for the report"
            )
        self.name, self._features = name, features

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit the probe: numbers in closed form, categories by gradient descent.

        Args:
            train: train rows.
            val: val rows, which choose lambda for numbers.
            target: name of the target column.
            seed: seed of the training for categories.
        """
        self.mapping = TargetMapping.of("auto", target, train.columns[target])
        features = self._features(train)
        self._width = features.shape[1]
        val_features = features[:0] if self.mapping.categories else self._features(val)
        self.matrix = fit_linear(
            (features, train.columns[target]),
            (val_features, val.columns[target]),
            self.mapping,
            seed,
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,).

        Raises:
            UnsuitableError: if the zoo has another number of features (another architecture).
        """
        features = self._features(dataset)
        if features.shape[1] != self._width:
            raise UnsuitableError(
                f"{self.name} was fitted to {self._width} features, zoo {dataset.name!r} has "
                f"{features.shape[1]}: it is tied to one architecture"
            )
        return linear_predictions(self.matrix, features, self.mapping)


def fit_linear(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    mapping: TargetMapping,
    seed: int,
) -> np.ndarray:
    """Fit a linear model with bias, as the probe does.

    Args:
        train: features (N, F) and targets (N,) of the train rows.
        val: features and targets of the val rows, which choose lambda for numbers.
        mapping: mapping of the target.
        seed: seed of the training for categories.

    Returns:
        (1, F + 1) for a number, (C, F + 1) for C categories; the last column is the bias.
    """
    if mapping.categories:
        return _classifier(*train, mapping, seed)
    numbers = [(features, np.asarray(true, np.float64)) for features, true in (train, val)]
    return _best_ridge(*numbers)[None]


def linear_predictions(
    matrix: np.ndarray, features: np.ndarray, mapping: TargetMapping
) -> np.ndarray:
    """Targets that a linear model predicts, (N,).

    Args:
        matrix: what `fit_linear` returned.
        features: feature matrix, (N, F).
        mapping: mapping of the target.
    """
    outputs = features @ matrix[:, :-1].T + matrix[:, -1]
    return mapping.predicted(torch.from_numpy(outputs)) if mapping.categories else outputs[:, 0]


def ridge(features: np.ndarray, true: np.ndarray, penalty: float) -> np.ndarray:
    """Minimise |X w + b - y|^2 + penalty |w|^2 in closed form.

    Args:
        features: feature matrix X, (N, F), float64.
        true: targets y, (N,), float64.
        penalty: regularisation lambda, above 0.

    Returns:
        (F + 1,), w and then b, solved in the smaller of the dimensions N and F.
    """
    mean, offset = features.mean(axis=0), float(true.mean())
    centred, residual = features - mean, true - offset
    rows, width = centred.shape
    if width <= rows:
        gram = centred.T @ centred + penalty * np.eye(width)
        weights = np.linalg.solve(gram, centred.T @ residual)
    else:
        gram = centred @ centred.T + penalty * np.eye(rows)
        weights = centred.T @ np.linalg.solve(gram, residual)
    return np.append(weights, offset - mean @ weights)


def flat_weights(dataset: ZooDataset) -> np.ndarray:
    """The flat weights of every row, (N, D), float64."""
    return dataset.weights().numpy().astype(np.float64)


def probe_statistics(dataset: ZooDataset) -> np.ndarray:
    """The paper's seven statistics of each of T tensors, (N, 7 T), float64."""
    parts = [
        layer_statistics(rows, dataset.layer_table, QUANTILES) for rows in dataset.weight_blocks()
    ]
    return np.concatenate([part.numpy() for part in parts]).astype(np.float64)


def _best_ridge(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The solution of the ridge regression with the best R2 on the val split over all lambdas."""
    solutions = [ridge(*train, penalty) for penalty in LAMBDAS]
    return max(solutions, key=lambda one: r2(val[1], val[0] @ one[:-1] + one[-1]))


def _classifier(
    features: np.ndarray, true: np.ndarray, mapping: TargetMapping, seed: int
) -> np.ndarray:
    """Weights and bias of one linear layer on features, trained as in the paper."""
    inputs = torch.from_numpy(features).float()
    labels = mapping.labels(true)
    with own_random_numbers(seed):
        layer = nn.Linear(inputs.shape[1], mapping.outputs)
        optimizer = torch.optim.Adam(layer.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(inputs)).split(BATCH_SIZE):
                loss: Any = F.cross_entropy(layer(inputs[rows]), labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        return torch.cat([layer.weight, layer.bias[:, None]], 1).double().numpy()
