"""Paired comparisons of predictors that were named before any run.

A bootstrap draws test models, the same for both sides, and scores are averaged over fits and over
the pairs of zoos that both sides have. The intervals are corrected for the number of pairs that a
result holds (Bonferroni).

Shape letters: R bootstrap samples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..tasks.scoring.bootstrap import LEVEL, RESAMPLED, sample_counts

BOOSTING, POOLED, PERCEPTRON = (
    "statistics + boosting",
    "pooled statistics + boosting",
    "statistics MLP",
)
PAIRS = (
    ("ProbeStatistics", BOOSTING),
    ("ProbeStatistics", POOLED),
    ("ProbeStatistics", PERCEPTRON),
    ("ProbeStatistics", "neural graph"),
    ("ProbeStatistics", "DNG"),
    ("ProbeStatistics", "SNE"),
    ("ProbeStatistics", "ProbeGen"),
    ("HiddenProbe", BOOSTING),
    ("HiddenProbe", POOLED),
    ("HiddenProbe", PERCEPTRON),
    ("ProbeGen", BOOSTING),
    ("ProbeGen", POOLED),
    ("ProbeGen", "ProbeGen, random probes"),
    ("SNE", BOOSTING),
    ("SNE", POOLED),
    ("SNE", PERCEPTRON),
    ("SNE", "DeepSets"),
    ("SNE", "neural graph"),
    ("SNE", "DWSNet"),
    ("SNE", "NFT"),
    ("SNE", "SNE, paper"),
    ("SNE, paper", "SNE, paper, without regulariser"),
    ("SNE, paper", "SNE, paper, wrong permutations"),
)
"""First and second predictor; a result without one of them leaves the pair out."""
RESAMPLES = 1000
KEPT = ("true", "predicted", "model_id")
NOTE = (
    "Pairs were named before the run. Differences of {metric} on test, the mean over fits{over}, "
    "with 95 % intervals by bootstrap over test models, the same for both sides, corrected for "
    "{count} comparisons (Bonferroni)."
)
Runs = Sequence[Mapping[str, Any]]


def kept_predictions(inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """True values, predictions and models of test rows, as plain data for the file of a run.

    Args:
        inputs: inputs of `Evaluator.eval`, numbers or classes.
    """
    return {name: np.asarray(inputs[name]).tolist() for name in KEPT}


def without_predictions(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as it stands in the result, which holds no predictions."""
    return {key: value for key, value in run.items() if key != "predictions"}


def comparisons(
    result: Mapping[str, Any], runs: Runs, named: Sequence[tuple[str, str]] = PAIRS
) -> list[dict[str, Any]]:
    """Compare all pairs that a benchmark fitted.

    Args:
        result: result of a benchmark, with metric, target and layout.
        runs: its runs, with predictions.
        named: first and second predictor of every pair.

    Returns:
        For each pair {first, second, metric, difference, low, high, pairs, fits, zoos}.
    """
    metric, samples = result["metric"], dict[str, dict[tuple[str, ...], np.ndarray]]()
    for run in _main_runs(result, runs):
        own = samples.setdefault(run["predictor"]["name"], {})
        for zoo, kept in run.get("predictions", {}).items():
            if result["layout"] != "matrix" or zoo not in run["sources"]:
                key = (str(run["sources"]), zoo, str(run["seed"]))
                own[key] = _samples(kept, metric)
    pairs = [pair for pair in named if all(samples.get(name) for name in pair)]
    found = [_compared(samples[first], samples[second], len(pairs)) for first, second in pairs]
    return [
        {"first": first, "second": second, "metric": metric} | one
        for (first, second), one in zip(pairs, found, strict=True)
        if one
    ]


def comparison_table(result: Mapping[str, Any], metric: str) -> str:
    """Markdown table of the comparisons of a result; empty if it has none.

    Args:
        result: result of a benchmark.
        metric: name of the metric in tables.
    """
    found = result.get("comparisons", [])
    if not found:
        return ""
    lines = ["| first | second | first - second |", "| --- | --- | ---: |"]
    for one in found:
        interval = f"{one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
        clear = " \\*" if one["low"] > 0 or one["high"] < 0 else ""
        lines.append(f"| {one['first']} | {one['second']} | {interval}{clear} |")
    over = " and over zoos that were not trained on" if result["layout"] == "matrix" else ""
    note = NOTE.format(metric=metric, over=over, count=found[0]["pairs"])
    return "\n".join([*lines, "", f"{note} \\* the interval excludes zero."])


def _main_runs(result: Mapping[str, Any], runs: Runs) -> list[Mapping[str, Any]]:
    """Runs on the main target with all models; in matrices those that were trained on one zoo."""
    own = [run for run in runs if run["target"] == result["target"]]
    most = max((run["fraction"] for run in own), default=1.0)
    kept = [run for run in own if run["fraction"] == most]
    if result["layout"] == "matrix":
        return [run for run in kept if len(run["sources"]) == 1]
    return kept


def _samples(kept: Mapping[str, Sequence[float]], metric: str) -> np.ndarray:
    """(1 + R,): the score of all rows, then that of every bootstrap sample."""
    true, predicted, models = (np.asarray(kept[name]) for name in KEPT)
    whole = np.ones((1, len(true)), np.float32)
    counts = np.concatenate([whole, sample_counts(models, RESAMPLES, seed=0)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return RESAMPLED[metric](true, predicted, counts)


def _compared(
    first: Mapping[tuple[str, ...], np.ndarray],
    second: Mapping[tuple[str, ...], np.ndarray],
    pairs: int,
) -> dict[str, Any]:
    """Difference and interval; empty if no pair of zoos has a score of both."""
    one, other = _by_zoos(first), _by_zoos(second)
    shared = [key for key in one if key in other]
    if not shared:
        return {}
    gaps = np.mean([one[key] - other[key] for key in shared], axis=0)
    drawn = gaps[1:][np.isfinite(gaps[1:])]
    if not math.isfinite(gaps[0]) or not len(drawn):
        return {}
    tail = 100 * (1 - LEVEL) / 2 / pairs
    low, high = np.percentile(drawn, [tail, 100 - tail])
    numbers = {"difference": float(gaps[0]), "low": float(low), "high": float(high)}
    return numbers | {"pairs": pairs, "fits": len(first), "zoos": len(shared)}


def _by_zoos(
    samples: Mapping[tuple[str, ...], np.ndarray],
) -> dict[tuple[str, ...], np.ndarray]:
    """Mean over seeds, by sources and tested zoo."""
    keys = dict.fromkeys(key[:2] for key in samples)
    return {
        key: np.mean([own for name, own in samples.items() if name[:2] == key], axis=0)
        for key in keys
    }
