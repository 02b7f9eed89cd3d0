"""Plots of a zoo and of predictions on it, as PNG, PDF or SVG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...loaders.load import ZooDataset

TRAJECTORIES = 60  # models drawn; the curves of more would overlap
INCHES, DPI = (9.0, 3.6), 130
MOST_IN_ROW = 5  # panels of a figure
SUFFIXES = (".png", ".pdf", ".svg")


def plot_zoo(zoo: Mapping[str, ZooDataset], path: Path) -> None:
    """Draw the distribution of a measure at the last epoch, and its trajectories over epochs.

    A zoo of one epoch has no trajectories: the measure is drawn against its train measure instead.

    The measure is the test accuracy, or the test loss on a logarithmic axis for zoos without
    accuracy, such as implicit neural representations (INRs). Trajectories are those of up to
    `TRAJECTORIES` models, spread over the range of the final measure.

    Args:
        zoo: dataset by split.
        path: path of the file to write, with one of `SUFFIXES`.

    Raises:
        ValueError: if the path has another suffix, or the zoo has neither measure.
    """
    check_suffix(path)
    if not has_measure(zoo):
        first = next(iter(zoo.values()))
        raise ValueError(
            f"zoo {first.name!r} has no test accuracy and no test loss to plot: choose a column "
            f"with --x (in Python plot_columns), one of {list(first.columns)}"
        )
    columns = _joined(zoo, ("model_id", "epoch", "test_accuracy", "test_loss"))
    logarithmic = not np.isfinite(columns["test_accuracy"]).any()
    measure = "test_loss" if logarithmic else "test_accuracy"
    name = measure.replace("_", " ")
    drawing, (left, right) = figure(2)
    drawing.suptitle(next(iter(zoo.values())).name)
    epochs = np.unique(columns["epoch"])
    final = columns[measure][columns["epoch"] == epochs[-1]]
    finite = final[np.isfinite(final)]
    left.hist(finite, bins=_bins(finite, logarithmic), color="C0", edgecolor="white")
    left.set(xlabel=f"{name} at epoch {epochs[-1]}", ylabel="models")
    left.set_title(f"{len(finite)} of {len(final)} models (finite)")
    if len(epochs) > 1:
        _draw_trajectories(right, columns, epochs, measure)
    else:
        _draw_against_train(right, zoo, measure)
    if logarithmic:
        left.set_xscale("log")
        right.set_yscale("log")
    else:
        left.set_xlim(0, 1)
        right.set_ylim(0, 1)
    save(drawing, path)


def has_measure(zoo: Mapping[str, ZooDataset]) -> bool:
    """Whether `plot_zoo` has something to draw: a test accuracy, or a positive test loss."""
    columns = _joined(zoo, ("test_accuracy", "test_loss"))
    loss = columns["test_loss"]
    return bool(np.isfinite(columns["test_accuracy"]).any() or (loss[np.isfinite(loss)] > 0).any())


def check_suffix(path: Path) -> None:
    """Refuse a file that is no picture of a known kind.

    Raises:
        ValueError: if the suffix is not one of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot must end in one of {SUFFIXES}, got {str(path)!r}")


def whole_numbers(axis: Any) -> None:
    """Label an axis of a plot, such as one of epochs, at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def plot_predictions(
    predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], target: str, path: Path
) -> None:
    """Draw predicted against true values, one panel per predictor.

    Args:
        predictions: true and predicted values, each (N,), by predictor name.
        target: name of the predicted column.
        path: path of the file to write, with one of `SUFFIXES`.
    """
    drawing, axes = figure(len(predictions))
    for axis, (name, (true, predicted)) in zip(axes, predictions.items(), strict=True):
        values = np.concatenate([true, predicted])
        ends = [float(values.min()), float(values.max())]
        axis.plot(ends, ends, color="0.6", linewidth=1, linestyle="--")
        axis.scatter(true, predicted, s=9, alpha=0.5, linewidths=0)
        axis.set(xlabel=f"true {target}", title=name)
    axes[0].set_ylabel(f"predicted {target}")
    save(drawing, path)


def _draw_trajectories(
    panel: Any, columns: Mapping[str, np.ndarray], epochs: np.ndarray, measure: str
) -> None:
    trajectories = _spread(columns, epochs, measure)
    for trajectory in trajectories:
        panel.plot(epochs, trajectory, "C0.-", alpha=0.35, linewidth=0.9, markersize=3)
    title = f"trajectories of {len(trajectories)} models"
    panel.set(xlabel="epoch", ylabel=measure.replace("_", " "), title=title)
    whole_numbers(panel.xaxis)


def _draw_against_train(panel: Any, zoo: Mapping[str, ZooDataset], measure: str) -> None:
    """Draw the test measure over the train measure, of zoos of one epoch."""
    train = measure.replace("test", "train")
    columns = _joined(zoo, (train, measure))
    panel.scatter(columns[train], columns[measure], s=9, alpha=0.5, linewidths=0)
    labels = {"xlabel": train.replace("_", " "), "ylabel": measure.replace("_", " ")}
    panel.set(title=f"{len(columns[measure])} models, one epoch each", **labels)
    if measure == "test_loss":
        panel.set_xscale("log")


def _bins(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Bin edges: even steps of accuracy in [0, 1], or of the logarithm over the values."""
    positive = values[values > 0]
    if not logarithmic or not len(positive):
        return np.linspace(0, 1, 26)
    return np.geomspace(positive.min() / 1.05, positive.max() * 1.05, 26)


def _joined(zoo: Mapping[str, ZooDataset], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([split.columns[name] for split in zoo.values()]) for name in names}


def _spread(
    columns: Mapping[str, np.ndarray], epochs: np.ndarray, measure: str
) -> list[np.ndarray]:
    """A measure by epoch, of models at evenly spaced ranks of its last value."""
    order = np.lexsort((columns["epoch"], columns["model_id"]))
    models, counts = np.unique(columns["model_id"], return_counts=True)
    complete = np.isin(columns["model_id"][order], models[counts == len(epochs)])
    table = columns[measure][order][complete].reshape(-1, len(epochs))
    table = table[np.argsort(table[:, -1])]
    chosen = np.linspace(0, len(table) - 1, min(TRAJECTORIES, len(table))).round().astype(int)
    return [table[index] for index in chosen]


def figure(panels: int) -> tuple[Any, Any]:
    """A figure and its axes, made without pyplot to leave the user's backend unchanged.

    Many panels lie in rows of `MOST_IN_ROW`.
    """
    from matplotlib.figure import Figure

    columns = min(panels, MOST_IN_ROW)
    rows = -(-panels // columns)
    size = INCHES[0] * max(1.0, columns / 2.5), INCHES[1] * rows
    drawing = Figure(figsize=size, layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[panels:]:
        unused.remove()
    return drawing, axes[:panels]


def save(drawing: Any, path: Path, grid: bool = True) -> None:
    """Write a figure in the format of the suffix, without top and right frame lines.

    Args:
        drawing: figure to write.
        path: path of the file, with one of `SUFFIXES`.
        grid: whether to draw grid lines.

    Raises:
        ValueError: if the path has another suffix.
    """
    check_suffix(path)
    for axis in drawing.axes:
        axis.spines[["top", "right"]].set_visible(False)
        if grid:
            axis.grid(alpha=0.25)
    drawing.savefig(path, dpi=DPI, format=path.suffix[1:].lower())
