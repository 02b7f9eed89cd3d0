"""How well a ranking of models follows what fine-tuning them gave.

Sources: weighted tau, Vigna 2015, arXiv 1404.3325; `scipy.stats.weightedtau`. Two conventions
are in use and differ by up to 0.3 on the same numbers, so both are offered by name.

Shape letters: M models, T targets, S seeds of the fine-tuning, R bootstrap samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from .metrics import kendall_tau

CONVENTIONS = ("truth", "both")
LEVEL = 0.95
RESAMPLES = 10_000
ROUNDING = 1e-10  # relative; the H-score of more features than images differs by 1e-15 at most

Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a ranking agrees with the truth on one target.

    Attributes:
        tau_w: weighted tau, ranks by the truth (`rank=None` in scipy; Model Spider's convention).
        tau_w_both: weighted tau, ranks by both sides (`rank=True`, scipy's default).
        tau_b: Kendall's tau_b.
        pearson: correlation of the values.
        regret_1: best accuracy minus the accuracy of the model ranked first.
        regret_3: the same for the best of the first three.
        constant: whether all scores are equal, which counts as no information: all tau are 0.
    """

    tau_w: float
    tau_w_both: float
    tau_b: float
    pearson: float
    regret_1: float
    regret_3: float
    constant: bool


def agreement(truth: np.ndarray, scores: np.ndarray) -> Agreement:
    """All measures of one ranking.

    Args:
        truth: accuracies after fine-tuning, (M,).
        scores: one score per model, higher is better, (M,).

    Raises:
        ValueError: if a value is not finite, the lengths differ, or there are fewer than 2 models.
    """
    truth, scores = _checked(truth, scores)
    constant = bool(is_constant(scores))
    scores = np.zeros(len(scores)) if constant else scores
    return Agreement(
        tau_w=weighted_tau(truth, scores),
        tau_w_both=weighted_tau(truth, scores, "both"),
        tau_b=tau_b(truth, scores),
        pearson=pearson(truth, scores),
        regret_1=regret(truth, scores, 1),
        regret_3=regret(truth, scores, 3),
        constant=constant,
    )


def is_constant(scores: np.ndarray) -> np.ndarray:
    """Whether scores (..., M) of the M models are equal up to rounding."""
    equal: np.ndarray = np.ptp(scores, axis=-1) <= ROUNDING * np.abs(scores).max(axis=-1)
    return equal


def weighted_tau(truth: np.ndarray, scores: np.ndarray, convention: str = "truth") -> float:
    """Kendall's tau with weights that fall with the rank, 1 / (1 + rank), added for each pair.

    Args:
        truth: accuracies after fine-tuning, (M,).
        scores: one score per model, (M,).
        convention: "truth" ranks by decreasing truth, ties by decreasing score; "both" averages
            this with the ranks by decreasing score, and so is symmetric.

    Returns:
        A value in [-1, 1]; 0 if one side is constant.

    Raises:
        ValueError: if `agreement` would raise, or the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    truth, scores = _checked(truth, scores)
    if is_constant(truth) or is_constant(scores):
        return 0.0
    by_truth = _hyperbolic_tau(truth, scores)
    return by_truth if convention == "truth" else (by_truth + _hyperbolic_tau(scores, truth)) / 2


def _hyperbolic_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Weighted tau with ranks by decreasing first, ties by decreasing second; neither constant."""
    order = np.lexsort((second, first))[::-1]
    weights = 1 / np.arange(1, len(first) + 1)
    x = np.sign(first[order][:, None] - first[order])
    y = np.sign(second[order][:, None] - second[order])
    agreed, own, other = (weights @ pairs.sum(axis=1) for pairs in (x * y, x * x, y * y))
    return float(agreed / np.sqrt(own * other))


def tau_b(truth: np.ndarray, scores: np.ndarray) -> float:
    """Kendall's tau_b; 0 if one side is constant.

    Args:
        truth: accuracies after fine-tuning, (M,).
        scores: one score per model, (M,).

    Raises:
        ValueError: if `agreement` would raise.
    """
    value = kendall_tau(truth, scores)
    return 0.0 if np.isnan(value) else value


def pearson(truth: np.ndarray, scores: np.ndarray) -> float:
    """Pearson's correlation; 0 if one side is constant.

    Args:
        truth: accuracies after fine-tuning, (M,).
        scores: one score per model, (M,).

    Raises:
        ValueError: if `agreement` would raise.
    """
    truth, scores = _checked(truth, scores)
    if is_constant(truth) or is_constant(scores):
        return 0.0
    return float(np.corrcoef(truth, scores)[0, 1])


def regret(truth: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Best accuracy minus the best accuracy among the first k models of the ranking.

    Models with equal scores are taken in random order, and the value is the expectation over it:
    a constant score picks a model at random, not the first of the list.

    Args:
        truth: accuracies after fine-tuning, (M,).
        scores: one score per model, (M,).
        k: number of models that are fine-tuned; all of them if there are fewer.

    Raises:
        ValueError: if `agreement` would raise, or k is below 1.
    """
    truth, scores = _checked(truth, scores)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k!r}")
    k = min(k, len(truth))
    last = np.sort(scores)[::-1][k - 1]
    sure, tied = truth[scores > last], np.sort(truth[scores == last])[::-1]
    seats, floor = k - len(sure), sure.max(initial=-np.inf)
    total = comb(len(tied), seats)
    found = sum(
        comb(len(tied) - 1 - place, seats - 1) / total * max(value, floor)
        for place, value in enumerate(tied)
    )
    return float(truth.max() - found)


def picks(scores: Sequence[np.ndarray]) -> int:
    """Number of different models that a ranker puts first over the targets.

    One pick means that the ranker is a fixed order as far as the first place goes.

    Args:
        scores: scores of the same M models, one array (M,) per target.
    """
    return len({int(np.argmax(one)) for one in scores})


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean difference of two rankers over targets, with a bootstrap interval.

    Attributes:
        mean: mean of first minus second.
        low: lower end of the interval.
        high: upper end of the interval.
        comparisons: number of differences that the interval is corrected for (Bonferroni).
    """

    mean: float
    low: float
    high: float
    comparisons: int


def difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    families: Sequence[str] | None = None,
    comparisons: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Paired difference over targets with a percentile interval.

    Args:
        first: a measure of one ranker on each target, (T,).
        second: the same measure of another ranker, (T,).
        families: family of each target, T names; whole families are drawn then, because targets
            of one family are no independent draws.
        comparisons: number of differences that are reported together; the interval's level is
            1 - 0.05 / comparisons.
        resamples: R.
        seed: seed of the draws.

    Raises:
        ValueError: if the lengths differ or there is no target.
    """
    gaps = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    names = np.arange(len(gaps)) if families is None else np.asarray(families)
    if gaps.ndim != 1 or not len(gaps) or len(names) != len(gaps):
        raise ValueError(
            f"both measures and the families need one value per target, got shapes "
            f"{np.shape(first)}, {np.shape(second)} and {np.shape(names)}"
        )
    _, index = np.unique(names, return_inverse=True)
    count = int(index.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    weights = drawn[:, index]  # (R, T)
    means = weights @ gaps / weights.sum(axis=1)
    tail = 100 * (1 - LEVEL) / 2 / comparisons
    low, high = np.percentile(means, [tail, 100 - tail])
    return Difference(
        mean=float(gaps.mean()), low=float(low), high=float(high), comparisons=comparisons
    )


def seed_ceiling(truth: np.ndarray, statistic: Statistic = tau_b) -> float:
    """Agreement of the truth with itself under another seed of the fine-tuning.

    No ranker can be told from a perfect one above this value.

    Args:
        truth: accuracies, (M, T, S); NaN where a fine-tuning was not run.
        statistic: agreement of two arrays (M,).

    Returns:
        Mean over targets and ordered pairs of seeds; NaN if no target has two seeds.
    """
    values = []
    seeds = truth.shape[2]
    for target in range(truth.shape[1]):
        for a in range(seeds):
            for b in range(seeds):
                both = np.isfinite(truth[:, target, [a, b]]).all(axis=1)
                if a != b and both.sum() > 1:
                    values.append(statistic(truth[both, target, a], truth[both, target, b]))
    return float(np.mean(values)) if values else float("nan")


def _checked(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != scores.shape or len(truth) < 2:
        raise ValueError(
            "truth and scores must be (M,) with equal M of at least 2, "
            f"got shapes {truth.shape} and {scores.shape}"
        )
    for name, values in {"truth": truth, "scores": scores}.items():
        if odd := int((~np.isfinite(values)).sum()):
            raise ValueError(
                f"{odd} of {len(values)} values of {name} are not finite: leave these models out"
            )
    return truth, scores
