"""Plot of a ranking: the score of each model against its accuracy, where that is known.

Shape letters: M models, S seeds of the fine-tuning.
"""

from pathlib import Path

import numpy as np

from ...zoos.errors import UnsuitableError
from ..inspection.plots import check_suffix, figure, save
from ..scoring.ranks import LEVEL, weighted_tau
from .matrix import Matrix

RESAMPLES = 1_000
FEWEST = 3  # models


def plot_scores(
    scores: np.ndarray, accuracy: np.ndarray, path: Path, label: str = "score"
) -> tuple[float, float, float]:
    """Draw scores against accuracies, with the range over seeds and the weighted tau in the title.

    Args:
        scores: (M,).
        accuracy: (M, S), NaN where a model was not fine-tuned.
        path: .png, .pdf or .svg file to write.
        label: name of the score, for the axis.

    Returns:
        The weighted tau, and its 95 % bootstrap interval over models.

    Raises:
        UnsuitableError: if fewer than three models have a score and an accuracy.
        ValueError: if the path has another suffix.
    """
    check_suffix(path)
    known = np.isfinite(scores) & np.isfinite(accuracy).any(axis=1)
    if known.sum() < FEWEST:
        raise UnsuitableError(
            f"a plot needs at least {FEWEST} models with a score and an accuracy, got "
            f"{int(known.sum())}: give a matrix that holds the target"
        )
    scores, accuracy = scores[known], accuracy[known]
    mean = np.nanmean(accuracy, axis=1)
    spread = np.abs(np.stack([np.nanmin(accuracy, axis=1), np.nanmax(accuracy, axis=1)]) - mean)
    tau, (low, high) = weighted_tau(mean, scores), _interval(mean, scores)
    drawing, (axis,) = figure(1)
    axis.errorbar(scores, mean, yerr=spread, fmt="o", markersize=4, linewidth=1)
    axis.set(xlabel=label, ylabel="test accuracy after fine-tuning")
    axis.set_title(
        f"weighted tau {tau:.2f} [{low:.2f}, {high:.2f}], {len(mean)} models", fontsize=9
    )
    save(drawing, path)
    return tau, low, high


def truth_of(matrix: Matrix, target: str, models: tuple[str, ...]) -> np.ndarray:
    """Accuracies (M, S) of some models on a target, NaN where the matrix has none.

    Args:
        matrix: accuracies after fine-tuning.
        target: name of the target.
        models: names of the models.

    Raises:
        UnsuitableError: if the matrix does not hold the target.
    """
    if target not in matrix.targets:
        raise UnsuitableError(
            f"the matrix has no target {target!r}, so that the accuracies are not known: it has "
            f"{list(matrix.targets)}"
        )
    column = matrix.test[:, matrix.targets.index(target)]
    place = {model: index for index, model in enumerate(matrix.models)}
    unknown = np.full(column.shape[1], np.nan)
    return np.stack([column[place[one]] if one in place else unknown for one in models])


def _interval(mean: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the weighted tau over models."""
    rng, taus = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(mean), size=len(mean))
        taus.append(weighted_tau(mean[drawn], scores[drawn]))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(taus, [tail, 100 - tail])
    return float(low), float(high)
