"""One family of the pipeline: its members are filtered, candidates evaluated, one is chosen.

Shape letters: M members.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text
from ..merge_methods.kinship import BASE, KEEP, RULE_SCALES, Kinship
from .output import write_text
from .pools import Candidate, Pool
from .search import STRATEGIES, Evaluations, search_weights, single

DEFAULT_STRATEGIES = ("average", "coefficient")
CHOICES = ("val", "rule")


@dataclass(frozen=True, kw_only=True)
class GlueSettings:
    """How a pool is glued.

    Attributes:
        strategies: search strategies, names in `STRATEGIES`.
        budget: most evaluations of every strategy in every family.
        least_share: members whose val score is below this share of their family's best are
            filtered out; scores must be positive for it to apply.
        seed: seed of families, searches and random gates.
        choose: "val" evaluates all candidates and takes the best on val; "rule" evaluates only
            the one that the rule by kinship names.
    """

    strategies: tuple[str, ...] = DEFAULT_STRATEGIES
    budget: int = 100
    least_share: float = 0.5
    seed: int = 0
    choose: str = "val"

    def __post_init__(self) -> None:
        """Refuse unknown strategies and choices, and budgets that allow nothing."""
        if self.choose not in CHOICES:
            raise MergeError(f"choose must be one of {CHOICES}, got {self.choose!r}")
        if unknown := [name for name in self.strategies if name not in STRATEGIES]:
            raise MergeError(f"strategies must be of {sorted(STRATEGIES)}, got {unknown}")
        if not self.strategies or self.budget < 1 or not 0 <= self.least_share <= 1:
            raise MergeError(f"glue needs a strategy, a budget and a share within 0 and 1: {self}")


@dataclass
class Steps:
    """Results of finished steps, and the evaluations that were spent."""

    folder: Path
    new_evaluations: int = 0

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of a step: read if it is there, else worked out and written.

        Args:
            name: name of the step.
            work: function that works the result out.
        """
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        start = time.perf_counter()
        result = {"result": work(), "seconds": round(time.perf_counter() - start, 2)}
        write_text(path, json_text(result))
        return result


def family_step(
    pool: Pool,
    steps: Steps,
    settings: GlueSettings,
    number: int,
    group: list[int],
    similarity: np.ndarray,
) -> dict[str, Any]:
    """Filter, search and choose within one family; its result once it is there.

    Args:
        pool: the models.
        steps: results of finished steps.
        settings: settings of the pipeline.
        number: number of the family.
        group: numbers of its members.
        similarity: mean column cosine of all pairs of the pool, (M, M).
    """
    family = _Family(pool, steps, settings, number, group, similarity)
    done = steps.run(f"family-{number}", family.work)
    result: dict[str, Any] = done["result"] | {"seconds": done["seconds"]}
    return result


@dataclass
class _Family:
    """The candidates of one family."""

    pool: Pool
    steps: Steps
    settings: GlueSettings
    number: int
    group: list[int]
    similarity: np.ndarray

    def work(self) -> dict[str, Any]:
        """Filter the members, evaluate candidates, choose one."""
        scores = self._singles()
        kept = _filtered(self.group, list(scores.values()), self.settings.least_share)
        kept.sort(key=lambda member: -scores[member])
        inner = self.similarity[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)]
        close = float(inner.mean()) if len(inner) else 1.0
        kinship = Kinship(len(kept), close, base=bool(self.pool.base_name))
        alone = single(0, len(kept))
        found = {KEEP: self._plain(Candidate(alone), scores[kept[0]], 0)}
        for name in self._candidates(kinship) if len(kept) > 1 else ():
            found[name] = self._candidate(name, kept, scores)
        journals = self.steps.folder.glob(f"family-{self.number}-*.jsonl")
        return {
            "members": self.group,
            "kept": kept,
            "similarity": close,
            "candidates": found,
            "rule": kinship.method,
            "reason": kinship.reason,
            "chosen": kinship.method if self.settings.choose == "rule" else _chosen(found),
            "evaluations": sum(len(path.read_text().splitlines()) for path in journals),
        }

    def _candidates(self, kinship: Kinship) -> list[str]:
        """Names of what is evaluated: all, or what the rule names."""
        if self.settings.choose == "rule":
            return [] if kinship.method == KEEP else [kinship.method]
        names = [*self.settings.strategies, "mean of all"]
        names += [BASE] if self.pool.base_name else []
        return list(dict.fromkeys([*names, *([kinship.method] if kinship.method != KEEP else [])]))

    def _candidate(self, name: str, kept: list[int], scores: Mapping[int, float]) -> dict[str, Any]:
        if name == BASE:
            asked = self._evaluations(name, lambda given: self._score(kept, (), given[0]))
            values = {scale: asked([scale]) for scale in RULE_SCALES[: asked.budget]}
            best = max(values, key=lambda scale: values[scale])
            self.steps.new_evaluations += asked.new
            return self._plain(Candidate(scale=best), values[best], len(values))
        asked = self._evaluations(
            "uniform" if name == "mean of all" else name, lambda given: self._score(kept, given)
        )
        if name == "mean of all":
            weights = (1 / len(kept),) * len(kept)
            row = self._plain(Candidate(weights), asked(weights), 1)
        else:
            for place, member in enumerate(kept):  # known from the filter
                asked.known.setdefault(single(place, len(kept)), scores[member])
            close = self.similarity[np.ix_(kept, kept)]
            result = search_weights(
                name, asked, len(kept), similarity=close, seed=self.settings.seed
            )
            row = self._plain(Candidate(result.weights), result.score, result.evaluations)
        self.steps.new_evaluations += asked.new
        return row

    def _singles(self) -> dict[int, float]:
        """Val score of every member."""
        asked = self._evaluations("singles", lambda given: self._score(self.group, given))
        count = asked.budget = len(self.group)
        scores = [asked(single(place, count)) for place in range(count)]
        self.steps.new_evaluations += asked.new
        return dict(zip(self.group, scores, strict=True))

    def _evaluations(
        self, name: str, evaluate: Callable[[tuple[float, ...]], float]
    ) -> Evaluations:
        path = self.steps.folder / f"family-{self.number}-{name}.jsonl"
        return Evaluations(evaluate, self.settings.budget, path)

    def _score(
        self, members: Sequence[int], weights: tuple[float, ...], scale: float | None = None
    ) -> float:
        return self.pool.evaluate(members, Candidate(weights, scale), "val")

    def _plain(self, candidate: Candidate, val: float, evaluations: int) -> dict[str, Any]:
        return candidate.to_json() | {"val": val, "evaluations": evaluations}


def _filtered(group: Sequence[int], scores: Sequence[float], least_share: float) -> list[int]:
    """Members whose val score is not far below the best."""
    best = max(scores)
    if best <= 0:
        return list(group)
    return [m for m, score in zip(group, scores, strict=True) if score >= least_share * best]


def _chosen(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The best on val; of equals the one that cost fewer evaluations."""
    return max(found, key=lambda name: (found[name]["val"], -found[name]["evaluations"]))
