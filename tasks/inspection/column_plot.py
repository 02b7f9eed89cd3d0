"""A plot of chosen columns of a zoo: one column as a histogram, or two as points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...loaders.load import ZooDataset
from ...zoos.errors import did_you_mean
from .plots import check_suffix, figure, save, whole_numbers

MOST_WORDS = 10  # different texts that colours tell apart


def plot_columns(
    zoo: Mapping[str, ZooDataset],
    path: Path,
    x: str,
    y: str | None = None,
    colour: str | None = None,
) -> None:
    """Draw the rows of a zoo as points over two columns, or one column as a histogram.

    Args:
        zoo: dataset by split.
        path: path of the file to write, with the suffix of a picture.
        x: column of the horizontal axis; text is a category.
        y: column of the vertical axis; None draws a histogram of `x`.
        colour: column of the colours of the points; None draws all in one colour.

    Raises:
        ValueError: if a column is missing, `colour` is given without `y`, or `colour` is a text
            column with too many different texts.
    """
    check_suffix(path)
    if y is None and colour is not None:
        raise ValueError(f"colour {colour!r} needs two columns, x and y: give y too")
    drawing, (panel,) = figure(1)
    drawing.suptitle(next(iter(zoo.values())).name)
    values = _column(zoo, x)
    panel.set_xlabel(x)
    if y is None:
        panel.hist(_drawable(values), bins=30, color="C0", edgecolor="white")
        panel.set_ylabel("rows")
    else:
        others = _column(zoo, y)
        panel.set_ylabel(y)
        _draw_points(drawing, panel, values, others, colour and (colour, _column(zoo, colour)))
        _whole_if_counted(panel.yaxis, others)
    _whole_if_counted(panel.xaxis, values)
    save(drawing, path)


def _column(zoo: Mapping[str, ZooDataset], name: str) -> np.ndarray:
    """A column of all splits, one after the other."""
    known = list(next(iter(zoo.values())).columns)
    if name not in known:
        raise ValueError(
            f"no column {name!r} to plot, there are {known}{did_you_mean(name, known)}"
        )
    return np.concatenate([split.columns[name] for split in zoo.values()])


def _draw_points(drawing: Any, panel: Any, x: np.ndarray, y: np.ndarray, colour: Any) -> None:
    style = {"s": 12, "alpha": 0.6, "linewidths": 0}
    x, y = (values.astype(str) if values.dtype.kind == "O" else values for values in (x, y))
    if not colour:
        panel.scatter(x, y, **style)
        return
    name, values = colour
    if values.dtype.kind != "O":
        points = panel.scatter(x, y, c=values, cmap="viridis", **style)
        drawing.colorbar(points, ax=panel, label=name)
        return
    words = np.unique(values.astype(str))
    if len(words) > MOST_WORDS:
        raise ValueError(
            f"column {name!r} has {len(words)} different texts, colours tell {MOST_WORDS} apart: "
            "choose a column of numbers"
        )
    for word in words:
        panel.scatter(x[values == word], y[values == word], label=word, **style)
    panel.legend(title=name, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _drawable(values: np.ndarray) -> np.ndarray:
    """Text as text, numbers without those that are not finite."""
    if values.dtype.kind == "O":
        return values.astype(str)
    return values[np.isfinite(values)]


def _whole_if_counted(axis: Any, values: np.ndarray) -> None:
    if values.dtype.kind in "iu":
        whole_numbers(axis)
