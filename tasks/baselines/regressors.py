"""Baseline predictors of a target column without a neural encoder.

A predictor is fitted to checkpoints and predicts a number or a category for other checkpoints.
All its hyper-parameters are chosen on the val split.

Shape letters: N rows, F features.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from ...encoders.statistics import layer_statistics
from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ..scoring.accuracy_ceilings import ORACLE, TARGET
from ..scoring.targets import is_category

RIDGE_ALPHAS = np.logspace(-3, 5, 33)
MAX_QUANTILES = 200
BOOSTING_ROUNDS = 400  # at most; the val split chooses the number


Seeded = bool | Literal["categories"]


class Predictor(Protocol):
    """Interface of the predictors that `predict_property` compares.

    Attributes:
        name: name in the report, unique among the predictors of one report.
    """

    name: str

    @property
    def seeded(self) -> Seeded:
        """Whether fits depend on the seed: always, never, or only for "categories"."""

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit from scratch.

        Args:
            train: train rows.
            val: val rows.
            target: name of the target column.
            seed: seed of all random choices.
        """

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""


class Constant:
    """The mean or the most frequent category of the train split, independent of the weights."""

    name, seeded = "constant", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Take the mean or the most frequent category.

        Args:
            train: train rows.
            val: val rows, ignored.
            target: name of the target column.
            seed: seed, ignored.
        """
        true = train.columns[target]
        if is_category(target, true):
            values, counts = np.unique(true, return_counts=True)
            self._value = values[counts.argmax()]
        else:
            self._value = float(np.mean(true))

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Repeat the constant for every row, (N,)."""
        return np.full(len(dataset), self._value)


class ValAccuracy:
    """Oracle for test accuracy: accuracy on val images, which needs labelled images, not weights.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks.baselines.regressors import ValAccuracy
        >>> zoo = load_zoo(ZOO)
        >>> oracle = ValAccuracy()
        >>> oracle.fit(zoo["train"], zoo["val"], "test_accuracy", seed=0)
        >>> oracle.predict(zoo["test"]).shape
        (3,)
    """

    name, seeded = "oracle: accuracy on val images", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit nothing.

        Args:
            train: train rows, ignored.
            val: val rows, ignored.
            target: name of the target column.
            seed: seed, ignored.

        Raises:
            UnsuitableError: if the target is not test accuracy.
        """
        if target != TARGET:
            raise UnsuitableError(f"accuracy on val images predicts {TARGET!r}, not {target!r}")

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Accuracy on val images of every row, (N,).

        Raises:
            UnsuitableError: if the zoo lacks the column.
        """
        if ORACLE not in dataset.columns:
            raise UnsuitableError(
                f"zoo {dataset.name!r} has no column {ORACLE!r}: its networks were not run on val "
                "images"
            )
        return np.asarray(dataset.columns[ORACLE], np.float64)


class HyperParameterBoosting:
    """Gradient boosting on hyper-parameters and epoch, without weights."""

    name, seeded = "hyper-parameters + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the hyper-parameters (and the epoch) that vary in the train split.

        Args:
            train: train rows.
            val: val rows, which choose the number of boosting rounds.
            target: name of the target column.
            seed: seed of the feature subsets.
        """
        self._features = HyperParameterFeatures(train, target)
        self._model = fit_boosting(self._features, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""
        return self._model.predict(self._features(dataset))


class StatisticsBoosting:
    """Gradient boosting on seven statistics of every tensor, as Unterthiner et al. 2020."""

    name, seeded = "statistics + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the weight statistics.

        Args:
            train: train rows.
            val: val rows, which choose the number of boosting rounds.
            target: name of the target column.
            seed: seed of the feature subsets.
        """
        self._tensors = _tensor_names(train)
        self._model = fit_boosting(_statistics_features, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,).

        Raises:
            UnsuitableError: if the network has other tensors than the train zoo.
        """
        _check_tensors(self._tensors, dataset)
        return self._model.predict(_statistics_features(dataset))


class StatisticsRidge:
    """Ridge regression on weight statistics, with alpha chosen on the val split.

    A statistic is replaced by its quantile among the train rows. The statistics of a zoo spread
    over orders of magnitude, so that a few models would dominate a fit to the original values.
    """

    name, seeded = "statistics + ridge", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit one regression per alpha and keep the best on the val split.

        Leave-one-out would mislead: the checkpoints of one model are not independent rows.

        Args:
            train: train rows.
            val: val rows.
            target: name of a numeric target column.
            seed: seed, ignored.

        Raises:
            UnsuitableError: if the target is a category.
        """
        from sklearn.linear_model import Ridge

        if is_category(target, train.columns[target]):
            raise UnsuitableError(
                f"ridge regression predicts numbers, target {target!r} is a category: "
                "leave out the predictor StatisticsRidge"
            )
        self._tensors = _tensor_names(train)
        statistics = _statistics_features(train)
        self._quantiles = quantiles_of(statistics)
        features = self._quantiles.transform(statistics)
        val_features = self._quantiles.transform(_statistics_features(val))
        candidates = [Ridge(alpha).fit(features, train.columns[target]) for alpha in RIDGE_ALPHAS]
        self._model = min(
            candidates,
            key=lambda model: _squared_error(model.predict(val_features), val.columns[target]),
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,); errors are those of `StatisticsBoosting`."""
        _check_tensors(self._tensors, dataset)
        return self._model.predict(self._quantiles.transform(_statistics_features(dataset)))


class HyperParameterFeatures:
    """Hyper-parameter columns as numbers, with text one-hot and constant columns left out.

    Attributes:
        names: names of the columns used, including `epoch` if it varies, without the target.
    """

    def __init__(self, train: ZooDataset, target: str) -> None:
        """Find the columns that vary in the train split.

        Args:
            train: train rows.
            target: name of the target column.

        Raises:
            UnsuitableError: if no column varies.
        """
        columns = [*train.header.hyper_parameters, "epoch"]
        self._values = {
            name: np.unique(train.columns[name])
            for name in columns
            if name != target and name in train.columns
        }
        self.names = tuple(name for name, values in self._values.items() if len(values) > 1)
        if not self.names:
            raise UnsuitableError(
                f"none of the hyper-parameters {columns} varies in the train split: "
                "leave out the predictor HyperParameterBoosting"
            )

    def __call__(self, dataset: ZooDataset) -> np.ndarray:
        """Features (N, F), float64; the one-hot code of a text unknown in the train split is 0.

        Raises:
            UnsuitableError: if a column is missing.
        """
        if missing := [name for name in self.names if name not in dataset.columns]:
            raise UnsuitableError(
                f"zoo {dataset.name!r} has no hyper-parameters {missing}, which the predictor was "
                "fitted to: leave out the predictor HyperParameterBoosting"
            )
        parts = []
        for name in self.names:
            column = dataset.columns[name]
            if column.dtype.kind in "OUS":
                parts.append(column[:, None] == self._values[name])
            else:
                parts.append(column[:, None])
        return np.concatenate(parts, axis=1).astype(np.float64)


def needs_seeds(predictor: Predictor, target: str, true: np.ndarray) -> bool:
    """Whether fits differ by seed; otherwise one fit is enough.

    Args:
        predictor: predictor to fit.
        target: name of the target column.
        true: target of the train rows, (N,).
    """
    if predictor.seeded == "categories":
        return is_category(target, true)
    return bool(predictor.seeded)


def _tensor_names(dataset: ZooDataset) -> tuple[str, ...]:
    """The names of the tensors that have features."""
    return tuple(spec.name for spec in dataset.layer_table)


def _check_tensors(names: tuple[str, ...], dataset: ZooDataset) -> None:
    """Raise an UnsuitableError for a network with other tensors."""
    if _tensor_names(dataset) != names:
        raise UnsuitableError(
            f"the predictor was fitted to the statistics of {len(names)} tensors, zoo "
            f"{dataset.name!r} has {len(dataset.layer_table)} other tensors: use pooled "
            "statistics across architectures"
        )


def quantiles_of(features: np.ndarray) -> Any:
    """A fitted transformer from features (N, F) to their quantiles in these rows, in [0, 1]."""
    from sklearn.preprocessing import QuantileTransformer

    count = min(MAX_QUANTILES, len(features))
    return QuantileTransformer(n_quantiles=count, random_state=0).fit(features)


def _statistics_features(dataset: ZooDataset) -> np.ndarray:
    """Seven weight statistics of each of T tensors of every row, (N, 7 T), float64."""
    return np.concatenate(
        [
            layer_statistics(weights, dataset.layer_table).numpy()
            for weights in dataset.weight_blocks()
        ]
    ).astype(np.float64)  # the systems of ridge are badly conditioned


def fit_boosting(
    features: Callable[[ZooDataset], np.ndarray],
    train: ZooDataset,
    val: ZooDataset,
    target: str,
    seed: int,
) -> Any:
    """Gradient-boosted trees with the number of rounds that is best on the val split.

    Args:
        features: function from a dataset to its features, (N, F).
        train: train rows.
        val: val rows.
        target: name of the target column.
        seed: seed of the random half of the features that each split considers.

    Returns:
        A fitted classifier for a category, else a regressor.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    settings = {
        "learning_rate": 0.05,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 10,
        "max_features": 0.5,
        "early_stopping": False,
        "random_state": seed,
    }
    known, true = (features(train), train.columns[target]), val.columns[target]
    category = is_category(target, true)
    model = HistGradientBoostingClassifier if category else HistGradientBoostingRegressor
    error = _share_wrong if category else _squared_error
    full = model(max_iter=BOOSTING_ROUNDS, **settings).fit(*known)
    errors = [error(predicted, true) for predicted in full.staged_predict(features(val))]
    rounds = int(np.argmin(errors)) + 1
    return model(max_iter=rounds, **settings).fit(*known)


def _share_wrong(predicted: np.ndarray, true: np.ndarray) -> float:
    return float((predicted != true).mean())


def _squared_error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(((predicted - true) ** 2).mean())
