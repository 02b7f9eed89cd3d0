"""Rank models for one task: scores of a feature file beside the fixed order of a matrix.

Shape letters: M models, T targets.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import UnsuitableError
from ..scoring.ranks import is_constant
from ..transferability.scores import SCORES, score_entry, score_models
from ..transferability.task_features import TaskFeatures
from .aggregation import standardised
from .features import FeatureFile
from .matrix import Matrix, read_matrix
from .prior import fixed_order

DEFAULT_SCORES = ("logme", "ncc")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Models ranked for one task.

    Attributes:
        task: its name.
        models: names, best first.
        total: value that they are ranked by, in the order of `models`: the sum of the
            standardised prior and scores.
        prior: fixed order in deviations, NaN for a model without a history.
        scores: values by name of the score, in the order of `models`.
        left_out: why a model was left out, by its name.
        seconds: time that scoring took.
        fine_tuning_seconds: what fine-tuning all of them would have taken, by the matrix; NaN
            where it does not say.
        notes: what to know of the ranking.
    """

    task: str
    models: tuple[str, ...]
    total: np.ndarray
    prior: np.ndarray
    scores: Mapping[str, np.ndarray]
    left_out: Mapping[str, str]
    seconds: float
    fine_tuning_seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        rows = [
            {"model": model, "total": float(self.total[i]), "prior": _number(self.prior[i])}
            | {name: float(score[i]) for name, score in self.scores.items()}
            for i, model in enumerate(self.models)
        ]
        return {
            "task": self.task,
            "ranking": rows,
            "left_out": dict(self.left_out),
            "seconds": self.seconds,
            "fine_tuning_seconds": _number(self.fine_tuning_seconds),
            "notes": list(self.notes),
        }

    def to_text(self, top: int) -> str:
        """A table of the first models, with the fixed order beside.

        Args:
            top: number of models to show.
        """
        fixed = np.argsort(np.argsort(-np.where(np.isfinite(self.prior), self.prior, -np.inf))) + 1
        lines = [["rank", "model", "total", "fixed order", *self.scores]]
        for i, model in enumerate(self.models[:top]):
            known = np.isfinite(self.prior[i])
            place = f"{fixed[i]} ({self.prior[i]:+.2f})" if known else "-"
            values = [f"{score[i]:.4g}" for score in self.scores.values()]
            lines.append([str(i + 1), model, f"{self.total[i]:+.2f}", place, *values])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        rows = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([f"task {self.task}, {len(self.models)} models", *rows, *self._remarks()])

    def _remarks(self) -> list[str]:
        cost = f"scored in {self.seconds:.1f} s"
        if np.isfinite(self.fine_tuning_seconds):
            cost += f"; fine-tuning all of them took {self.fine_tuning_seconds:.1f} s per target"
        left = [f"left out: {model}: {reason}" for model, reason in self.left_out.items()]
        return [cost, *left, *self.notes]


def rank_models(
    features: Path,
    scores: Sequence[str] = DEFAULT_SCORES,
    matrix: Path | None = None,
) -> Ranking:
    """Rank the models of a feature file for its task.

    Args:
        features: feature file of the task.
        scores: names in `SCORES`, which are added with equal weights.
        matrix: what fine-tuning gave on other targets; its models are found by name, and a target
            named as the task's image set is not looked at.

    Raises:
        ValueError: if a score is unknown or named twice, or there is none.
        ZooError: if a file cannot be read.
        UnsuitableError: if no model can be scored.
    """
    if not scores or len(set(scores)) < len(scores):
        raise ValueError(f"scores must be different and at least one of {list(SCORES)}: {scores}")
    for name in scores:
        score_entry(name)
    history = None if matrix is None else read_matrix(matrix)
    started = time.perf_counter()
    task, tasks, left_out = _usable(features, scores)
    values = {name: score_models(name, tasks) for name in scores}
    seconds = time.perf_counter() - started
    prior, cost, notes = _history(history, task, list(tasks))
    for name, value in values.items():
        if is_constant(value) and len(value) > 1:
            notes.append(f"{name} is equal for all models: it counts as no information")
    known = np.isfinite(prior)
    z = np.zeros(len(prior))
    z[known] = standardised(prior[known]) if known.any() else 0
    total = z + sum(standardised(value) for value in values.values())
    order = np.argsort(-total, kind="stable")
    names = list(tasks)
    return Ranking(
        task=task,
        models=tuple(names[i] for i in order),
        total=total[order],
        prior=prior[order],
        scores={name: value[order] for name, value in values.items()},
        left_out=left_out,
        seconds=seconds,
        fine_tuning_seconds=cost,
        notes=tuple(notes),
    )


def _usable(
    path: Path, scores: Sequence[str]
) -> tuple[str, dict[str, TaskFeatures], dict[str, str]]:
    """The task's name, the models that all scores can take, and why others cannot be scored."""
    tasks, left_out = {}, {}
    with FeatureFile(path) as file:
        for model in file.models:
            try:
                task = file.read(model)
                for name in scores:
                    score_entry(name).check(name, task)
                tasks[model] = task
            except UnsuitableError as error:
                left_out[model] = str(error)
        name = file.task.name
    if not tasks:
        reasons = "; ".join(left_out.values()) or "it holds no whole model"
        raise UnsuitableError(f"no model of {path} can be scored: {reasons}")
    return name, tasks, left_out


def _history(
    matrix: Matrix | None, task: str, models: Sequence[str]
) -> tuple[np.ndarray, float, list[str]]:
    """Prior of the models, seconds of fine-tuning them on a target, and notes."""
    nothing = np.full(len(models), np.nan)
    if matrix is None:
        return nothing, float("nan"), ["no matrix given: the ranking rests on scores alone"]
    place = {model: index for index, model in enumerate(matrix.models)}
    rows = [place.get(model, -1) for model in models]
    missing = rows.count(-1)
    if missing == len(models):
        return nothing, float("nan"), ["the matrix has none of these models"]
    own = task.rpartition("/")[0]  # a task is named IMAGES/SPLIT
    excluded = [i for i, target in enumerate(matrix.targets) if target == own]
    order = fixed_order(matrix.accuracy, excluded)
    prior = np.array([order[row] if row >= 0 else np.nan for row in rows])
    seconds = matrix.seconds[[row for row in rows if row >= 0]]
    run = np.isfinite(seconds)
    cost = float(seconds[run].sum() / seconds[..., 0][0].size) if run.any() else float("nan")
    notes = [f"{missing} models are not in the matrix: their prior is 0"] if missing else []
    if excluded:
        notes.append(f"the matrix holds the target {own!r} itself, which was not looked at")
    return prior, cost, notes


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
