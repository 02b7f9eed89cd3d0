"""Bayesian linear regression: the evidence of labels, and of new labels given seen ones.

Model: w ~ N(0, 1/a I), y | w ~ N(F w, 1/b I). Source: MacKay 1992, "Bayesian interpolation",
for the fixed point of a and b; LogME, You et al. 2021, arXiv 2102.11005, and its journal version
arXiv 2110.10545 for its use as a score; Dong et al. 2022 (ZooD), arXiv 2210.09236, for the
evidence of a held-out domain. Differs from the LogME code in use: for more features than images
the prior of the directions without data stays in, which that code drops.

Shape letters: N images, Q new images, D features, C columns of targets, K = min(N, D).
"""

from dataclasses import dataclass

import numpy as np

LIMIT = 1e12  # of a and b, so that a perfect fit or a vanishing one keeps finite numbers
LEAST = 1e-200
STEPS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Precisions:
    """Fixed point of the evidence for each column of targets.

    Attributes:
        a: (C,) precision of the weights.
        b: (C,) precision of the noise.
        evidence: (C,) log evidence of all N targets.
    """

    a: np.ndarray
    b: np.ndarray
    evidence: np.ndarray


def fit_precisions(features: np.ndarray, targets: np.ndarray) -> Precisions:
    """Precisions that maximise the evidence, and its value there.

    Args:
        features: (N, D), float64.
        targets: (N, C), float64.
    """
    values, projected = _spectrum(features, targets)
    rest = np.maximum((targets**2).sum(axis=0) - (projected**2).sum(axis=0), 0)
    images, width = features.shape
    a, b = np.ones(targets.shape[1]), np.ones(targets.shape[1])
    for _ in range(STEPS):
        used, weights, errors = _moments(values, projected, rest, a / b)
        least = np.maximum(used, LEAST) / LIMIT  # features that are all zero use nothing
        new_a = np.clip(used / np.maximum(weights, least), 1 / LIMIT, LIMIT)
        new_b = np.clip((images - used) / np.maximum(errors, images / LIMIT), 1 / LIMIT, LIMIT)
        done = np.abs(np.log(new_a / a)) + np.abs(np.log(new_b / b)) < TOLERANCE
        a, b = new_a, new_b
        if done.all():
            break
    _, weights, errors = _moments(values, projected, rest, a / b)
    logs = np.log(a + b * values[:, None]).sum(axis=0) + (width - len(values)) * np.log(a)
    evidence = 0.5 * (
        width * np.log(a) + images * np.log(b / (2 * np.pi)) - logs - b * errors - a * weights
    )
    return Precisions(a, b, evidence)


def predictive_evidence(
    features: np.ndarray,
    targets: np.ndarray,
    new_features: np.ndarray,
    new_targets: np.ndarray,
    precisions: Precisions,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Log density of new targets given seen ones, (C,).

    The chain rule gives it as the difference of two log evidences at fixed precisions; the
    spectra of the two Gram matrices are shared by all columns.

    Args:
        features: (N, D).
        targets: (N, C).
        new_features: (Q, D).
        new_targets: (Q, C).
        precisions: prior and noise precisions of `features` and `targets`, see `fit_precisions`.
        known: log evidence (C,) of the seen targets at these precisions; None computes it.
    """
    both = np.concatenate([features, new_features])
    all_targets = np.concatenate([targets, new_targets])
    joint = log_evidence(both, all_targets, precisions.a, precisions.b)
    if known is None:
        known = log_evidence(features, targets, precisions.a, precisions.b)
    return joint - known


def log_evidence(
    features: np.ndarray, targets: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Log density (C,) of targets (N, C) under N(0, F F^T / a + I / b), column by column.

    Args:
        features: (N, D).
        targets: (N, C).
        a: (C,) precision of the weights.
        b: (C,) precision of the noise.
    """
    values, projected = _spectrum(features, targets)
    rest = np.maximum((targets**2).sum(axis=0) - (projected**2).sum(axis=0), 0)
    variances = values[:, None] / a + 1 / b  # of y along each left singular vector, (K, C)
    free = len(features) - len(values)
    return -0.5 * (
        len(features) * np.log(2 * np.pi)
        + np.log(variances).sum(axis=0)
        - free * np.log(b)
        + (projected**2 / variances).sum(axis=0)
        + b * rest
    )


def _moments(
    values: np.ndarray, projected: np.ndarray, rest: np.ndarray, ratio: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effective number of features, squared norm of the weights, squared error; each (C,)."""
    shrunk = values[:, None] + ratio
    used = (values[:, None] / shrunk).sum(axis=0)
    weights = (values[:, None] * projected**2 / shrunk**2).sum(axis=0)
    errors = (projected**2 * (ratio / shrunk) ** 2).sum(axis=0) + rest
    return used, weights, errors


def _spectrum(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values (K,) and targets along the left singular vectors (K, C).

    An eigendecomposition of the smaller Gram matrix, several times faster than an SVD. Directions
    below rounding, relative to the largest, carry no feature and are set to zero.
    """
    images, width = features.shape
    gram = features.T @ features if width < images else features @ features.T
    values, vectors = np.linalg.eigh(gram)
    values = np.where(values > values[-1] * max(images, width) * np.finfo(float).eps, values, 0)
    if width >= images:
        return values, vectors.T @ targets
    along = vectors.T @ (features.T @ targets)
    scale = np.sqrt(np.where(values > 0, values, 1))[:, None]
    return values, np.where(values[:, None] > 0, along / scale, 0)
