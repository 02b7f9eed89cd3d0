"""Predicts a property of trained networks from their weights, by default their test accuracy.

The zoo is split by model: no checkpoint of a test model is seen in training. Every predictor is
compared with a constant, with a predictor on hyper-parameters only, and with the largest tau_b
(Kendall's rank correlation) of predictors without ties on the test split (`metrics.tau_ceiling`).

Shape letters: N rows of the test split.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.format import SPLITS
from ..baselines.regressors import (
    Constant,
    HyperParameterBoosting,
    Predictor,
    StatisticsBoosting,
    StatisticsRidge,
    needs_seeds,
)
from ..processes import worker_pool
from ..scoring.accuracy_ceilings import accuracy_ceilings
from ..scoring.metrics import score, tau_ceiling
from ..scoring.targets import is_text
from ..training.encoder_regressor import EncoderRegressor
from .property_report import PredictorResult, PropertyReport, SplitCounts

ROWS = ("all", "last")
MIN_MODELS = {"train": 10, "val": 3, "test": 3}


def default_predictors() -> list[Predictor]:
    """Constant, hyper-parameters, weight statistics (ridge, boosting), and the encoder SNE."""
    return [
        Constant(),
        HyperParameterBoosting(),
        StatisticsRidge(),
        StatisticsBoosting(),
        EncoderRegressor(),
    ]


def predict_property(
    zoo: Mapping[str, ZooDataset],
    target: str = "test_accuracy",
    predictors: Sequence[Predictor] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    rows: str = "all",
    workers: int = 1,
) -> PropertyReport:
    """Fit predictors to the train split, once per seed, and score them on the test split.

    Rows with status "diverged", and rows with a target or weights that are not finite, are left
    out and counted. The seed fixes initial weights, the order of the data and all random choices
    of a predictor, but not the split.

    Args:
        zoo: dataset by split, from `load_zoo(path)`.
        target: name of a numeric column.
        predictors: predictors to compare; None takes `default_predictors()`.
        seeds: seeds of the fits, one fit each; a predictor without randomness is fitted once.
        rows: checkpoints to use, "all" or only the "last" one of each model.
        workers: number of parallel fits, each in its own process with one thread; 1 runs all fits
            in this process. Small networks train faster in parallel fits than with many threads.

    Raises:
        ValueError: before any training, if the target is unknown, not a number or constant, if a
            split is missing or has too few models, or if splits share a model.

    Example:
        >>> import tempfile, torch
        >>> from weightzoo import load_zoo, write_zoo
        >>> from weightzoo.tasks import predict_property
        >>> from weightzoo.tasks.baselines.regressors import StatisticsRidge
        >>> modules = [torch.nn.Linear(4, 3) for _ in range(16)]
        >>> columns = {"test_accuracy": [number / 16 for number in range(16)]}
        >>> folder, splits = tempfile.mkdtemp() + "/mine", ["train"] * 10 + ["val", "test"] * 3
        >>> _ = write_zoo(folder, modules, columns, name="mine", licence="mit", splits=splits)
        >>> report = predict_property(load_zoo(folder), predictors=[StatisticsRidge()])
        >>> report.counts["test"].models, [result.name for result in report.results]
        (3, ['statistics + ridge'])
    """
    predictors = default_predictors() if predictors is None else list(predictors)
    _check_arguments(predictors, seeds, rows, workers)
    _check_number(zoo, target)
    kept = checked_rows(zoo, target, rows)
    true = np.asarray(kept["test"].columns[target], np.float64)
    return PropertyReport(
        target=target,
        rows=rows,
        tau_ceiling=tau_ceiling(true),
        counts={split: _counts(zoo[split], kept[split], rows) for split in SPLITS},
        results=_evaluate(predictors, kept, target, seeds, workers),
        true=true,
        accuracy=accuracy_ceilings(kept["test"], target),
        splitting=zoo["test"].splitting,
    )


def checked_rows(zoo: Mapping[str, ZooDataset], target: str, rows: str) -> dict[str, ZooDataset]:
    """The rows to use by split, after checks that the target can be predicted and scored.

    Args:
        zoo: dataset by split.
        target: name of the target column.
        rows: checkpoints to use, one of `ROWS`.

    Raises:
        UnsuitableError: if the target is missing or constant, if a split is missing or has too few
            models, or if splits share a model.
    """
    _check_zoo(zoo, target)
    kept = {split: usable_rows(zoo[split], target, rows) for split in SPLITS}
    _check_rows(kept, target)
    return kept


def usable_rows(dataset: ZooDataset, target: str, rows: str) -> ZooDataset:
    """The rows to use, without rows that cannot be predicted.

    Args:
        dataset: rows of one split.
        target: name of the target column.
        rows: checkpoints to use, "all" or only the "last" one of each model.

    Raises:
        ValueError: if `rows` is neither "all" nor "last".
    """
    if rows not in ROWS:
        raise ValueError(f"rows must be one of {ROWS}, got {rows!r}")
    if rows == "last":
        dataset = dataset.filter(_is_last)
    true = dataset.columns[target]
    usable = np.full(len(true), True) if is_text(true) else np.isfinite(true.astype(np.float64))
    if "status" in dataset.columns:
        usable &= dataset.columns["status"] != "diverged"
    finite = [torch.isfinite(weights).all(dim=1).numpy() for weights in dataset.weight_blocks()]
    usable &= np.concatenate(finite) if finite else True
    return dataset.filter(lambda columns: usable)


def _is_last(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether a row has its model's largest epoch, (N,)."""
    models, index = np.unique(columns["model_id"], return_inverse=True)
    last = np.full(len(models), -1, np.int64)
    np.maximum.at(last, index, columns["epoch"])
    return columns["epoch"] == last[index]


@dataclass(frozen=True)
class Fit:
    """Arguments of one fit of one predictor, which a worker process gets.

    Attributes:
        predictor: predictor to fit.
        kept: rows to use by split.
        target: name of the target column.
        seed: seed of the fit.
    """

    predictor: Predictor
    kept: Mapping[str, ZooDataset]
    target: str
    seed: int

    def run(self) -> tuple[np.ndarray, float]:
        """Predictions for the test split, (N,), and the seconds of the fit."""
        start = time.perf_counter()
        self.predictor.fit(self.kept["train"], self.kept["val"], self.target, self.seed)
        seconds = time.perf_counter() - start
        return np.asarray(self.predictor.predict(self.kept["test"]), np.float64), seconds


def _evaluate(
    predictors: Sequence[Predictor],
    kept: Mapping[str, ZooDataset],
    target: str,
    seeds: Sequence[int],
    workers: int,
) -> tuple[PredictorResult, ...]:
    """Fit and score every predictor with all its seeds."""
    true = kept["train"].columns[target]
    used = [tuple(seeds) if needs_seeds(p, target, true) else (seeds[0],) for p in predictors]
    fits = [
        Fit(predictor, kept, target, seed)
        for predictor, own in zip(predictors, used, strict=True)
        for seed in own
    ]
    outcomes = iter(_run(fits, workers))
    return tuple(
        _result(predictor.name, own, [next(outcomes) for _ in own], kept["test"].columns[target])
        for predictor, own in zip(predictors, used, strict=True)
    )


def _run(fits: Sequence[Fit], workers: int) -> list[tuple[np.ndarray, float]]:
    """Run fits in this process or in worker processes, whose errors are raised here."""
    if workers == 1:
        return [fit.run() for fit in fits]
    with worker_pool(workers) as pool:
        return list(pool.map(Fit.run, fits))


def _result(
    name: str,
    seeds: tuple[int, ...],
    outcomes: Sequence[tuple[np.ndarray, float]],
    true: np.ndarray,
) -> PredictorResult:
    return PredictorResult(
        name=name,
        seeds=seeds,
        scores=tuple(score(true, predicted) for predicted, _ in outcomes),
        train_seconds=tuple(seconds for _, seconds in outcomes),
        predicted=outcomes[0][0],
    )


def _check_arguments(
    predictors: Sequence[Predictor], seeds: Sequence[int], rows: str, workers: int
) -> None:
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers!r}")
    if rows not in ROWS:
        raise ValueError(f"rows must be one of {ROWS}, got {rows!r}")
    names = [predictor.name for predictor in predictors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"predictors must be at least one, with different names, got {names}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different and at least one, got {list(seeds)!r}")


def _check_number(zoo: Mapping[str, ZooDataset], target: str) -> None:
    """Reject a target that is not a column of numbers."""
    for dataset in zoo.values():
        columns = dataset.columns
        numeric = sorted(name for name in columns if columns[name].dtype.kind in "fiub")
        if target not in numeric:
            raise ValueError(f"target must be a numeric column, one of {numeric}, got {target!r}")


def _check_zoo(zoo: Mapping[str, ZooDataset], target: str) -> None:
    """Reject a zoo without the three splits, without the columns, or with a model in two splits."""
    if missing := [split for split in SPLITS if split not in zoo]:
        raise UnsuitableError(
            f"zoo has no split {missing}, it has {list(zoo)}: all three splits are needed"
        )
    for split in SPLITS:
        columns = zoo[split].columns
        if needed := [name for name in ("model_id", "epoch", target) if name not in columns]:
            raise UnsuitableError(
                f"split {split!r} has no columns {needed}, it has {sorted(columns)}: choose "
                "another target, or load the zoo with them"
            )
    models = {split: set(zoo[split].columns["model_id"].tolist()) for split in SPLITS}
    shared = (models["train"] | models["val"]) & models["test"] | models["train"] & models["val"]
    if shared and not zoo["test"].splitting.get("cut_models"):  # a published split that leaks
        raise UnsuitableError(
            f"{len(shared)} models are in more than one split, e.g. model {min(shared)}: "
            "scores would be meaningless; split the zoo by model"
        )


def _check_rows(kept: Mapping[str, ZooDataset], target: str) -> None:
    """Reject splits with too few models, or with a constant target."""
    for split, dataset in kept.items():
        models = len(np.unique(dataset.columns["model_id"]))
        if models < MIN_MODELS[split]:
            raise UnsuitableError(
                f"split {split!r} has {models} usable models, at least {MIN_MODELS[split]} are "
                "needed: build a larger zoo"
            )
        values = dataset.columns[target]
        if len(np.unique(values)) == 1:
            raise UnsuitableError(
                f"target {target!r} is {values[0]} in every row of split {split!r}: there is "
                "nothing to predict, choose another target"
            )


def _counts(dataset: ZooDataset, kept: ZooDataset, rows: str) -> SplitCounts:
    asked = dataset.filter(_is_last) if rows == "last" else dataset
    return SplitCounts(
        models=len(np.unique(kept.columns["model_id"])),
        rows=len(kept),
        dropped_rows=len(asked) - len(kept),
    )
