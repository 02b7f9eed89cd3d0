"""Regret by the number of models that are fine-tuned on the target itself.

Four ways to spend fine-tunings: in random order, in the fixed order, in the order of prior plus
evidence, and by active selection, which looks at the results so far. Whole families are held out.

Shape letters: M models, T targets, N fine-tunings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tasks.ranking.active_selection import active_order, belief
from ...tasks.ranking.matrix import Matrix
from ...tasks.ranking.prior import fixed_order, plain_sum
from ...tasks.scoring.ranks import regret
from ...zoos.errors import UnsuitableError
from .claims import Claim, compare
from .referee import held_out

COUNTS = (1, 2, 3, 5, 8)
ACTIVE, RANDOM, FIXED, EVIDENCE = "active", "random", "fixed order", "prior + logme"
PAIRS = ((ACTIVE, RANDOM), (ACTIVE, FIXED), (ACTIVE, EVIDENCE))
"""Named before the run; compared by the mean regret over `COUNTS`, lower is better."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Regret of each way to spend fine-tunings.

    Attributes:
        regrets: (N, T) by way; N as in `COUNTS`.
        claims: the named comparisons.
    """

    regrets: Mapping[str, np.ndarray]
    claims: tuple[Claim, ...]

    def to_json(self) -> dict[str, Any]:
        """Mean regret over targets by way and number of fine-tunings."""
        return {way: values.mean(axis=1).tolist() for way, values in self.regrets.items()}

    def to_text(self) -> str:
        """Markdown."""
        head = ["way", *(f"{count} fine-tuned" for count in COUNTS)]
        lines = [head, ["---"] * len(head)]
        for way, values in self.regrets.items():
            lines.append([way, *(f"{value:.4f}" for value in values.mean(axis=1))])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spending(matrix: Matrix) -> Spending | None:
    """Spend fine-tunings on every target; None where the matrix cannot show it.

    Args:
        matrix: accuracies and, if it has it, the score "logme".
    """
    if not np.isfinite(matrix.accuracy).all():
        return None
    scores = {name: matrix.scores[name] for name in ("logme",) if name in matrix.scores}
    columns: dict[str, list[np.ndarray]] = {}
    for target in range(len(matrix.targets)):
        hidden = held_out(matrix, target, "family")
        try:
            found = _of_target(matrix.accuracy, scores, target, hidden)
        except UnsuitableError:  # too few other targets
            return None
        for way, values in found.items():
            columns.setdefault(way, []).append(values)
    regrets = {way: np.stack(values, axis=1) for way, values in columns.items()}
    means = {("family", way): values.mean(axis=0) for way, values in regrets.items()}
    return Spending(regrets=regrets, claims=tuple(compare(PAIRS, means, matrix.families)))


def _of_target(
    accuracy: np.ndarray, scores: Mapping[str, np.ndarray], target: int, hidden: Sequence[int]
) -> dict[str, np.ndarray]:
    """Regret (N,) by way for one target."""
    truth = accuracy[:, target]
    order = active_order(belief(accuracy, scores, target, hidden), truth, max(COUNTS))
    active = [truth.max() - truth[order[:count]].max() for count in COUNTS]
    fixed = fixed_order(accuracy, hidden)
    evidence = plain_sum(accuracy, scores, target, hidden)
    rankings = {RANDOM: np.zeros(len(truth)), FIXED: fixed, EVIDENCE: evidence}
    return {
        way: np.array([regret(truth, ranking, count) for count in COUNTS])
        for way, ranking in rankings.items()
    } | {ACTIVE: np.array(active)}
