"""Predictors of a target column that need no neural encoder: the honest baselines.

A predictor is fitted to checkpoints and predicts a number for others. Whatever it has to choose
it chooses on the val split.

Shape letters: N rows, F features.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ..encoders.statistics import layer_statistics
from ..loaders import ZooDataset

BLOCK_ROWS = 1024  # weights read at a time
RIDGE_ALPHAS = np.logspace(-3, 5, 33)
MAX_QUANTILES = 200
BOOSTING_ROUNDS = 400  # at most; the val split picks how many


class Predictor(Protocol):
    """What `predict_property` asks of a predictor.

    Attributes:
        name: what the report calls it; unique among the predictors of one report.
        seeded: whether the seed changes anything; one that is not is fitted once.
    """

    name: str
    seeded: bool

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Learn to predict the column `target`, from scratch."""

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""


class Constant:
    """The mean of the train split, whatever the weights are."""

    name, seeded = "constant", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Take the mean."""
        self._mean = float(np.mean(train.columns[target]))

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Repeat the mean."""
        return np.full(len(dataset), self._mean)


class HyperParameterBoosting:
    """Gradient boosting on how a model was trained, and for how long: no weights at all."""

    name, seeded = "hyper-parameters + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the hyper-parameters (and the epoch) that vary in the train split."""
        self._features = HyperParameterFeatures(train, target)
        self._model = _boosting(
            (self._features(train), train.columns[target]),
            (self._features(val), val.columns[target]),
            seed,
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict from hyper-parameters."""
        return self._model.predict(self._features(dataset))


class StatisticsBoosting:
    """Gradient boosting on seven statistics of every tensor, as Unterthiner et al. 2020."""

    name, seeded = "statistics + boosting", True

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit to the weight statistics."""
        self._model = _boosting(
            (statistics_features(train), train.columns[target]),
            (statistics_features(val), val.columns[target]),
            seed,
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict from weight statistics."""
        return self._model.predict(statistics_features(dataset))


class StatisticsRidge:
    """Ridge regression on weight statistics, its alpha picked on the val split.

    Each statistic enters as its quantile among the train rows, since the statistics of a zoo
    spread over orders of magnitude and a few models would decide a fit to their plain values.
    """

    name, seeded = "statistics + ridge", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit one regression per alpha and keep the best on val.

        Val, not leave-one-out, because the checkpoints of one model are no independent rows.
        """
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import QuantileTransformer

        count = min(MAX_QUANTILES, len(train))
        self._quantiles = QuantileTransformer(n_quantiles=count, random_state=0)
        features = self._quantiles.fit_transform(statistics_features(train))
        val_features = self._quantiles.transform(statistics_features(val))
        candidates = [Ridge(alpha).fit(features, train.columns[target]) for alpha in RIDGE_ALPHAS]
        self._model = min(
            candidates,
            key=lambda model: _squared_error(model.predict(val_features), val.columns[target]),
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict from weight statistics."""
        return self._model.predict(self._quantiles.transform(statistics_features(dataset)))


class HyperParameterFeatures:
    """Hyper-parameter columns as numbers: text one-hot, what does not vary left out.

    Attributes:
        names: the columns taken, `epoch` among them if it varies; never the target itself.
    """

    def __init__(self, train: ZooDataset, target: str) -> None:
        """Look which columns vary in the train split.

        Raises:
            ValueError: if none does.
        """
        columns = [*train.header.hyper_parameters, "epoch"]
        self._values = {
            name: np.unique(train.columns[name])
            for name in columns
            if name != target and name in train.columns
        }
        self.names = tuple(name for name, values in self._values.items() if len(values) > 1)
        if not self.names:
            raise ValueError(
                f"none of the hyper-parameters {columns} varies in the train split: "
                "leave out the predictor HyperParameterBoosting"
            )

    def __call__(self, dataset: ZooDataset) -> np.ndarray:
        """(N, F), float64; a text value that the train split lacks is 0 in every place."""
        parts = []
        for name in self.names:
            column = dataset.columns[name]
            if column.dtype.kind in "OUS":
                parts.append(column[:, None] == self._values[name])
            else:
                parts.append(column[:, None])
        return np.concatenate(parts, axis=1).astype(np.float64)


def statistics_features(dataset: ZooDataset) -> np.ndarray:
    """The weight statistics of every row, (N, 7 T), float64."""
    return np.concatenate(
        [layer_statistics(weights, dataset.layer_table).numpy() for weights in blocks(dataset)]
    ).astype(np.float64)  # ridge solves badly conditioned systems


def blocks(dataset: ZooDataset) -> Iterator[Any]:
    """The weights of all rows, at most `BLOCK_ROWS` at a time, in order."""
    for start in range(0, len(dataset), BLOCK_ROWS):
        yield dataset.weights(range(start, min(start + BLOCK_ROWS, len(dataset))))


def _boosting(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], seed: int
) -> Any:
    """Gradient-boosted trees with as many rounds as do best on val.

    Each split looks at a random half of the features, which is what the seed decides.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    settings = {
        "learning_rate": 0.05,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 10,
        "max_features": 0.5,
        "early_stopping": False,
        "random_state": seed,
    }
    model = HistGradientBoostingRegressor(max_iter=BOOSTING_ROUNDS, **settings).fit(*train)
    errors: Sequence[float] = [
        _squared_error(predicted, val[1]) for predicted in model.staged_predict(val[0])
    ]
    rounds = int(np.argmin(errors)) + 1
    return HistGradientBoostingRegressor(max_iter=rounds, **settings).fit(*train)


def _squared_error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(((predicted - true) ** 2).mean())
