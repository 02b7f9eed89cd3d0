"""One plot per benchmark, made from its result alone."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..tasks.inspection.plots import figure, save
from .report import HEADS, cell, distinct, diverged_note, value_of

WIDE = ("mse",)  # metrics that span powers of ten
MARKERS, COLORS = "os^D", 10  # the marker changes when matplotlib's colors repeat
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
    predictors = distinct(runs, "predictor")
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


def _bars(result: Mapping[str, Any], path: Path) -> None:
    """The main metric of every predictor on the main target, with the spread over seeds."""
    from matplotlib.ticker import LogLocator

    target, metric = result["target"], result["metric"]
    runs = [run for run in result["runs"] if run["target"] == target]
    zoo, predictors = list(result["zoos"])[0], distinct(runs, "predictor")
    cells = [cell(runs, zoo, predictor=predictor) for predictor in predictors]
    drawing, (axis,) = figure(1)
    spreads = np.nan_to_num([found.spread(metric) for found in cells])
    means = np.nan_to_num([found.mean(metric) for found in cells])
    labels = [f"{name} {found.note}".strip() for name, found in zip(predictors, cells, strict=True)]
    if metric in WIDE:  # the constant is tens of times as bad and would dwarf all other bars
        axis.errorbar(means, labels, xerr=spreads, fmt="o", color="C0", capsize=2)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
    else:
        axis.barh(labels, means, xerr=spreads, color="C0")
    axis.invert_yaxis()
    axis.set_xlabel(f"{HEADS[metric]} of {target}, test split")
    save(drawing, path)


def _curves(result: Mapping[str, Any], path: Path) -> None:
    """The main metric over the number of train models."""
    from matplotlib.ticker import NullLocator

    metric, zoo = result["metric"], list(result["zoos"])[0]
    runs = [run for run in result["runs"] if run["scores"] or run.get("diverged")]
    drawing, (axis,) = figure(1)
    for predictor in distinct(runs, "predictor"):
        own = [run for run in runs if value_of(run, "predictor") == predictor]
        counts = {run["fraction"]: run["train_models"] for run in own}
        cells = [cell(own, zoo, fraction=fraction) for fraction in counts]
        means = [found.mean(metric) for found in cells]
        spreads = np.nan_to_num([found.spread(metric) for found in cells])
        note = diverged_note(cells)
        if np.isnan(means).all() and not note:  # a constant ranks nothing
            continue
        label = f"{predictor} {note}".strip()
        marker = MARKERS[len(axis.containers) // COLORS % len(MARKERS)]
        axis.errorbar(list(counts.values()), means, spreads, label=label, marker=marker, capsize=2)
    counted = distinct(runs, "train_models")
    axis.set(xlabel="train models", ylabel=f"{HEADS[metric]} of {result['target']}", xscale="log")
    axis.set_xticks(counted, [str(count) for count in counted])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(drawing, path)
