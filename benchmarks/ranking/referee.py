"""The referee: rankers judged on a fine-tuning matrix, without ever seeing the target's truth.

A ranker is given the matrix with the held-out accuracies removed, so that it cannot read them by
mistake. Two columns: the target held out, and its whole family held out. The fixed order is always
beside a ranker, and every difference to it comes with an interval over targets.

Shape letters: M models, T targets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from ...tasks.ranking.matrix import Matrix
from ...tasks.ranking.prior import fixed_order, learned_sum, plain_sum
from ...tasks.scoring.ranks import (
    Agreement,
    Difference,
    agreement,
    difference,
    picks,
    seed_ceiling,
    weighted_tau,
)
from ...zoos.errors import UnsuitableError

HOLD_OUTS = ("target", "family")
FIXED, RANDOM = "fixed order", "random"
RANDOM_DRAWS = 100
PLACES = 5
FEWEST_FAMILIES = 5  # to draw from; the means of two or three say nothing of other families
MEASURES = tuple(field.name for field in fields(Agreement) if field.name != "constant")

Ranker = Callable[[Matrix, int, Sequence[int]], np.ndarray]
"""Takes the matrix, without what is held out, the target and all that is held out; gives (M,)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One ranker under one way of holding out.

    Attributes:
        ranker: its name.
        hold_out: one of `HOLD_OUTS`.
        targets: measures of each target.
        means: mean of each measure over targets.
        spread: deviation of the weighted tau between random orders; NaN for other rankers.
        picks: number of different models that it ranks first.
        constant: targets on which all its scores are equal.
        gain: difference to the fixed order in weighted tau; None for the fixed order.
        failed: why it could not rank; "" if it could.
    """

    ranker: str
    hold_out: str
    targets: Mapping[str, Mapping[str, float]]
    means: Mapping[str, float]
    spread: float
    picks: int
    constant: int
    gain: Difference | None
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the referee found.

    Attributes:
        rows: results ordered by hold-out, then by ranker.
        ceiling: agreement of the truth with itself under another seed, by measure.
        models: number of models.
        seeds: number of seeds of the fine-tuning.
        families: family of each target.
        missing: cells that were not run, in all seeds.
    """

    rows: tuple[Row, ...]
    ceiling: Mapping[str, float]
    models: int
    seeds: int
    families: Mapping[str, str]
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN as None."""
        return plain(asdict(self))


def rankers_of(matrix: Matrix) -> dict[str, Ranker]:
    """The rows that a matrix allows: always the fixed order and random, and what it knows more."""
    rankers: dict[str, Ranker] = {FIXED: _by_history}
    for name in ("parameters", "source_accuracy"):
        if name in matrix.columns:
            rankers[name.replace("_", " ")] = partial(_by_column, name)
    for name in matrix.scores:
        rankers[name] = partial(_by_score, name)
    for name in matrix.scores:
        rankers[f"prior + {name}"] = partial(_by_sum, (name,))
    if len(matrix.scores) > 1:
        rankers["prior + all, learned"] = partial(_by_learned, tuple(matrix.scores))
    return rankers


def judge(
    matrix: Matrix, rankers: Mapping[str, Ranker] | None = None, *, comparisons: int | None = None
) -> Verdict:
    """Judge rankers on every target of a matrix.

    Args:
        matrix: the truth, and the scores that rankers read.
        rankers: functions by name; None takes those of `rankers_of`. Fixed order and random are
            added.
        comparisons: number of differences that the intervals are corrected for; None takes one
            for each ranker but the fixed order and random, and for each way of holding out.

    Raises:
        UnsuitableError: if a target was run with fewer than two models, or there is one target.
    """
    run = np.isfinite(matrix.accuracy).sum(axis=0)
    if len(matrix.targets) < 2 or (run < 2).any():
        raise UnsuitableError(
            f"a referee needs at least 2 targets with 2 models each, got {len(matrix.targets)} "
            f"targets with {run.tolist()} models"
        )
    everyone = {FIXED: _by_history} | dict(rankers_of(matrix) if rankers is None else rankers)
    family = len(set(matrix.families)) < len(matrix.targets) and len(set(matrix.families)) > 1
    ways = HOLD_OUTS if family else HOLD_OUTS[:1]
    count = comparisons or max(1, (len(everyone) - 1) * len(ways))
    rows = [row for way in ways for row in _judge_way(matrix, everyone, way, count)]
    return Verdict(
        rows=tuple(rows),
        ceiling={
            "tau_w": seed_ceiling(matrix.test, weighted_tau),
            "tau_b": seed_ceiling(matrix.test),
        },
        models=len(matrix.models),
        seeds=matrix.test.shape[2],
        families=dict(zip(matrix.targets, matrix.families, strict=True)),
        missing=int(np.isnan(matrix.accuracy).sum()),
    )


def held_out(matrix: Matrix, target: int, way: str) -> list[int]:
    """Index of the targets whose truth a ranker may not see.

    Args:
        matrix: accuracies and the families of the targets.
        target: index of the target to rank for.
        way: "target", or "family" for the whole family of the target.
    """
    if way == "target":
        return [target]
    return [index for index, name in enumerate(matrix.families) if name == matrix.families[target]]


def drawn_families(families: Sequence[str]) -> Sequence[str] | None:
    """Families that a bootstrap draws from; None to draw targets where there are too few.

    Args:
        families: family of each target.
    """
    return families if len(set(families)) >= FEWEST_FAMILIES else None


def _without(matrix: Matrix, hidden: Sequence[int]) -> Matrix:
    """The matrix with the accuracies of some targets removed."""
    parts = {name: getattr(matrix, name).copy() for name in ("test", "val", "seconds")}
    for part in parts.values():
        part[:, list(hidden)] = np.nan
    return replace(matrix, **parts)


def _judge_way(
    matrix: Matrix, rankers: Mapping[str, Ranker], way: str, comparisons: int
) -> list[Row]:
    fixed: np.ndarray | None = None
    rows = []
    for name, ranker in rankers.items():
        try:
            scores = [
                ranker(_without(matrix, hidden), target, hidden)
                for target, hidden in _holdings(matrix, way)
            ]
        except UnsuitableError as error:
            rows.append(_failed(name, way, str(error)))
            continue
        found = [_agreement(matrix, target, score) for target, score in enumerate(scores)]
        tau = np.array([one.tau_w for one in found])
        if name == FIXED:
            fixed = tau
        gain = None
        if name != FIXED and fixed is not None:
            families = drawn_families(matrix.families) if way == "family" else None
            gain = difference(tau, fixed, families=families, comparisons=comparisons)
        rows.append(
            Row(
                ranker=name,
                hold_out=way,
                targets={
                    target: {key: getattr(one, key) for key in MEASURES}
                    for target, one in zip(matrix.targets, found, strict=True)
                },
                means={
                    key: float(np.mean([getattr(one, key) for one in found])) for key in MEASURES
                },
                spread=float("nan"),
                picks=picks(scores),
                constant=sum(one.constant for one in found),
                gain=gain,
            )
        )
    return [*rows, _random_row(matrix, way)]


def _holdings(matrix: Matrix, way: str) -> list[tuple[int, list[int]]]:
    return [(target, held_out(matrix, target, way)) for target in range(len(matrix.targets))]


def _agreement(matrix: Matrix, target: int, scores: np.ndarray) -> Agreement:
    """On the models that were run on the target; a missing score counts as the worst."""
    truth = matrix.accuracy[:, target]
    run = np.isfinite(truth)
    scores = scores[run]
    known = np.isfinite(scores)
    worst = scores[known].min() - 1 if known.any() else 0.0
    return agreement(truth[run], np.where(known, scores, worst))


def _random_row(matrix: Matrix, way: str) -> Row:
    """What random orders give on average, and how far their mean over targets scatters."""
    rng = np.random.default_rng(0)
    truths = [column[np.isfinite(column)] for column in matrix.accuracy.T]
    expected = [agreement(truth, np.zeros(len(truth))) for truth in truths]  # of tied scores
    draws = [
        np.mean([weighted_tau(truth, rng.permutation(len(truth))) for truth in truths])
        for _ in range(RANDOM_DRAWS)
    ]
    return Row(
        ranker=RANDOM,
        hold_out=way,
        targets={},
        means={key: float(np.mean([getattr(one, key) for one in expected])) for key in MEASURES},
        spread=float(np.std(draws)),
        picks=min(len(matrix.models), len(matrix.targets)),
        constant=0,
        gain=None,
    )


def _failed(name: str, way: str, reason: str) -> Row:
    nothing = dict.fromkeys(MEASURES, float("nan"))
    return Row(
        ranker=name,
        hold_out=way,
        targets={},
        means=nothing,
        spread=float("nan"),
        picks=0,
        constant=0,
        gain=None,
        failed=reason,
    )


def _by_history(matrix: Matrix, target: int, hidden: Sequence[int]) -> np.ndarray:
    return fixed_order(matrix.accuracy, hidden)


def _by_column(name: str, matrix: Matrix, target: int, hidden: Sequence[int]) -> np.ndarray:
    return np.asarray(matrix.columns[name], np.float64)


def _by_score(name: str, matrix: Matrix, target: int, hidden: Sequence[int]) -> np.ndarray:
    return matrix.scores[name][:, target]


def _by_sum(
    names: tuple[str, ...], matrix: Matrix, target: int, hidden: Sequence[int]
) -> np.ndarray:
    scores = {name: matrix.scores[name] for name in names}
    return plain_sum(matrix.accuracy, scores, target, hidden)


def _by_learned(
    names: tuple[str, ...], matrix: Matrix, target: int, hidden: Sequence[int]
) -> np.ndarray:
    scores = {name: matrix.scores[name] for name in names}
    return learned_sum(matrix.accuracy, scores, target, hidden)[0]


def plain(value: Any) -> Any:
    """JSON without NaN, rounded to five places."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return round(float(value), PLACES) if np.isfinite(value) else None
    return value
