"""Plots of an analysis: measures over epochs, against the gap, in the plane, and barriers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..inspection.plots import TRAJECTORIES, check_suffix, figure, save, whole_numbers
from .dimensions import typical
from .population_rows import PopulationRows

OVER_EPOCHS = ("path_length", "step_cosine", "hessian_largest", "effective_rank", "agreement")
AGAINST_GAP = ("path_distance", "hessian_trace", "adaptive_sharpness", "alpha", "agreement")
LOGARITHMIC = (
    *("path_length", "path_distance", "hessian_largest", "hessian_trace"),
    *("fisher_trace", "adaptive_sharpness"),
)
CALM = 3.0  # median norms, above which a path is left out of the plane
BULK = (2, 98)  # percentiles of a measure; an axis reaches beyond them by their range or its root
GAP, MEASURE = "generalization_gap", "test_accuracy"
PANELS = 4


def plot_analysis(
    population: PopulationRows, columns: Mapping[str, np.ndarray], folder: Path, suffix: str
) -> list[Path]:
    """Draw what was measured; a plot without its measures is left out.

    Args:
        population: rows of the zoo.
        columns: measures, (N,) by name.
        folder: folder of the plots.
        suffix: suffix of a picture.

    Returns:
        The files that were written.

    Raises:
        ValueError: if the suffix is of no picture.
    """
    plots = {
        "epochs": _draw_epochs,
        "gap": _draw_gap,
        "paths": _draw_paths,
        "barriers": _draw_barriers,
    }
    written = []
    for name, draw in plots.items():
        path = folder / f"{name}{suffix}"
        check_suffix(path)
        drawing = draw(population, columns)
        if drawing is not None:
            save(drawing, path)
            written.append(path)
    return written


def _draw_epochs(population: PopulationRows, columns: Mapping[str, np.ndarray]) -> Any:
    """Measures over epochs of some models, coloured by their last measure."""
    names = [name for name in OVER_EPOCHS if name in columns and _known(columns[name])][:PANELS]
    if not names or population.checkpoints < 2:
        return None
    models, colours = _coloured(population)
    drawing, panels = figure(len(names))
    epochs = population.column("epoch")
    for panel, name in zip(panels, names, strict=True):
        for rows, colour in zip(models, colours, strict=True):
            values = columns[name][rows]
            known = rows[values > 0 if name in LOGARITHMIC else np.isfinite(values)]
            panel.plot(epochs[known], columns[name][known], ".-", color=colour, alpha=0.5, lw=0.8)
        panel.set(xlabel="epoch", title=name.replace("_", " "))
        whole_numbers(panel.xaxis)
        if name in LOGARITHMIC:
            panel.set_yscale("log")
    _add_colours(drawing, panels, population)
    return drawing


def _draw_gap(population: PopulationRows, columns: Mapping[str, np.ndarray]) -> Any:
    """The generalisation gap over measures at the last checkpoint."""
    names = [name for name in AGAINST_GAP if name in columns and _known(columns[name])][:PANELS]
    if not names or GAP not in population.dataset.table.names:
        return None
    rows = population.last_rows
    gap, accuracy = (population.column(name)[rows] for name in (GAP, MEASURE))
    if not _known(gap):
        return None
    drawing, panels = figure(len(names))
    for panel, name in zip(panels, names, strict=True):
        values, outside = _at_border(columns[name][rows])
        points = panel.scatter(
            values, gap, c=accuracy, s=9, alpha=0.7, linewidths=0, cmap="viridis"
        )
        remark = f"\n({outside} models beyond the border)" if outside else ""
        panel.set(xlabel=name.replace("_", " ") + remark)
        if name in LOGARITHMIC:
            panel.set_xscale("log")
    panels[0].set_ylabel("generalization gap")
    drawing.colorbar(points, ax=list(panels), label="test accuracy")
    return drawing


def _at_border(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values with those far beyond the bulk of models moved to its border, and their number."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, BULK) if len(known) else (0.0, 1.0)
    if low > 0:  # on a logarithmic axis
        low, high = low / (high / low) ** 0.5, high * (high / low) ** 0.5
    else:
        low, high = low - (high - low), high + (high - low)
    moved = np.clip(values, low, high)
    return moved, int((np.isfinite(values) & (moved != values)).sum())


def _draw_paths(population: PopulationRows, columns: Mapping[str, np.ndarray]) -> Any:
    """Paths of some models in the plane of the first two principal components of their ends.

    Models with far larger weights than most are left out.
    """
    models, colours = _coloured(population)
    if len(models) < 3:
        return None
    stacked = [population.dataset.weights(rows) for rows in models]
    calm = typical(torch.stack([path[path.norm(dim=1).argmax()] for path in stacked]), CALM)
    weights = [path.double().numpy() for path, kept in zip(stacked, calm, strict=True) if kept]
    colours = [colour for colour, kept in zip(colours, calm, strict=True) if kept]
    moved = [(path - path[:1]) / _length(path) for path in weights]
    drawing, panels = figure(2)
    titles = ("weights", "moves from the first checkpoint, divided by the path's length")
    for panel, paths, title in zip(panels, (weights, moved), titles, strict=True):
        ends = np.stack([path[-1] for path in paths])
        centre = ends.mean(0)
        axes = np.linalg.svd(ends - centre, full_matrices=False)[2][:2]
        for path, colour in zip(paths, colours, strict=True):
            x, y = ((path - centre) @ axes.T).T
            panel.plot(x, y, ".-", color=colour, alpha=0.6, lw=0.8, markersize=3)
        panel.set(xlabel="component 1 of the ends", ylabel="component 2")
        panel.set_title(title, fontsize=9)
    _add_colours(drawing, panels, population)
    return drawing


def _length(path: np.ndarray) -> float:
    """Length of a path; 1 for a model that stands still."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()) or 1.0


def _draw_barriers(population: PopulationRows, columns: Mapping[str, np.ndarray]) -> Any:
    """Barriers to another model before and after alignment, and along the paths."""
    if not _known(columns.get("barrier", np.empty(0))):
        return None
    drawing, (left, right) = figure(2)
    before, after = columns["barrier"], columns["barrier_aligned"]
    known = (before > 0) & (after > 0)
    left.scatter(before[known], after[known], s=9, alpha=0.6, linewidths=0)
    left.axline((1, 1), slope=1, color="0.6", lw=1, ls="--")
    left.set(xlabel="barrier to another model", ylabel="after alignment")
    left.set(xscale="log", yscale="log", title="pairs with barriers above 0")
    names = [n for n in ("step_barrier", "path_barrier") if _known(columns[n])]
    values = [columns[name] for name in (*names, "barrier", "barrier_aligned")]
    finite = [column[np.isfinite(column)] for column in values]
    right.boxplot(finite, showfliers=False)
    labels = [name.replace("_", " ") for name in (*names, "barrier", "barrier_aligned")]
    right.set_xticks(range(1, len(labels) + 1), labels, rotation=15, fontsize=8)
    right.set(ylabel="loss barrier", title="without outliers")
    return drawing


def _coloured(population: PopulationRows) -> tuple[list[np.ndarray], list[Any]]:
    """Models spread over the ranks of their last measure, and a colour for each."""
    from matplotlib import colormaps

    models = [rows[population.is_ok[rows]] for rows in population.models]
    models = [rows for rows in models if len(rows)]
    lasts = np.array([_last_measure(population, rows) for rows in models])
    order = np.argsort(lasts, kind="stable")
    count = min(TRAJECTORIES, len(order))
    chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    low, high = _ends(lasts)
    shades = [(lasts[index] - low) / max(high - low, 1e-12) for index in chosen]
    colours = [colormaps["viridis"](float(np.nan_to_num(shade))) for shade in shades]
    return [models[index] for index in chosen], colours


def _add_colours(drawing: Any, panels: Sequence[Any], population: PopulationRows) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    models = [rows[population.is_ok[rows]] for rows in population.models]
    low, high = _ends(np.array([_last_measure(population, rows) for rows in models if len(rows)]))
    shades = ScalarMappable(Normalize(low, high), cmap="viridis")
    label = f"last {_measure_name(population).replace('_', ' ')}"
    drawing.colorbar(shades, ax=list(panels), label=label)


def _measure_name(population: PopulationRows) -> str:
    """Test accuracy, or the test loss of a zoo without accuracies."""
    return MEASURE if _known(population.column(MEASURE)) else "test_loss"


def _last_measure(population: PopulationRows, rows: np.ndarray) -> float:
    return float(population.column(_measure_name(population))[rows[-1]])


def _ends(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def _known(values: np.ndarray) -> bool:
    """Whether a value is finite."""
    return bool(np.isfinite(values).any())
