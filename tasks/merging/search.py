"""Search for the weights of a merge: Model-GLUE's heuristics and CMA-ES.

A search sees one number for weights of all members, and a budget of such evaluations. It is meant
to look at val data; the caller reports the result on test data once.

Shape letters: M members.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text

Weights = tuple[float, ...]
STEPS = tuple(round(0.1 * step, 1) for step in range(1, 10))  # coefficients of the heuristics
SIGMA = 1 / 6  # first step size of CMA-ES in [0, 1], as in Model-GLUE
DIGITS = 9


class BudgetSpent(Exception):
    """All evaluations that were allowed are done."""


@dataclass
class Evaluations:
    """Evaluates weights, remembers every result in a file, and counts.

    Attributes:
        evaluate: takes M weights, returns a number; larger is better.
        budget: most evaluations, those of an earlier start among them.
        path: file with finished evaluations, one a line; None keeps them in memory.
        known: results by weights.
        new: evaluations of this start.
    """

    evaluate: Callable[[Weights], float]
    budget: int
    path: Path | None = None
    known: dict[Weights, float] = field(default_factory=dict)
    new: int = 0
    _asked: set[Weights] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read what an earlier start left; a line that a kill cut off does not count."""
        if self.path is not None and self.path.exists():
            lines = self.path.read_text().split("\n")[:-1]
            self.known |= {tuple(key): value for key, value in map(json.loads, lines)}
            self.path.write_text("".join(f"{line}\n" for line in lines))

    def __call__(self, weights: Sequence[float]) -> float:
        """The result for some weights.

        Raises:
            BudgetSpent: if the budget does not allow another evaluation.
        """
        key = tuple(round(float(weight), DIGITS) for weight in weights)
        if key not in self._asked and len(self._asked) >= self.budget:
            raise BudgetSpent
        self._asked.add(key)
        if key not in self.known:
            value = float(self.evaluate(key))
            self.known[key] = value if math.isfinite(value) else -math.inf
            self.new += 1
            self._remember(key)
        return self.known[key]

    @property
    def spent(self) -> int:
        """Evaluations asked for, from a file or not."""
        return len(self._asked)

    def _remember(self, key: Weights) -> None:
        if self.path is None:
            return
        with self.path.open("a") as file:
            file.write(json_text([list(key), self.known[key]]) + "\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        weights: M weights, which sum to 1.
        score: score of the weights, on the data that the search saw.
        evaluations: spent.
        members: numbers of the members with a weight.
        finished: whether the search ended by itself, not by its budget.
    """

    weights: Weights
    score: float
    evaluations: int
    members: tuple[int, ...]
    finished: bool


def check_packages(strategies: Iterable[str]) -> None:
    """Check that the packages which strategies need are there, before any costly work.

    Args:
        strategies: names in `STRATEGIES`.

    Raises:
        MergeError: if a package is missing.
    """
    if "cma" in strategies and find_spec("cmaes") is None:
        raise MergeError("strategy 'cma' needs the package cmaes: pip install 'weightzoo[search]'")


def search_weights(
    strategy: str,
    evaluations: Evaluations,
    members: int,
    *,
    similarity: np.ndarray | None = None,
    seed: int = 0,
) -> SearchResult:
    """Search by a strategy.

    Args:
        strategy: a name in `STRATEGIES`.
        evaluations: what is asked.
        members: M.
        similarity: (M, M), for the strategies that look at it.
        seed: seed of CMA-ES.

    Raises:
        MergeError: if the strategy is unknown, or needs a similarity or a package that is not
            there.
    """
    if strategy not in STRATEGIES:
        raise MergeError(f"strategy must be one of {sorted(STRATEGIES)}, got {strategy!r}")
    if strategy.startswith("similarity") and similarity is None:
        raise MergeError(f"strategy {strategy!r} needs the similarity of the members")
    finished = True
    try:
        STRATEGIES[strategy](evaluations, members, similarity, seed)
    except BudgetSpent:
        finished = False
    asked = {key: evaluations.known[key] for key in evaluations._asked if key in evaluations.known}
    if not asked:
        raise MergeError(f"a budget of {evaluations.budget!r} allows no evaluation: raise it")
    weights = max(asked, key=lambda key: (asked[key], key))
    return SearchResult(
        weights=weights,
        score=asked[weights],
        evaluations=evaluations.spent,
        members=tuple(index for index, weight in enumerate(weights) if weight > 0),
        finished=finished,
    )


def single(member: int, members: int) -> Weights:
    """All weight on one member.

    Args:
        member: number of the member.
        members: number of members.
    """
    return tuple(float(index == member) for index in range(members))


def _best_first(evaluations: Evaluations, members: int) -> list[int]:
    """Members by their own score, the best first."""
    scores = [evaluations(single(member, members)) for member in range(members)]
    return sorted(range(members), key=lambda member: -scores[member])


def _mixed(current: Weights, other: int, share: float) -> Weights:
    """The current weights times `share`, and the rest for another member."""
    return tuple(
        share * weight + (1 - share) * (index == other) for index, weight in enumerate(current)
    )


def _average(evaluations: Evaluations, members: int, similarity: object, seed: int) -> None:
    """Heuristic (Average): add the next best with equal share if that loses nothing.

    It is the greedy soup of Wortsman et al. 2022, arXiv:2203.05482.
    """
    first, *rest = _best_first(evaluations, members)
    current, best, count = single(first, members), evaluations(single(first, members)), 1
    for member in rest:
        candidate = _mixed(current, member, count / (count + 1))
        if (score := evaluations(candidate)) >= best:
            current, best, count = candidate, score, count + 1


def _coefficient(evaluations: Evaluations, members: int, similarity: object, seed: int) -> None:
    """Heuristic (Coefficient): the next best, with the best of nine shares."""
    order = _best_first(evaluations, members)
    _chain(evaluations, members, order[0], lambda current, left: min(left, key=order.index))


def _by_similarity(sign: int) -> Callable[[Evaluations, int, "np.ndarray", int], None]:
    """Heuristic (Similarity): the member least (1) or most (-1) similar to the merge is next."""

    def search(evaluations: Evaluations, members: int, similarity: np.ndarray, seed: int) -> None:
        def following(current: Weights, left: set[int]) -> int:
            close = similarity @ np.array(current)
            return min(left, key=lambda member: (sign * close[member], member))

        first = _best_first(evaluations, members)[0]
        _chain(evaluations, members, first, following)

    return search


def _chain(
    evaluations: Evaluations,
    members: int,
    first: int,
    following: Callable[[Weights, set[int]], int],
) -> None:
    """Offer members one after the other, each with nine shares; keep the best that loses nothing.

    The share that is kept is the one that was best, not the one that was tried last.
    """
    current = single(first, members)
    best, left = evaluations(current), set(range(members)) - {first}
    while left:
        member = following(current, left)
        left.remove(member)
        candidates = [_mixed(current, member, share) for share in STEPS]
        score, candidate = max((evaluations(one), one) for one in candidates)
        if score >= best:
            current, best = candidate, score


def _cma(evaluations: Evaluations, members: int, similarity: object, seed: int) -> None:
    """CMA-ES over weights in [0, 1], divided by their sum, until the budget is spent."""
    check_packages(["cma"])
    from cmaes import CMA

    bounds = np.tile([0.0, 1.0], (members, 1))
    popsize = round(4 + 3 * math.log(members)) if members > 1 else 4
    optimizer = CMA(
        mean=np.full(members, 0.5), sigma=SIGMA, bounds=bounds, seed=seed, population_size=popsize
    )
    while not optimizer.should_stop():
        told = []
        for _ in range(optimizer.population_size):
            point = optimizer.ask()
            weights = point / point.sum() if point.sum() > 0 else np.full(members, 1 / members)
            told.append((point, -evaluations(weights.tolist())))
        optimizer.tell(told)


STRATEGIES: dict[str, Callable[..., None]] = {
    "average": _average,
    "coefficient": _coefficient,
    "similarity-ascending": _by_similarity(1),
    "similarity-descending": _by_similarity(-1),
    "cma": _cma,
}
