"""One ranking from several: labels that a ranker is trained on without fine-tuning.

Sources: Copeland's and Borda's rules; Model Spider (Zhang et al. 2023, arXiv 2306.03900) trains on
aggregated scores, whose labels in its code are the number of models beaten.

Shape letters: K scores, M models.
"""

import numpy as np

from ..scoring.ranks import is_constant

RULES = ("copeland", "borda", "mean-z")


def aggregate_scores(scores: np.ndarray, rule: str = "copeland") -> np.ndarray:
    """One value per model, (M,), higher is better.

    Args:
        scores: (K, M), higher is better in each row.
        rule: "copeland" counts the models that a model beats in most scores; "borda" averages
            ranks from 0; "mean-z" averages values in deviations.

    Raises:
        ValueError: if the rule is unknown, or the scores are not (K, M).
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {RULES}, got {rule!r}")
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be (scores, models), got shape {scores.shape}")
    if rule == "mean-z":
        return standardised(scores).mean(axis=0)
    better = np.sign(scores[:, :, None] - scores[:, None, :])  # of each model over each other
    if rule == "copeland":
        beaten: np.ndarray = (better.sum(axis=0) > 0).sum(axis=1).astype(float)
        return beaten
    halves = ((better + 1) / 2).sum(axis=2) - 0.5  # ties count half, the model itself nothing
    return halves.mean(axis=0)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Rows in deviations from their mean; a row that is constant up to rounding is 0.

    Args:
        scores: (..., M), finite.
    """
    centred = scores - scores.mean(axis=-1, keepdims=True)
    deviation = scores.std(axis=-1, keepdims=True)
    flat = is_constant(scores)[..., None]
    return np.where(flat, 0, centred / np.where(flat, 1, deviation))
