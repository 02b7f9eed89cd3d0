"""Bootstrap confidence intervals of scores over the choice of test models.

A bootstrap sample draws models with replacement. It holds all rows of a drawn model, because the
checkpoints of one model are not independent rows. A sample is stored as a count per row, so a
score of all samples is one matrix product.

Shape letters: N rows, R samples.
"""

from collections.abc import Callable

import numpy as np

LEVEL = 0.95
BLOCK_PAIRS = 2**22  # pairs of rows compared at a time

Resampled = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def bootstrap_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    models: np.ndarray,
    metrics: tuple[str, ...],
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """95 % percentile intervals.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).
        models: model of each row, (N,).
        metrics: keys of `RESAMPLED`.
        resamples: number of bootstrap samples, R.
        seed: seed of the draws.

    Returns:
        [low, high] by metric; NaN if the metric is defined in no sample.
    """
    counts = sample_counts(models, resamples, seed)
    ends = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {name: RESAMPLED[name](true, predicted, counts) for name in metrics}
    return {name: _percentiles(column, ends) for name, column in values.items()}


def sample_counts(models: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Count of each row in each bootstrap sample.

    Args:
        models: model of each row, (N,).
        resamples: number of bootstrap samples, R.
        seed: seed of the draws.

    Returns:
        (R, N), float32.
    """
    _, index = np.unique(models, return_inverse=True)
    count = int(index.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    return drawn[:, index].astype(np.float32)


def _tau_b(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau_b in every sample, (R,); NaN where one side is constant.

    A pair of copies of one row is tied on both sides; tau_b leaves such pairs out.
    """
    sums = np.zeros((3, len(counts)))
    rows_at_once = max(1, BLOCK_PAIRS // len(true))
    for start in range(0, len(true), rows_at_once):
        rows = slice(start, start + rows_at_once)
        a = np.sign(true[rows, None] - true[None]).astype(np.float32)
        b = np.sign(predicted[rows, None] - predicted[None]).astype(np.float32)
        for index, pairs in enumerate((a * b, a * a, b * b)):
            sums[index] += (counts[:, rows] * (counts @ pairs.T)).sum(axis=1, dtype=np.float64)
    return sums[0] / np.sqrt(sums[1] * sums[2])


def _mean_of(
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Resampled:
    """A function that takes the mean of an error per row in every sample."""

    def resampled(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return counts @ error(true, predicted) / counts.sum(axis=1)

    return resampled


def _r2(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The coefficient of determination in every sample, (R,); NaN where the truth is constant."""
    rows = counts.sum(axis=1)
    centred = true - true.mean()
    variance = counts @ centred**2 / rows - (counts @ centred / rows) ** 2
    variance = np.where(variance > 1e-12 * (centred**2).mean(), variance, np.nan)
    return 1 - counts @ (true - predicted) ** 2 / rows / variance


def _balanced(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Balanced accuracy in every sample, (R,), over the categories that the sample holds."""
    right = (true == predicted).astype(np.float32)
    total, held = np.zeros(len(counts)), np.zeros(len(counts))
    for category in np.unique(true):
        own = true == category
        rows = counts[:, own].sum(axis=1)
        total += counts[:, own] @ right[own] / np.maximum(rows, 1)  # 0 where there is no such row
        held += rows > 0
    return total / held


RESAMPLED: dict[str, Resampled] = {
    "tau_b": _tau_b,
    "r2": _r2,
    "mae": _mean_of(lambda true, predicted: np.abs(true - predicted)),
    "mse": _mean_of(lambda true, predicted: (true - predicted) ** 2),
    "accuracy": _mean_of(lambda true, predicted: (true == predicted).astype(np.float64)),
    "balanced_accuracy": _balanced,
}


def _percentiles(values: np.ndarray, ends: list[float]) -> list[float]:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return [float("nan")] * 2
    return [float(end) for end in np.percentile(finite, ends)]
