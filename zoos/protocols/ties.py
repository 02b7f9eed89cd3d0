"""The largest rank correlation that ties in a target allow.

Shape letters: N values.
"""

import numpy as np


def largest_tau(true: np.ndarray) -> float:
    """Largest tau_b (Kendall's rank correlation) of predictions without ties.

    Of the n0 pairs of values, n1 are tied. A prediction without ties agrees with at most the
    n0 - n1 other pairs, and tau_b divides by sqrt((n0 - n1) * n0), so the largest tau_b is
    sqrt((n0 - n1) / n0).

    Args:
        true: values of the target, (N,), N at least 2.
    """
    _, counts = np.unique(true, return_counts=True)
    pairs = len(true) * (len(true) - 1) / 2
    tied = float((counts * (counts - 1) / 2).sum())
    return float(np.sqrt((pairs - tied) / pairs))
