"""The scores by name, imported when they are used.

Most read one model at a time. A transductive score gives parts per model, which it joins over
all models of the zoo, so that its value depends on who else is ranked.

Shape letters: M models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ...zoos.errors import UnsuitableError
from .task_features import TaskFeatures


@dataclass(frozen=True, kw_only=True)
class ScoreEntry:
    """What is known of a score before it is imported.

    Functions are named "module.function", the module in this package.

    Attributes:
        function: takes a task; gives a number, or several parts.
        summary: one line about it.
        before: function that changes the features first; "" for none.
        join: function that joins the parts of all models; "" where there is one number.
        regression: whether labels may be values.
        head: whether it reads the model's own logits.
        domains: whether it leaves one domain out in turn.
    """

    function: str
    summary: str
    before: str = ""
    join: str = ""
    regression: bool = False
    head: bool = False
    domains: bool = False

    def check(self, name: str, task: TaskFeatures) -> None:
        """Refuse a task that the score cannot take.

        Args:
            name: name of the score in errors.
            task: task to score.

        Raises:
            UnsuitableError: if it has values to regress, or no logits, and the score needs others.
        """
        if task.regression and not self.regression:
            able = [key for key, entry in SCORES.items() if entry.regression]
            raise UnsuitableError(f"score {name!r} takes classes only; values to regress: {able}")
        if self.head and task.logits is None:
            able = [key for key, entry in SCORES.items() if not entry.head]
            raise UnsuitableError(
                f"score {name!r} reads the logits of a model's head, and there are none: {able} "
                "read features alone"
            )


SCORES: dict[str, ScoreEntry] = {
    "logme": ScoreEntry(
        function="class_scores.logme", summary="log evidence of the labels", regression=True
    ),
    "h-score": ScoreEntry(
        function="class_scores.h_score", summary="between-class share of the variance"
    ),
    "reg-h-score": ScoreEntry(
        function="class_scores.regularised_h_score", summary="H-score with shrunk covariance"
    ),
    "leep": ScoreEntry(
        function="head_scores.leep", summary="log probability of labels given the head", head=True
    ),
    "nce": ScoreEntry(
        function="head_scores.nce",
        summary="negative conditional entropy of labels given the head",
        head=True,
    ),
    "n-leep": ScoreEntry(
        function="head_scores.n_leep", summary="LEEP on a mixture of the features"
    ),
    "gbc": ScoreEntry(function="class_scores.gbc", summary="overlap of Gaussian classes"),
    "lfc": ScoreEntry(function="class_scores.lfc", summary="correlation of features and labels"),
    "transrate": ScoreEntry(
        function="class_scores.transrate", summary="coding rate between classes"
    ),
    "ncc": ScoreEntry(
        function="class_scores.nearest_centroid", summary="nearest centroid, leave one out"
    ),
    "knn": ScoreEntry(
        function="class_scores.nearest_neighbour", summary="nearest neighbour, leave one out"
    ),
    "parc": ScoreEntry(
        function="class_scores.parc", summary="distances of features against those of labels"
    ),
    "sfda": ScoreEntry(function="fisher_scores.sfda", summary="self-challenging discriminant"),
    "ncti": ScoreEntry(
        function="fisher_scores.ncti_parts",
        summary="closeness to neural collapse; transductive",
        join="fisher_scores.ncti",
    ),
    "etran": ScoreEntry(
        function="fisher_scores.etran_parts",
        summary="discriminant and energy; transductive",
        join="fisher_scores.etran",
    ),
    "ped-logme": ScoreEntry(
        function="class_scores.logme",
        summary="LogME after classes were pushed apart (PED)",
        before="fisher_scores.potential_energy_descent",
    ),
    "ped-sfda": ScoreEntry(
        function="fisher_scores.sfda",
        summary="SFDA after classes were pushed apart (PED)",
        before="fisher_scores.potential_energy_descent",
    ),
    "zood-discriminability": ScoreEntry(
        function="zood.discriminability",
        summary="evidence of the labels of a left-out domain",
        domains=True,
    ),
    "zood-stability": ScoreEntry(
        function="zood.stability",
        summary="density of the features of a left-out domain, whitened",
        domains=True,
    ),
    "zood-raw": ScoreEntry(
        function="zood.term_parts",
        summary="sum of both log densities",
        join="zood.raw_sum",
        domains=True,
    ),
    "zood-whitened": ScoreEntry(
        function="zood.term_parts",
        summary="sum of both terms, the second whitened",
        join="zood.whitened_sum",
        domains=True,
    ),
    "zood-ranks": ScoreEntry(
        function="zood.term_parts",
        summary="sum of the ranks in both terms; transductive",
        join="zood.rank_sum",
        domains=True,
    ),
}


def score_entry(name: str) -> ScoreEntry:
    """The entry of a name.

    Raises:
        ValueError: if there is none; the message lists the names.
    """
    if name not in SCORES:
        raise ValueError(f"score must be one of {list(SCORES)}, got {name!r}")
    return SCORES[name]


def score_parts(name: str, task: TaskFeatures) -> np.ndarray:
    """What a score computes of one model: one number, or the parts of a transductive score.

    Args:
        name: a key of `SCORES`.
        task: the model's features on the task.

    Raises:
        ValueError: if the name is unknown.
        UnsuitableError: if the score cannot take the task.
    """
    entry = score_entry(name)
    entry.check(name, task)
    changed = _load(entry.before)(task) if entry.before else task
    return np.atleast_1d(np.asarray(_load(entry.function)(changed), np.float64))


def join_parts(name: str, parts: np.ndarray) -> np.ndarray:
    """Scores (M,) of the parts (M, ...) that `score_parts` gave for each model.

    Args:
        name: a key of `SCORES`.
        parts: one row per model.
    """
    entry = score_entry(name)
    joined: np.ndarray = _load(entry.join)(parts) if entry.join else parts[:, 0]
    return joined


def score_models(name: str, tasks: Mapping[str, TaskFeatures]) -> np.ndarray:
    """Score of every model on one task, (M,), higher is better.

    Args:
        name: a key of `SCORES`.
        tasks: features of each model on the same images, by the model's name.

    Raises:
        ValueError: if the name is unknown.
        UnsuitableError: if the score cannot take the features of a model, which is named.
    """
    parts = []
    for model, task in tasks.items():
        try:
            parts.append(score_parts(name, task))
        except UnsuitableError as error:
            raise UnsuitableError(f"model {model!r}: {error}") from error
    return join_parts(name, np.stack(parts))


def _load(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(".")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return found
