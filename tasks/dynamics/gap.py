"""Rank correlation of measures with a target, over all models and within hyper-parameter strata.

A measure that follows the learning rate correlates with everything the learning rate changes. So
only pairs of models within a stratum, with equal hyper-parameters, are compared. Sources: Jiang et
al. 2020, arXiv:1912.02178 (rank correlation within groups that differ in one hyper-parameter);
Dziugaite et al. 2020, arXiv:2010.11924 (signs by environment, not one mean). Differs from them:
populations with random hyper-parameters have no grid, so strata are built by `make_strata`.

Shape letters: M models, P pairs of models, R bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..scoring.bootstrap import bootstrap_intervals, sample_counts
from ..scoring.metrics import kendall_tau

LEVEL, RESAMPLES = 0.95, 400
BLOCK = 64  # samples whose pairs are counted at once
LEAST_MODELS = 8  # mean models of a stratum, below which no further hyper-parameter is taken
LEAST_SIGN = 5  # models of a stratum whose sign is counted
MOST_VALUES = 8  # of a number, above which it is cut into thirds


@dataclass(frozen=True)
class Strata:
    """Groups of models with equal hyper-parameters.

    Attributes:
        names: hyper-parameters that make the groups.
        groups: number of the group of each model, (M,).
    """

    names: tuple[str, ...]
    groups: np.ndarray

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0


@dataclass(frozen=True, kw_only=True)
class RankScore:
    """Kendall's tau_b of a measure with a target.

    Attributes:
        name: name of the measure.
        models: models with a known measure and target.
        tau: over all pairs of models.
        tau_interval: its 95 % interval.
        within: over pairs within strata.
        within_interval: its 95 % interval.
        signs: mean sign of tau over strata of at least `LEAST_SIGN` models.
        strata: number of these strata.
    """

    name: str
    models: int
    tau: float
    tau_interval: tuple[float, float]
    within: float
    within_interval: tuple[float, float]
    signs: float
    strata: int


def make_strata(
    columns: Mapping[str, np.ndarray], target: np.ndarray, least: float = LEAST_MODELS
) -> Strata:
    """Strata by the hyper-parameters that explain most of a target.

    Hyper-parameters are taken in falling order of the share of the target's variance between
    their values, while the strata that are not empty have at least `least` models on average.
    Numbers with more than `MOST_VALUES` values are cut into thirds of equal counts.

    Args:
        columns: hyper-parameters, (M,) by name.
        target: finite values, (M,).
        least: least mean number of models of a stratum.

    Example:
        >>> import numpy as np
        >>> from weightzoo.tasks.dynamics.gap import make_strata
        >>> target = np.arange(8.0)
        >>> columns = {"half": np.arange(8) // 4, "odd": np.arange(8) % 2}
        >>> make_strata(columns, target, least=4).names
        ('half',)
    """
    levels = {name: _levels(values) for name, values in columns.items()}
    levels = {name: found for name, found in levels.items() if found.max(initial=0) > 0}
    order = sorted(levels, key=lambda name: -_explained(levels[name], target))
    names, groups = list[str](), np.zeros(len(target), np.int64)
    for name in order:
        joined = np.unique(np.stack([groups, levels[name]]), axis=1, return_inverse=True)[1]
        joined = joined.reshape(-1)
        if len(target) / (joined.max() + 1) < least:
            continue
        names.append(name)
        groups = joined
    return Strata(tuple(names), groups)


def rank_scores(
    measures: Mapping[str, np.ndarray],
    target: np.ndarray,
    strata: Strata,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[RankScore]:
    """Score every measure; intervals are by bootstrap over models.

    Args:
        measures: values, (M,) by name; values that are not finite are left out.
        target: finite values, (M,).
        strata: strata of the models.
        resamples: R.
        seed: seed of the bootstrap.
    """
    pairs = _pairs(strata.groups)
    counts = sample_counts(np.arange(len(target)), resamples, seed)
    found = []
    for name, values in measures.items():
        known = np.isfinite(values)
        if known.sum() < 2 or np.ptp(values[known]) == 0:
            continue
        own = target[known], values[known]
        low, high = bootstrap_intervals(*own, np.flatnonzero(known), ("tau_b",), resamples, seed)[
            "tau_b"
        ]
        within, within_interval = _tau(values, target, pairs, counts)
        signs = _signs(values, target, strata)
        found.append(
            RankScore(
                name=name,
                models=int(known.sum()),
                tau=kendall_tau(*own),
                tau_interval=(low, high),
                within=within,
                within_interval=within_interval,
                signs=float(np.mean(signs)) if signs else float("nan"),
                strata=len(signs),
            )
        )
    return found


def stratified_tau(values: np.ndarray, target: np.ndarray, groups: np.ndarray) -> float:
    """tau_b over the pairs of models within groups; NaN where one side is constant in all groups.

    Args:
        values: measure, (M,); pairs with a value that is not finite are left out.
        target: finite values, (M,).
        groups: group of each model, (M,).
    """
    one = np.ones((1, len(target)), np.float32)
    return _tau(values, target, _pairs(groups), one)[0]


def _levels(values: np.ndarray) -> np.ndarray:
    """Number of the value, or of the third that it lies in."""
    _, index = np.unique(values, return_inverse=True)
    if values.dtype.kind in "fiu" and index.max(initial=0) >= MOST_VALUES:
        cuts = np.quantile(values, [1 / 3, 2 / 3])
        return np.searchsorted(cuts, values)
    return index


def _explained(levels: np.ndarray, target: np.ndarray) -> float:
    """Variance between the means of the levels."""
    counts = np.bincount(levels)
    means = np.bincount(levels, target) / np.maximum(counts, 1)
    return float((counts * (means - target.mean()) ** 2).sum())


def _pairs(groups: np.ndarray) -> np.ndarray:
    """All pairs of models of one group, (2, P)."""
    found = [np.empty((2, 0), np.int64)]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        found.append(members[np.stack(np.triu_indices(len(members), 1))])
    return np.concatenate(found, axis=1)


def _tau(
    values: np.ndarray, target: np.ndarray, pairs: np.ndarray, counts: np.ndarray
) -> tuple[float, tuple[float, float]]:
    """tau_b over some pairs, and its interval from the counts of bootstrap samples (R, M).

    A sample weighs a pair by the product of its models' counts.
    """
    one, two = pairs[:, np.isfinite(values[pairs]).all(axis=0)]
    a, b = np.sign(values[one] - values[two]), np.sign(target[one] - target[two])
    terms = np.stack([a * b, a * a, b * b], axis=1).astype(np.float32)  # (P, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = terms.sum(0, dtype=np.float64)
        sums = [
            (counts[start : start + BLOCK, one] * counts[start : start + BLOCK, two]) @ terms
            for start in range(0, len(counts), BLOCK)
        ]
        drawn = np.concatenate(sums).astype(np.float64)
        taus = drawn[:, 0] / np.sqrt(drawn[:, 1] * drawn[:, 2])
        tau = float(whole[0] / np.sqrt(whole[1] * whole[2]))
    taus = taus[np.isfinite(taus)]
    tail = 100 * (1 - LEVEL) / 2
    ends = np.percentile(taus, [tail, 100 - tail]) if len(taus) else [np.nan, np.nan]
    return tau, (float(ends[0]), float(ends[1]))


def _signs(values: np.ndarray, target: np.ndarray, strata: Strata) -> Sequence[float]:
    """Sign of tau in every stratum with enough known models."""
    found = []
    for group in range(strata.count):
        rows = np.flatnonzero((strata.groups == group) & np.isfinite(values))
        if len(rows) >= LEAST_SIGN:
            tau = stratified_tau(values[rows], target[rows], np.zeros(len(rows), np.int64))
            if np.isfinite(tau):
                found.append(float(np.sign(tau)))
    return found
