"""Final accuracy and generalisation gap from the first checkpoints of a run.

Settings are chosen on the val split; the test split is read once, for the scores.

Shape letters: M models, K known checkpoints.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...loaders.load import ZooDataset
from ...tasks.baselines.regressors import (
    Constant,
    HyperParameterBoosting,
    HyperParameterFeatures,
    Predictor,
    StatisticsBoosting,
    fit_boosting,
    needs_seeds,
)
from ...tasks.dynamics.extrapolation import EXPONENTS, last_value, line, power_law
from ...tasks.dynamics.measures import FAMILIES
from ...tasks.scoring.bootstrap import bootstrap_intervals
from ...tasks.scoring.metrics import score
from .runs import FINAL_ACCURACY, Horizon, Runs

METRICS = ("tau_b", "r2", "mae")
RESAMPLES = 1000
LINES = (2, 3, 4)
LATER = ("barrier_partner", "agreement_with_last", "barrier", "barrier_aligned")
"""Columns that are of the last checkpoint, or need it."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Scores of one predictor of one target on the test split.

    Attributes:
        target: column that was predicted.
        predictor: name of the predictor.
        scores: metrics by name, one dict per seed.
        intervals: 95 % intervals of the first seed, by bootstrap over models.
        setting: setting that the val split chose, as text.
        seconds: seconds of a fit.
    """

    target: str
    predictor: str
    scores: tuple[Mapping[str, float], ...]
    intervals: Mapping[str, Sequence[float]]
    setting: str
    seconds: float


class CurveForecast:
    """Extrapolation of the known part of the target's own curve, on val images.

    Attributes:
        name: name in the table.
        setting: setting that the val split chose.
    """

    seeded = False

    def __init__(self, kind: str, horizon: Horizon) -> None:
        """Choose the kind of extrapolation.

        Args:
            kind: "last value", "line" or "power law".
            horizon: known epochs and last epoch.
        """
        self.name, self.setting = kind, ""
        self._horizon, self._epochs = horizon, torch.tensor(horizon.known)

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Choose points or exponent on the val split.

        Args:
            train: train models, ignored.
            val: val models.
            target: column to predict.
            seed: seed, ignored.
        """
        self._column = "val_accuracy" if target == FINAL_ACCURACY else "val_gap"
        self._choice: float = 0
        lines = tuple(points for points in LINES if points <= len(self._epochs))
        options: tuple[float, ...] = {"line": lines, "power law": EXPONENTS}.get(self.name, (0,))
        errors = []
        for self._choice in options:
            errors.append(float(np.square(self.predict(val) - val.columns[target]).mean()))
        self._choice = options[int(np.argmin(errors))]
        words = {"line": "last points", "power law": "exponent"}
        self.setting = f"{words[self.name]}: {self._choice}" if self.name in words else ""

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target, (M,), inside [-1, 1]."""
        names = [f"{self._column}_{epoch}" for epoch in self._horizon.known]
        values = np.stack([dataset.columns[name] for name in names], axis=1).astype(np.float64)
        series, at = torch.from_numpy(values)[..., None], self._horizon.last
        if self.name == "line":
            found = line(series, self._epochs, at, int(self._choice))
        elif self.name == "power law":
            found = power_law(series, self._epochs, at, self._choice)
        else:
            found = last_value(series)
        return found[:, 0].clamp(-1, 1).numpy()


class ColumnBoosting:
    """Gradient boosting on columns of the last known checkpoint.

    Attributes:
        name: name in the table.
        setting: number of columns.
    """

    seeded = True

    def __init__(self, name: str, columns: Sequence[str], hyper_parameters: bool = False) -> None:
        """Choose the columns.

        Args:
            name: name in the table.
            columns: names of columns with numbers; NaN is a value of its own.
            hyper_parameters: whether hyper-parameters are added.
        """
        self.name, self._columns, self._hyper_parameters = name, tuple(columns), hyper_parameters
        self.setting = f"{len(self._columns)} columns"

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit; the val split chooses the number of rounds.

        Args:
            train: train models.
            val: val models.
            target: column to predict.
            seed: seed of the feature subsets.
        """
        self._given = HyperParameterFeatures(train, target) if self._hyper_parameters else None
        self._model = fit_boosting(self._features, train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target, (M,)."""
        found: np.ndarray = self._model.predict(self._features(dataset))
        return found

    def _features(self, dataset: ZooDataset) -> np.ndarray:
        columns = dataset.columns
        found = np.stack([columns[name].astype(np.float64) for name in self._columns], axis=1)
        return found if self._given is None else np.hstack([found, self._given(dataset)])


def forecast_predictors(known: ZooDataset, horizon: Horizon) -> list[Predictor]:
    """All predictors of the benchmark.

    Args:
        known: dataset of the last known checkpoints, with measures as columns.
        horizon: known epochs and last epoch.
    """
    held = set(known.columns)
    paths = [one.name for one in FAMILIES["paths"].measures if one.name in held]
    measures = [name for name in known.columns if is_early_measure(name)]
    curve = [f"val_{kind}_{epoch}" for kind in ("accuracy", "gap") for epoch in horizon.known]
    made: list[Any] = [
        Constant(),
        *(CurveForecast(kind, horizon) for kind in ("last value", "line", "power law")),
        HyperParameterBoosting(),
        StatisticsBoosting(),
        ColumnBoosting("path measures + boosting", paths),
        ColumnBoosting("all measures + boosting", measures),
        ColumnBoosting("early curve + boosting", curve),
        ColumnBoosting("early curve, hyper-parameters + boosting", curve, True),
        ColumnBoosting("the same, all measures + boosting", [*curve, *measures], True),
    ]
    return made


def forecast(
    runs: Mapping[str, Runs],
    horizon: Horizon,
    target: str,
    seeds: Sequence[int],
    report: Callable[[str], None] = lambda name: None,
) -> list[Forecast]:
    """Fit every predictor of one target and score it on the test models.

    Args:
        runs: runs by split.
        horizon: known epochs and last epoch.
        target: "final_accuracy" or "final_gap".
        seeds: seeds of the fits; predictors without random choices are fitted once.
        report: called with the name of every finished predictor.
    """
    train, val, test = (runs[split].known for split in ("train", "val", "test"))
    found = []
    for predictor in forecast_predictors(train, horizon):
        several = needs_seeds(predictor, target, train.columns[target])
        started, predictions = time.perf_counter(), []
        used = list(seeds) if several else list(seeds)[:1]
        for seed in used:
            predictor.fit(train, val, target, seed)
            predictions.append(np.asarray(predictor.predict(test), np.float64))
        seconds = (time.perf_counter() - started) / len(used)
        found.append(_scored(predictor, target, test, predictions, seconds))
        report(predictor.name)
    return found


def _scored(
    predictor: Predictor,
    target: str,
    test: ZooDataset,
    predictions: Sequence[np.ndarray],
    seconds: float,
) -> Forecast:
    true = test.columns[target].astype(np.float64)
    models = test.columns["model_id"]
    scores = [score(true, one) for one in predictions]
    return Forecast(
        target=target,
        predictor=predictor.name,
        scores=tuple({name: getattr(one, name) for name in METRICS} for one in scores),
        intervals=bootstrap_intervals(true, predictions[0], models, METRICS, RESAMPLES, 0),
        setting=str(getattr(predictor, "setting", "")),
        seconds=seconds,
    )


def is_early_measure(name: str) -> bool:
    """Whether a column is a measure of `analyse` that is known at an early checkpoint."""
    names = [one.name for family in FAMILIES.values() for one in family.measures]
    layers = any(name.startswith(f"{one.name}_") for one in FAMILIES["spectra"].measures)
    return (name in names or layers) and name not in LATER
