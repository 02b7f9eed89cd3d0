"""Scores of predicted numbers and categories, and the ceiling of Kendall's tau_b.

tau_b is Kendall's rank correlation corrected for ties.

Shape letters: N predictions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...zoos.protocols.ties import largest_tau


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of predicted numbers.

    Attributes:
        tau_b: Kendall's rank correlation with ties, see `kendall_tau`.
        r2: coefficient of determination, see `r2`.
        mae: mean absolute error, in the target's unit.
    """

    tau_b: float
    r2: float
    mae: float


def score(true: np.ndarray, predicted: np.ndarray) -> Scores:
    """All scores of predicted numbers.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).

    Raises:
        ValueError: for the reasons in `kendall_tau`.
    """
    return Scores(
        tau_b=kendall_tau(true, predicted), r2=r2(true, predicted), mae=mae(true, predicted)
    )


def kendall_tau(true: np.ndarray, predicted: np.ndarray) -> float:
    """Kendall's tau_b.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).

    Returns:
        A number in [-1, 1]; NaN if either side is constant, which leaves only one rank.

    Raises:
        ValueError: if the inputs differ in length, have fewer than two values, or have a value
            that is not finite.
    """
    from scipy.stats import kendalltau

    true, predicted = _checked(true, predicted)
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    return float(kendalltau(true, predicted, variant="b").statistic)


def tau_ceiling(true: np.ndarray) -> float:
    """Largest tau_b of predictors without ties, see `largest_tau`.

    Predictors with ties of their own can exceed it: a predictor that repeats the truth has a tau_b
    of 1.

    Raises:
        ValueError: for the reasons in `kendall_tau`.
    """
    true, _ = _checked(true, true)
    return largest_tau(true)


def tau_share(tau_b: float, ceiling: float) -> float:
    """tau_b as a share of `tau_ceiling`; it can exceed 1 for a predictor with ties.

    Args:
        tau_b: tau_b of the predictions.
        ceiling: largest tau_b without ties, at least 0.

    Returns:
        The ratio; NaN if the ceiling is 0 (constant target).
    """
    return tau_b / ceiling if ceiling else float("nan")


def r2(true: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination: share of the target's variance that is explained.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).

    Returns:
        At most 1, and 0 for the mean of the target; NaN if the target is constant.

    Raises:
        ValueError: for the reasons in `kendall_tau`.
    """
    true, predicted = _checked(true, predicted)
    total = ((true - true.mean()) ** 2).sum()
    if np.ptp(true) == 0:
        return float("nan")
    return float(1 - ((true - predicted) ** 2).sum() / total)


def mae(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, in the target's unit.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).

    Raises:
        ValueError: for the reasons in `kendall_tau`.
    """
    true, predicted = _checked(true, predicted)
    return float(np.abs(true - predicted).mean())


def mse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error, in the square of the target's unit.

    Args:
        true: true values, (N,).
        predicted: predicted values, (N,).

    Raises:
        ValueError: for the reasons in `kendall_tau`.
    """
    true, predicted = _checked(true, predicted)
    return float(((true - predicted) ** 2).mean())


def accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Share of categories that are predicted correctly.

    Args:
        true: true categories, (N,).
        predicted: predicted categories, (N,).

    Raises:
        ValueError: if the inputs are empty or differ in shape.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape or len(true) == 0:
        raise ValueError(
            "categories and predictions must be (N,) with equal N of at least 1, "
            f"got shapes {true.shape} and {predicted.shape}"
        )
    return float((true == predicted).mean())


def balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the true categories of the share of their rows that is predicted correctly.

    Args:
        true: true categories, (N,).
        predicted: predicted categories, (N,).

    Raises:
        ValueError: if the inputs are empty or differ in shape.
    """
    accuracy(true, predicted)  # checks both
    true, right = np.asarray(true), np.asarray(true) == np.asarray(predicted)
    return float(np.mean([right[true == category].mean() for category in np.unique(true)]))


def confusion(true: np.ndarray, predicted: np.ndarray) -> dict[str, list[Any]]:
    """Counts of rows by true (first index) and predicted category.

    Args:
        true: true categories, (N,).
        predicted: predicted categories, (N,).

    Returns:
        The categories, and the counts, a list per true category.
    """
    every = np.unique(np.concatenate([np.asarray(true), np.asarray(predicted)]))
    counts = np.zeros((len(every), len(every)), np.int64)
    np.add.at(counts, (np.searchsorted(every, true), np.searchsorted(every, predicted)), 1)
    return {"categories": every.tolist(), "counts": counts.tolist()}


def majority_share(true: np.ndarray) -> float:
    """Accuracy of always predicting the most frequent of the true categories (N,)."""
    _, counts = np.unique(true, return_counts=True)
    return float(counts.max() / counts.sum())


def _checked(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N,), after checks."""
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if true.ndim != 1 or true.shape != predicted.shape or len(true) < 2:
        raise ValueError(
            "target and predictions must be (N,) with equal N of at least 2, "
            f"got shapes {true.shape} and {predicted.shape}"
        )
    for name, values in {"target": true, "prediction": predicted}.items():
        if odd := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{odd} of {len(values)} {name} values are not finite: drop the rows")
    return true, predicted
