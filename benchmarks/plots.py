"""One plot per benchmark, made from its result alone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tasks.inspection.plots import figure, save
from .cells import HEADS, Cell, cell, distinct, diverged_note, value_of

WIDE = ("mse",)  # metrics that span powers of ten
MARKERS, COLORS = "os^D", 10  # the marker changes when matplotlib's colors repeat
BASELINE = "statistics + boosting"
INTERVAL = "95 % interval of the first seed"
MATRIX_LIMITS = {"tau_b": (-1.0, 1.0)}


def plot_result(result: Mapping[str, Any], path: Path) -> None:
    """Draw matrices, bars or curves, depending on the layout of the result.

    Args:
        result: result of a benchmark.
        path: PNG file to write.
    """
    {"matrix": _matrices, "rows": _bars, "curve": _curves}[result["layout"]](result, path)


def _matrices(result: Mapping[str, Any], path: Path) -> None:
    """One heat map per predictor."""
    runs, metric, zoos = result["runs"], result["metric"], list(result["zoos"])
    predictors = [name for name in distinct(runs, "predictor") if _is_scored(runs, name, metric)]
    drawing, axes = figure(len(predictors))
    for axis, predictor in zip(axes, predictors, strict=True):
        own = [run for run in runs if value_of(run, "predictor") == predictor]
        sources = distinct(own, "sources")
        cells = [[cell(own, name, sources=source) for name in zoos] for source in sources]
        values = np.array([[found.mean(metric) for found in row] for row in cells])
        low, high = MATRIX_LIMITS.get(metric, (None, None))
        axis.imshow(values, vmin=low, vmax=high, cmap="RdBu")
        for (row, column), value in np.ndenumerate(values):
            text = "–" if math.isnan(value) else f"{value:.2f}"
            text += f"\n{cells[row][column].note}".rstrip()
            axis.text(column, row, text, ha="center", va="center", fontsize=7)
        axis.set_xticks(range(len(zoos)), zoos, rotation=40, ha="right", fontsize=7)
        labels = ["+".join(source) for source in sources]
        axis.set_yticks(range(len(sources)), labels, fontsize=7)
        axis.set_title(predictor, fontsize=8)
    save(drawing, path, grid=False)


def _is_scored(runs: Sequence[Mapping[str, Any]], predictor: str, metric: str) -> bool:
    """Whether a predictor has a score or diverged; a constant ranks nothing."""
    own = [run for run in runs if value_of(run, "predictor") == predictor]
    scores = [score for run in own for score in run["scores"].values()]
    return any(run.get("diverged") for run in own) or any(
        score.get(metric) is not None for score in scores
    )


def _bars(result: Mapping[str, Any], path: Path) -> None:
    """The main metric of every predictor on the main target.

    Lines show the interval that the table states, the ceiling, and the baseline's mean.
    """
    from matplotlib.ticker import LogLocator

    target, metric = result["target"], result["metric"]
    runs = [run for run in result["runs"] if run["target"] == target]
    zoo, predictors = list(result["zoos"])[0], distinct(runs, "predictor")
    cells = [cell(runs, zoo, predictor=predictor) for predictor in predictors]
    drawing, (axis,) = figure(1)
    means = np.nan_to_num([found.mean(metric) for found in cells])
    labels = [f"{name} {found.note}".strip() for name, found in zip(predictors, cells, strict=True)]
    if metric in WIDE:  # the constant is tens of times as bad and would dwarf all other bars
        axis.plot(means, labels, "o", color="C0")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
    else:
        axis.barh(labels, means, color="C0", alpha=0.7)
    middles, halves = _intervals(cells, metric)
    style = {"fmt": "none", "ecolor": "0.2", "capsize": 2, "label": INTERVAL}
    axis.errorbar(middles, np.arange(len(labels)), xerr=halves, **style)
    if (ceiling := _ceiling(result)) is not None:
        axis.axvline(ceiling, color="C3", linestyle="--", label="ceiling")
    if BASELINE in predictors and math.isfinite(
        mean := cells[predictors.index(BASELINE)].mean(metric)
    ):
        axis.axvline(mean, color="0.2", linestyle=":", label=f"baseline: {BASELINE}")
    axis.invert_yaxis()
    axis.set_xlabel(f"{HEADS[metric]} of {target}, test split, mean over seeds")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(drawing, path)


def _curves(result: Mapping[str, Any], path: Path) -> None:
    """The main metric over the number of train models; the baseline's curve is black."""
    from matplotlib.ticker import NullLocator

    metric, zoo = result["metric"], list(result["zoos"])[0]
    runs = [run for run in result["runs"] if run["scores"] or run.get("diverged")]
    drawing, (axis,) = figure(1)
    for predictor in distinct(runs, "predictor"):
        own = [run for run in runs if value_of(run, "predictor") == predictor]
        counts = {run["fraction"]: run["train_models"] for run in own}
        cells = [cell(own, zoo, fraction=fraction) for fraction in counts]
        means = [found.mean(metric) for found in cells]
        note = diverged_note(cells)
        if np.isnan(means).all() and not note:  # a constant ranks nothing
            continue
        label = f"{predictor} {note}".strip()
        marker = MARKERS[len(axis.containers) // COLORS % len(MARKERS)]
        style = {"color": "black", "linewidth": 2} if predictor == BASELINE else {}
        [line] = axis.plot(list(counts.values()), means, label=label, marker=marker, **style)
        middles, halves = _intervals(cells, metric)
        style = {"fmt": "none", "ecolor": line.get_color(), "capsize": 2, "alpha": 0.5}
        axis.errorbar(list(counts.values()), middles, halves, **style)
    if (ceiling := _ceiling(result)) is not None:
        axis.axhline(ceiling, color="C3", linestyle="--", label="ceiling")
    counted = distinct(runs, "train_models")
    axis.set(xlabel="train models", ylabel=f"{HEADS[metric]} of {result['target']}", xscale="log")
    axis.set_xticks(counted, [str(count) for count in counted])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(f"lines across points: {INTERVAL}", fontsize=8)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(drawing, path)


def _intervals(cells: Sequence[Cell], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width of each cell's interval; NaN where the table shows a dash.

    The interval is that of the first seed, so it need not lie around the mean over seeds.
    """
    ends = np.array([found.interval_ends(metric) or (np.nan, np.nan) for found in cells])
    return ends.mean(1), (ends[:, 1] - ends[:, 0]) / 2


def _ceiling(result: Mapping[str, Any]) -> float | None:
    """The largest tau_b without ties on the main target; None for other metrics."""
    target = next(iter(result["zoos"].values())).get("target") or {}
    ceiling = target.get("tau_max") if result["metric"] == "tau_b" else None
    return None if ceiling is None else float(ceiling)
