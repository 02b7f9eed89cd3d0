"""Nowcasting: the weights of a later checkpoint from those of the first ones.

Settings are chosen on the val split; the test split is read once, for the scores.

Shape letters: M models, K known checkpoints, D length of the flat vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...builders.training.objectives import DataSet
from ...tasks.dynamics.extrapolation import (
    EXPONENTS,
    RIDGES,
    LearnedSteps,
    last_value,
    line,
    power_law,
    relative_errors,
)
from ...tasks.dynamics.population_rows import PopulationRows
from ...tasks.scoring.bootstrap import LEVEL, sample_counts
from ...zoos.images.image_set import ImageSet
from .runs import Horizon, Runs

SHARES = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)  # of the last step
LINES = (2, 3, 4)
RESAMPLES = 1000
BLOCK = 64  # networks evaluated at once

Nowcast = Callable[[Runs], Tensor]


@dataclass(frozen=True, kw_only=True)
class NowcastResult:
    """Scores of one method on the test split.

    Attributes:
        method: name of the method.
        setting: setting that the val split chose, as text.
        error: median over models of the squared distance to the later weights, divided by that of
            the last known weights; models that do not move are left out. A mean would be that of
            the few models that hardly move.
        error_interval: its 95 % interval, by bootstrap over models.
        closer: share of models whose prediction is closer than the last known weights.
        accuracy: mean test accuracy of the predicted networks; None without images.
        accuracy_interval: its 95 % interval.
    """

    method: str
    setting: str
    error: float
    error_interval: tuple[float, float]
    closer: float
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None


def nowcast(
    runs: Mapping[str, Runs],
    horizon: Horizon,
    data: DataSet | None,
    report: Callable[[str], None] = lambda name: None,
) -> list[NowcastResult]:
    """Choose every method's setting on val and score it on test.

    Args:
        runs: runs by split.
        horizon: known epochs and last epoch.
        data: image set for the accuracy of predicted networks; None leaves it out.
        report: called with the name of every finished method.
    """
    found = []
    for method, options in _methods(runs["train"], horizon).items():
        errors = {name: _error(make, runs["val"]) for name, make in options.items()}
        setting = min(errors, key=lambda name: errors[name])
        found.append(_scored(method, setting, options[setting], runs["test"], data))
        report(method)
    truth = _scored("true later weights", "", lambda part: part.last_weights(), runs["test"], data)
    return [*found, truth]


def _methods(train: Runs, horizon: Horizon) -> dict[str, dict[str, Nowcast]]:
    """Options of every method by the text of its setting."""
    epochs, at = torch.tensor(horizon.known), float(horizon.last)
    lines = [points for points in LINES if points <= len(epochs)]
    series, target = train.weights(), train.last_weights()
    table = train.split.layer_table
    learned = {
        f"ridge {ridge:g}": LearnedSteps.fit(table, series, target, ridge) for ridge in RIDGES
    }
    return {
        "last value": {"": lambda part: last_value(part.weights())},
        "line": {f"{n} points": _bind(line, epochs, at, n) for n in lines},
        "power law": {f"exponent {e:g}": _bind(power_law, epochs, at, e) for e in EXPONENTS},
        "share of the last step": {f"{s:g}": _step(s) for s in SHARES},
        "learned steps": {name: _learned(one) for name, one in learned.items()},
    }


def _bind(function: Callable[..., Tensor], *given: object) -> Nowcast:
    return lambda part: function(part.weights(), *given)


def _step(share: float) -> Nowcast:
    """The last weights and a share of the last step more."""

    def moved(part: Runs) -> Tensor:
        series = part.weights()
        return series[:, -1] + share * (series[:, -1] - series[:, -2])

    return moved


def _learned(steps: LearnedSteps) -> Nowcast:
    return lambda part: steps.predict(part.weights())


def _error(make: Nowcast, runs: Runs) -> float:
    return float(np.median(_errors(make(runs), runs)))


def _errors(predicted: Tensor, runs: Runs) -> np.ndarray:
    """Relative errors of the models that move; an error that is not finite is infinite."""
    last, target = runs.weights()[:, -1], runs.last_weights()
    moved = (last.double() - target).square().sum(1) > 0
    errors = relative_errors(predicted[moved], last[moved], target[moved])
    return errors.nan_to_num(nan=torch.inf).numpy()


def _scored(
    method: str, setting: str, make: Nowcast, test: Runs, data: DataSet | None
) -> NowcastResult:
    predicted = make(test)
    errors = _errors(predicted, test)
    accuracies = None if not isinstance(data, ImageSet) else _accuracies(predicted, test, data)
    return NowcastResult(
        method=method,
        setting=setting,
        error=float(np.median(errors)),
        error_interval=median_interval(errors),
        closer=float((errors < 1).mean()),
        accuracy=None if accuracies is None else float(accuracies.mean()),
        accuracy_interval=None if accuracies is None else mean_interval(accuracies),
    )


def _accuracies(weights: Tensor, runs: Runs, data: ImageSet) -> np.ndarray:
    """Test accuracy of the network of every model, (M,); 0 where weights are not finite."""
    population = PopulationRows(runs.split)
    found = []
    for start in range(0, len(weights), BLOCK):
        rows = runs.last_rows[start : start + BLOCK]
        networks = population.networks(rows)
        outputs = networks.fast_outputs(weights[start : start + BLOCK], data.test.pixels)
        right = outputs.argmax(2) == data.test.labels
        right &= outputs.isfinite().all(dim=2)
        found.append(right.double().mean(1))
    return torch.cat(found).numpy()


def mean_interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of a mean, by bootstrap over models.

    Args:
        values: one value per model, (M,).
        resamples: number of bootstrap samples.
    """
    counts = sample_counts(np.arange(len(values)), resamples, 0)
    means = counts @ values / counts.sum(axis=1)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def median_interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of a median, by bootstrap over models.

    Args:
        values: one value per model, (M,).
        resamples: number of bootstrap samples.
    """
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.median(values[drawn], axis=1), [tail, 100 - tail])
    return float(low), float(high)
