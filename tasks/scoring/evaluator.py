"""`Evaluator`: scores of predictions of a column, with ceilings and confidence intervals.

Shape letters: N rows of the test split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...loaders import ZooDataset
from .accuracy_ceilings import rows_above_chance
from .bootstrap import bootstrap_intervals
from .metrics import (
    accuracy,
    balanced_accuracy,
    confusion,
    kendall_tau,
    mae,
    majority_share,
    mse,
    r2,
    tau_ceiling,
    tau_share,
)
from .targets import CATEGORIES, is_text

NUMBERS = ("test_accuracy", "generalization_gap", "epoch", "frequency")
TASKS = NUMBERS + CATEGORIES
RESAMPLES = 1000
MIN_STRATUM = 5  # rows; tau_b of fewer rows is too noisy
Metric = Callable[[np.ndarray, np.ndarray], float]
METRICS: dict[str, dict[str, Metric]] = {
    "number": {"tau_b": kendall_tau, "r2": r2, "mae": mae, "mse": mse},
    "category": {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy},
}


@dataclass(frozen=True)
class Evaluator:
    """Scores predictions of one target.

    Attributes:
        task: name of the target column: one of `TASKS`, or any other with `kind`.
        kind: "number" or "category"; the default is the kind of the task.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import Evaluator
        >>> from weightzoo.tasks.scoring.evaluator import evaluation_inputs
        >>> test = load_zoo(ZOO, split="test")
        >>> exact = evaluation_inputs(test, "test_accuracy", test.columns["test_accuracy"])
        >>> round(Evaluator("test_accuracy").eval(exact)["tau_b"], 6)
        1.0
    """

    task: str
    kind: str = ""

    def __post_init__(self) -> None:
        """Set the kind of a known task.

        Raises:
            ValueError: if the kind is unknown, or is missing for a task that is not in `TASKS`.
        """
        kind = self.kind
        if not kind and self.task in TASKS:
            kind = "number" if self.task in NUMBERS else "category"
        if kind not in METRICS:
            raise ValueError(
                f"kind must be one of {tuple(METRICS)}, got {self.kind!r}; it may be left out only "
                f"for the tasks {TASKS}, got task {self.task!r}"
            )
        object.__setattr__(self, "kind", kind)

    @property
    def expected_input_format(self) -> str:
        """Description of the inputs of `eval`."""
        values = "finite numbers" if self.kind == "number" else "categories (text or numbers)"
        return (
            f"Evaluator({self.task!r}).eval(inputs) takes a dict of\n"
            f"  'true': (N,) {values}, the column {self.task!r} of N test rows\n"
            f"  'predicted': (N,) {values}, for the same rows\n"
            "  'model_id': (N,) integers, the model of each row\n"
            "  'strata' (optional): dict of (N,) columns; tau_b is also computed in each group of "
            "rows with an equal value\n"
            "  'above_chance' (optional): (N,) bool; scores are also computed on these rows alone"
        )

    @property
    def expected_output_format(self) -> str:
        """Description of the result of `eval`."""
        if self.kind == "category":
            return (
                "{'accuracy', 'balanced_accuracy' (mean over the categories), 'majority' (accuracy "
                "of the most frequent category), 'confusion' (counts by true and predicted "
                "category), 'models', 'rows', 'intervals': {metric: [low, high]}}"
            )
        return (
            "{'tau_b' (Kendall's rank correlation with ties), 'tau_max' (the largest tau_b of "
            "predictors without ties), 'tau_share' (tau_b / tau_max; it can exceed 1 for a "
            "predictor with ties), 'r2', 'mae', 'mse', 'models', 'rows', "
            "'intervals': {metric: [low, high]}, "
            "'strata': {column: {group: tau_b, 'mean': mean weighted by rows}}, "
            "'above_chance' (if given): {'rows', 'share', 'tau_b', 'r2', 'mae'}}"
        )

    def eval(
        self, inputs: Mapping[str, Any], resamples: int = RESAMPLES, seed: int = 0
    ) -> dict[str, Any]:
        """Score predictions.

        Args:
            inputs: columns as in `expected_input_format`.
            resamples: number of bootstrap samples for the 95 % intervals; 0 computes no intervals.
                Models are drawn, not rows: checkpoints of one model are not independent rows.
            seed: seed of the bootstrap.

        Returns:
            Scores as in `expected_output_format`. An undefined score, such as tau_b of a constant,
            is None.

        Raises:
            ValueError: if keys, kinds or shapes of the inputs differ from the expected ones.
        """
        true, predicted, models = self._checked(inputs)
        scores: dict[str, Any] = {
            name: metric(true, predicted) for name, metric in METRICS[self.kind].items()
        }
        if self.kind == "number":
            scores["tau_max"] = tau_ceiling(true)
            scores["tau_share"] = tau_share(scores["tau_b"], scores["tau_max"])
            scores["strata"] = {
                name: stratum_taus(true, predicted, np.asarray(values))
                for name, values in (inputs.get("strata") or {}).items()
            }
            if inputs.get("above_chance") is not None:
                kept = np.asarray(inputs["above_chance"], bool)
                scores["above_chance"] = scores_of_part(true, predicted, kept)
        else:
            scores["majority"] = majority_share(true)
            scores["confusion"] = confusion(true, predicted)
        scores |= {"models": len(np.unique(models)), "rows": len(true)}
        if resamples:
            scores["intervals"] = bootstrap_intervals(
                true, predicted, models, tuple(METRICS[self.kind]), resamples, seed
            )
        return _defined(scores)

    def _checked(self, inputs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keys = ("true", "predicted", "model_id")
        odd = set(inputs) - {*keys, "strata", "above_chance"}
        if odd or any(key not in inputs for key in keys):
            raise ValueError(f"inputs have the keys {sorted(inputs)}. {self.expected_input_format}")
        true, predicted, models = (np.asarray(inputs[key]) for key in keys)
        if self.kind == "number":
            if is_text(true) or is_text(predicted):
                raise ValueError(
                    f"task {self.task!r} is of kind 'number', got text. "
                    f"{self.expected_input_format}"
                )
            true, predicted = true.astype(np.float64), predicted.astype(np.float64)
        shapes = [true.shape, predicted.shape, models.shape]
        if len(set(shapes)) > 1 or true.ndim != 1 or len(true) < 2:
            raise ValueError(
                f"inputs have the shapes {shapes}, N must be at least 2. "
                f"{self.expected_input_format}"
            )
        return true, predicted, models


def evaluation_inputs(dataset: ZooDataset, target: str, predicted: np.ndarray) -> dict[str, Any]:
    """Inputs of `Evaluator.eval` for the rows of a dataset.

    The strata are the text hyper-parameters of the zoo and the epoch, if their values differ. For
    test accuracy, rows above chance are marked where chance is known.

    Args:
        dataset: N rows with the columns `target` and `model_id`.
        target: name of the target column.
        predicted: predictions for all rows, (N,).
    """
    columns = dataset.columns
    names = [
        name
        for name in (*dataset.header.hyper_parameters, "epoch")
        if name in columns and name != target and (is_text(columns[name]) or name == "epoch")
    ]
    strata = {name: columns[name] for name in names if len(np.unique(columns[name])) > 1}
    above = rows_above_chance(dataset, target)
    return {
        "true": columns[target],
        "predicted": predicted,
        "model_id": columns["model_id"],
        "strata": strata,
    } | ({} if above is None else {"above_chance": above})


def stratum_taus(true: np.ndarray, predicted: np.ndarray, strata: np.ndarray) -> dict[str, float]:
    """tau_b within each group of rows with an equal stratum, and their mean weighted by rows.

    A predictor that only distinguishes the groups has a tau_b near 0 in all of them. Groups with
    fewer than `MIN_STRATUM` rows, or with constant truth or predictions, are left out.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).
        strata: group of each row, (N,).

    Returns:
        tau_b by group, and the weighted mean under "mean".
    """
    taus, rows = dict[str, float](), []
    for value in np.unique(strata):
        in_group = strata == value
        tau = (
            kendall_tau(true[in_group], predicted[in_group])
            if in_group.sum() >= MIN_STRATUM
            else np.nan
        )
        if np.isfinite(tau):
            taus[str(value)] = tau
            rows.append(int(in_group.sum()))
    mean = float(np.average(list(taus.values()), weights=rows)) if taus else float("nan")
    return taus | {"mean": mean}


def scores_of_part(true: np.ndarray, predicted: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """Scores of some rows alone: their number and share, tau_b, R2 and mean absolute error.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).
        kept: whether a row is one of them, (N,).
    """
    found: dict[str, Any] = {"rows": int(kept.sum()), "share": float(kept.mean())}
    names = ("tau_b", "r2", "mae")
    if kept.sum() < 2:
        return found | dict.fromkeys(names)
    return found | {name: METRICS["number"][name](true[kept], predicted[kept]) for name in names}


def _defined(value: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_defined(item) for item in value]
    return value if not isinstance(value, float) or np.isfinite(value) else None
