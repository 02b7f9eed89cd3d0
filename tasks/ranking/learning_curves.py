"""Rank models by the start of their learning curves: accept points, then stop (AtS).

Source: Lin et al. 2024, arXiv 2402.02314: on log scales the loss after fine-tuning on D examples
first falls slowly, then along a line. AtS takes points from the largest D down, fits a line to
those that it accepted, and stops at the first point that lies off the line: it belongs to the slow
start. The line gives the loss at the full size. The same serves for losses by epoch.

Shape letters: M models, P points of a curve.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...zoos.errors import UnsuitableError

FEWEST = 3  # points of the first line
TOLERANCE = 5.0  # deviations of the residuals within which a point is accepted
FLOOR = 1e-3  # least deviation of log losses, so that an exact line accepts its next point


def predict_losses(
    sizes: np.ndarray, losses: np.ndarray, full: float, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Loss of each model at the full size, (M,), extrapolated from smaller ones.

    Args:
        sizes: (P,) sizes or epochs above 0 that the losses were measured at, increasing.
        losses: (M, P), above 0.
        full: the size or epoch to predict for.
        tolerance: deviations of the accepted points from their line within which the next point
            is accepted.

    Raises:
        UnsuitableError: if there are fewer than two points, or a size or loss is not above 0.
    """
    sizes, losses = np.asarray(sizes, np.float64), np.asarray(losses, np.float64)
    if losses.ndim != 2 or losses.shape[1] != len(sizes) or len(sizes) < 2:
        raise UnsuitableError(
            f"learning curves need at least 2 points each, got {losses.shape} losses at "
            f"{len(sizes)} sizes"
        )
    if not (sizes > 0).all() or not (np.diff(sizes) > 0).all() or not (losses > 0).all():
        raise UnsuitableError(
            "sizes must be above 0 and increase, and losses be above 0: leave out the zero-shot "
            "loss and diverged models"
        )
    along, wanted = np.log(sizes)[::-1], np.log(full)
    lines = [_accepted_line(along, curve[::-1], tolerance) for curve in np.log(losses)]
    return np.array([np.exp(slope * wanted + offset) for slope, offset in lines])


def curve_scores(
    sizes: np.ndarray, losses: np.ndarray, full: float, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Score of each model, (M,), higher is better: minus the predicted loss.

    Args:
        sizes: (P,), see `predict_losses`.
        losses: (M, P).
        full: size or epoch to predict for.
        tolerance: see `predict_losses`.
    """
    return -predict_losses(sizes, losses, full, tolerance)


def zoo_curves(zoo: Mapping[str, Any], column: str = "val_loss") -> tuple[np.ndarray, np.ndarray]:
    """Curves of a zoo's models over their checkpoints after epoch 0.

    Args:
        zoo: datasets by split, as `load_zoo` gives them.
        column: loss that was recorded at each checkpoint.

    Returns:
        Epochs (P,) and losses (M, P), models by split and number.

    Raises:
        UnsuitableError: if models have different checkpoints.
    """
    curves: dict[tuple[str, int], dict[int, float]] = {}
    for split, rows in zoo.items():
        columns = (rows.columns[name] for name in ("model_id", "epoch", column))
        for model, epoch, loss in zip(*columns, strict=True):
            if epoch > 0:
                curves.setdefault((split, int(model)), {})[int(epoch)] = float(loss)
    checkpoints = {tuple(sorted(curve)) for curve in curves.values()}
    if len(checkpoints) != 1:
        raise UnsuitableError(
            f"models must have the same checkpoints after epoch 0, got {sorted(checkpoints)}"
        )
    epochs = np.array(checkpoints.pop())
    return epochs, np.array([[curve[one] for one in epochs] for curve in curves.values()])


def _accepted_line(along: np.ndarray, curve: np.ndarray, tolerance: float) -> tuple[float, float]:
    """Slope and offset over the accepted points; the first points are the largest sizes."""
    count = min(FEWEST, len(along))
    line = _line(along[:count], curve[:count])
    while count < len(along):
        residuals = curve[:count] - (line[0] * along[:count] + line[1])
        deviation = max(float(residuals.std()), FLOOR)
        if abs(curve[count] - (line[0] * along[count] + line[1])) > tolerance * deviation:
            break
        count += 1
        line = _line(along[:count], curve[:count])
    return line


def _line(along: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    centred = along - along.mean()
    slope = float(centred @ curve / (centred @ centred))
    return slope, float(curve.mean() - slope * along.mean())
