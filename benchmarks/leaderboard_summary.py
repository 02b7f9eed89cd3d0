"""The summary of the leaderboard: one row per predictor, one column per benchmark."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .cells import HEADS, NOT_DEFINED, distinct, table
from .report import main_cells, mean_text

LOWER_IS_BETTER = ("mse", "mae")
ABLATIONS = ("sne-ablation",)  # benchmarks of the parts of one encoder
BOUNDS = ("oracle", "ceiling")  # in the names of predictors that know more than weights
NOTE = (
    "Each column is one benchmark with its number of train models, and its main score on test: on "
    "other zoos than those trained on in the benchmarks of transfer, with all train models in "
    "data-efficiency. **Bold** is the best mean of a column, without oracles and ceilings. Columns "
    "are not comparable with each other. – was not run."
)


def summary(results: Sequence[Mapping[str, Any]]) -> str:
    """Section with the main score of every predictor in every benchmark; empty without results.

    Args:
        results: results of benchmarks of property prediction; those of ablations are left out.
    """
    results = [one for one in results if one["benchmark"] not in ABLATIONS]
    if not results:
        return ""
    names = list(dict.fromkeys(n for one in results for n in distinct(one["runs"], "predictor")))
    best = [_best(one, names) for one in results]
    rows = [
        [name, *(_text(one, name, name == top) for one, top in zip(results, best, strict=True))]
        for name in names
    ]
    head = ["predictor", *map(_title, results)]
    return f"## Summary\n\n{NOTE}\n\n{table(head, rows)}\n"


def one_seed(result: Mapping[str, Any]) -> str:
    """Note for a title that no spread over seeds is known; empty for several seeds."""
    return ", one seed" if len({run["seed"] for run in result["runs"]}) == 1 else ""


def _title(result: Mapping[str, Any]) -> str:
    models = max(run["train_models"] for run in result["runs"])
    return f"{result['benchmark']}, {models:,} models, {HEADS[result['metric']]}{one_seed(result)}"


def _text(result: Mapping[str, Any], name: str, best: bool) -> str:
    shown = mean_text(main_cells(result, name), result["metric"])
    return f"**{shown}**" if best and shown != NOT_DEFINED else shown


def _best(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """Name of the predictor with the best mean, oracles and ceilings left out."""
    metric = result["metric"]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rivals = [name for name in names if not any(word in name for word in BOUNDS)]
    scores = {name: sign * _mean(result, name) for name in rivals}
    known = {name: score for name, score in scores.items() if math.isfinite(score)}
    return max(known, key=lambda name: known[name]) if known else ""


def _mean(result: Mapping[str, Any], name: str) -> float:
    means = [cell.mean(result["metric"]) for cell in main_cells(result, name)]
    return statistics.fmean(means) if means else math.nan
