"""Predictors of a target column that need no neural encoder: the honest baselines.

A predictor is fitted to checkpoints and predicts a number, or a category, for others. Whatever
it has to choose it chooses on the val split.

Shape letters: N rows, F features.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from ...encoders.statistics import layer_statistics
from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ..scoring.targets import is_category

RIDGE_ALPHAS = np.logspace(-3, 5, 33)
MAX_QUANTILES = 200
BOOSTING_ROUNDS = 400  # at most; the val split picks how many


Seeded = bool | Literal["categories"]


class Predictor(Protocol):
    """What `predict_property` asks of a predictor.

    Attributes:
        name: what the report calls it; unique among the predictors of one report.
    """

    name: str

    @property
    def seeded(self) -> Seeded:
        """Whether the seed changes anything: always, never, or only for "categories"."""

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Learn to predict the column `target`, from scratch."""

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""


class Constant:
    """The mean, or the most frequent category, of the train split, whatever the weights are."""

    name, seeded = "constant", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Take the mean or the most frequent category."""
        true = train.columns[target]
        if is_category(target, true):
            values, counts = np.unique(true, return_counts=True)
            self._value = values[counts.argmax()]
        else:
            self._value = float(np.mean(true))

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Repeat it."""
        return np.full(len(dataset), self._value)


class HyperParameterBoosting:
    """Gradient boosting on how a model was trained, and for how long: no weights at all."""

    name, seeded = "hyper-parameters + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the hyper-parameters (and the epoch) that vary in the train split."""
        self._features = HyperParameterFeatures(train, target)
        self._model = fit_boosting(self._features, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict from hyper-parameters."""
        return self._model.predict(self._features(dataset))


class StatisticsBoosting:
    """Gradient boosting on seven statistics of every tensor, as Unterthiner et al. 2020."""

    name, seeded = "statistics + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the weight statistics."""
        self._tensors = _tensor_names(train)
        self._model = fit_boosting(_statistics_features, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict from weight statistics.

        Raises:
            UnsuitableError: if the network has other tensors than those that were fitted to.
        """
        _check_tensors(self._tensors, dataset)
        return self._model.predict(_statistics_features(dataset))


class StatisticsRidge:
    """Ridge regression on weight statistics, its alpha picked on the val split.

    Each statistic enters as its quantile among the train rows, since the statistics of a zoo
    spread over orders of magnitude and a few models would decide a fit to their plain values.
    """

    name, seeded = "statistics + ridge", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit one regression per alpha and keep the best on val.

        Val, not leave-one-out, because the checkpoints of one model are no independent rows.

        Raises:
            UnsuitableError: if the target is a category.
        """
        from sklearn.linear_model import Ridge

        if is_category(target, train.columns[target]):
            raise UnsuitableError(
                f"regression predicts numbers, target {target!r} is a category: "
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
        """Predict from weight statistics; errors as `StatisticsBoosting`."""
        _check_tensors(self._tensors, dataset)
        return self._model.predict(self._quantiles.transform(_statistics_features(dataset)))


class HyperParameterFeatures:
    """Hyper-parameter columns as numbers: text one-hot, what does not vary left out.

    Attributes:
        names: the columns taken, `epoch` among them if it varies; never the target itself.
    """

    def __init__(self, train: ZooDataset, target: str) -> None:
        """Look which columns vary in the train split.

        Raises:
            UnsuitableError: if none does.
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
        """(N, F), float64; a text value that the train split lacks is 0 in every place.

        Raises:
            UnsuitableError: if a column is missing.
        """
        if missing := [name for name in self.names if name not in dataset.columns]:
            raise UnsuitableError(
                f"zoo {dataset.name!r} has no hyper-parameters {missing}, which predictions are "
                "made from: leave out the predictor HyperParameterBoosting"
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
    """Whether fits of a target (N,) differ by seed; where they do not, one is enough."""
    if predictor.seeded == "categories":
        return is_category(target, true)
    return bool(predictor.seeded)


def _tensor_names(dataset: ZooDataset) -> tuple[str, ...]:
    """The tensors that have a place among the features."""
    return tuple(spec.name for spec in dataset.layer_table)


def _check_tensors(names: tuple[str, ...], dataset: ZooDataset) -> None:
    """Refuse a network with other tensors.

    Raises:
        UnsuitableError: if the names differ.
    """
    if _tensor_names(dataset) != names:
        raise UnsuitableError(
            f"statistics have a place per tensor: fitted to {len(names)} tensors, zoo "
            f"{dataset.name!r} has {len(dataset.layer_table)} others; pooled statistics cross over"
        )


def quantiles_of(features: np.ndarray) -> Any:
    """What maps features (N, F) to their quantiles among these rows, in [0, 1]."""
    from sklearn.preprocessing import QuantileTransformer

    count = min(MAX_QUANTILES, len(features))
    return QuantileTransformer(n_quantiles=count, random_state=0).fit(features)


def _statistics_features(dataset: ZooDataset) -> np.ndarray:
    """The weight statistics of every row, (N, 7 T), float64."""
    return np.concatenate(
        [
            layer_statistics(weights, dataset.layer_table).numpy()
            for weights in dataset.weight_blocks()
        ]
    ).astype(np.float64)  # ridge solves badly conditioned systems


def fit_boosting(
    features: Callable[[ZooDataset], np.ndarray],
    train: ZooDataset,
    val: ZooDataset,
    target: str,
    seed: int,
) -> Any:
    """Gradient-boosted trees with as many rounds as do best on val.

    Each split looks at a random half of the features, which is what the seed decides.
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
