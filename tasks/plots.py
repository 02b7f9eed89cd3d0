"""Plots of a zoo and of predictions on it, as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..loaders.dataset import ZooDataset

TRAJECTORIES = 60  # models drawn; more hide each other
INCHES, DPI = (9.0, 3.6), 130


def plot_zoo(zoo: Mapping[str, ZooDataset], path: Path) -> None:
    """Draw the distribution of final test accuracy and trajectories over epochs.

    Trajectories of up to `TRAJECTORIES` models, spread over the range of final accuracy.
    """
    columns = _joined(zoo, ("model_id", "epoch", "test_accuracy"))
    drawing, (left, right) = figure(2)
    epochs = np.unique(columns["epoch"])
    final = columns["test_accuracy"][columns["epoch"] == epochs[-1]]
    left.hist(final[np.isfinite(final)], bins=np.linspace(0, 1, 26), color="C0", edgecolor="white")
    left.set(xlabel=f"test accuracy at epoch {epochs[-1]}", ylabel="models", xlim=(0, 1))
    left.set_title(f"{np.isfinite(final).sum()} of {len(final)} models (finite)")
    trajectories = _spread(columns, epochs)
    for trajectory in trajectories:
        right.plot(epochs, trajectory, color="C0", alpha=0.35, linewidth=0.9)
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
    right.set_title(f"trajectories of {len(trajectories)} models")
    save(drawing, path)


def plot_predictions(
    predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], target: str, path: Path
) -> None:
    """Draw predicted against true values, one panel per predictor.

    Args:
        predictions: (true, predicted), each (n,), by predictor name.
        target: the predicted column's name.
        path: the PNG to write.
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


def _joined(zoo: Mapping[str, ZooDataset], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([split.columns[name] for split in zoo.values()]) for name in names}


def _spread(columns: Mapping[str, np.ndarray], epochs: np.ndarray) -> list[np.ndarray]:
    """Test accuracy by epoch of models at evenly spread ranks of final accuracy."""
    order = np.lexsort((columns["epoch"], columns["model_id"]))
    models, counts = np.unique(columns["model_id"], return_counts=True)
    complete = np.isin(columns["model_id"][order], models[counts == len(epochs)])
    table = columns["test_accuracy"][order][complete].reshape(-1, len(epochs))
    table = table[np.argsort(table[:, -1])]
    chosen = np.linspace(0, len(table) - 1, min(TRAJECTORIES, len(table))).round().astype(int)
    return [table[index] for index in chosen]


def figure(panels: int) -> tuple[Any, Any]:
    """A figure without pyplot, so that the user's own backend stays as it is."""
    from matplotlib.figure import Figure

    width = INCHES[0] * max(1.0, panels / 2.5)
    drawing = Figure(figsize=(width, INCHES[1]), layout="constrained")
    return drawing, drawing.subplots(1, panels, squeeze=False)[0]


def save(drawing: Any, path: Path, grid: bool = True) -> None:
    """Write a figure as PNG, without frames."""
    for axis in drawing.axes:
        axis.spines[["top", "right"]].set_visible(False)
        if grid:
            axis.grid(alpha=0.25)
    drawing.savefig(path, dpi=DPI, format="png")
