"""ZooD: rank models for unseen domains by two likelihoods of a domain that is left out.

Source: Dong et al. 2022, arXiv 2210.09236: discriminability p(y' | F', y, F) and stability
p(F' | F), both with one domain left out in turn. Neither code nor the normalisation of the two
terms was published. Their raw sum cannot compare models: stability moves by -Q D log c when
features are scaled by c, and grows with D. So the terms are reported apart, and the sum is
offered in several normalisations; none is claimed to be the paper's.

Shape letters: M models, K domains, N images of the other domains, Q of the one left out, D
features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import UnsuitableError
from .evidence import fit_precisions, predictive_evidence
from .task_features import TaskFeatures

NORMALISATIONS = ("none", "per_sample", "per_sample_per_dim", "whitened", "rank_sum")
RIDGE = 1e-6  # of the mean variance, so that it grows with the features when they are scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainTerms:
    """The two terms of one model for each left-out domain, log densities in nats.

    Attributes:
        discriminability: (K,) of the left-out labels, mean over classes.
        stability: (K,) of the left-out features under a Gaussian of the others.
        own: (K,) of the other features under the same Gaussian.
        images: (K,) Q.
        others: (K,) N.
        width: D.
    """

    discriminability: np.ndarray
    stability: np.ndarray
    own: np.ndarray
    images: np.ndarray
    others: np.ndarray
    width: int

    @property
    def per_image(self) -> tuple[float, float]:
        """Discriminability and stability per left-out image, means over domains."""
        return (
            float((self.discriminability / self.images).mean()),
            float((self.stability / self.images).mean()),
        )

    @property
    def whitened(self) -> float:
        """Stability per left-out image minus that per other image; unchanged by affine maps."""
        return float((self.stability / self.images - self.own / self.others).mean())


def domain_terms(task: TaskFeatures) -> DomainTerms:
    """Both terms with each domain left out in turn.

    Args:
        task: features, labels and domains.

    Raises:
        UnsuitableError: if there are fewer than two domains, or values to regress.
    """
    if task.regression:
        raise UnsuitableError("ZooD ranks for classes, and this task has values to regress")
    names = np.unique(task.domains) if task.domains is not None else np.zeros(1)
    if task.domains is None or len(names) < 2:
        raise UnsuitableError(
            f"ZooD leaves one domain out in turn and needs at least 2, got {len(names)}: give "
            "images with a domain each, or rank by 'logme'"
        )
    folds = [_left_out(task, task.domains == name) for name in names]
    columns = np.array(folds).T
    return DomainTerms(
        discriminability=columns[0],
        stability=columns[1],
        own=columns[2],
        images=columns[3],
        others=columns[4],
        width=task.features.shape[1],
    )


def zood(terms: Sequence[DomainTerms], normalise: str) -> np.ndarray:
    """One score per model from the terms, (M,), higher is better.

    Args:
        terms: terms of M models on the same images.
        normalise: "none" adds log densities; "per_sample" divides both by the number of images;
            "per_sample_per_dim" divides stability by the number of features, too; "whitened"
            takes the stability that ignores affine maps; "rank_sum" adds the ranks of the models
            in either term.

    Raises:
        ValueError: if the normalisation is unknown.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise must be one of {NORMALISATIONS}, got {normalise!r}")
    parts = np.array([_parts(one) for one in terms])
    if normalise == "none":
        return raw_sum(parts)
    if normalise == "rank_sum":
        return rank_sum(parts)
    if normalise == "whitened":
        return whitened_sum(parts)
    scale = [one.width for one in terms] if normalise == "per_sample_per_dim" else 1
    both: np.ndarray = parts[:, 0] + parts[:, 1] / np.array(scale)
    return both


def discriminability(task: TaskFeatures) -> float:
    """Log density of the labels of a left-out domain per image, mean over domains."""
    return domain_terms(task).per_image[0]


def stability(task: TaskFeatures) -> float:
    """Stability that ignores affine maps, see `DomainTerms.whitened`."""
    return domain_terms(task).whitened


def term_parts(task: TaskFeatures) -> tuple[float, float, float, float]:
    """Both terms per image, whitened stability, and the raw sum: parts of a joint score."""
    return _parts(domain_terms(task))


def _parts(terms: DomainTerms) -> tuple[float, float, float, float]:
    raw = float((terms.discriminability + terms.stability).mean())
    return *terms.per_image, terms.whitened, raw


def raw_sum(parts: np.ndarray) -> np.ndarray:
    """The sum of both log densities, (M,), as the paper's product of likelihoods reads."""
    return parts[:, 3]


def whitened_sum(parts: np.ndarray) -> np.ndarray:
    """Discriminability plus whitened stability, per image, (M,)."""
    return parts[:, 0] + parts[:, 2]


def rank_sum(parts: np.ndarray) -> np.ndarray:
    """Sum of the models' ranks in either term, (M,): a transductive score."""
    from scipy.stats import rankdata

    summed: np.ndarray = rankdata(parts[:, 0]) + rankdata(parts[:, 1])
    return summed


def gaussian_log_density(
    features: np.ndarray, new: np.ndarray, variance: float | None = None
) -> np.ndarray:
    """Log density of each new row under a Gaussian fitted to the features, (Q,).

    The covariance is the maximum-likelihood one plus a small ridge.

    Args:
        features: (N, D).
        new: (Q, D).
        variance: what the ridge is a share of; None takes the mean variance of the features.
    """
    mean = features.mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(features))
    values = np.maximum(values, 0) + RIDGE * (values.mean() if variance is None else variance)
    along = (new - mean) @ vectors
    width = features.shape[1]
    constant = width * np.log(2 * np.pi) + np.log(values).sum()
    return -0.5 * (constant + (along**2 / values).sum(axis=1))


def _left_out(task: TaskFeatures, out: np.ndarray) -> tuple[float, float, float, int, int]:
    """Terms with the images of a mask left out; classes that remain count."""
    seen, new = task.features[~out], task.features[out]
    there = task.one_hot[~out].any(axis=0)
    labels, new_labels = task.one_hot[~out][:, there], task.one_hot[out][:, there]
    fitted = fit_precisions(seen, labels)
    evidence = predictive_evidence(seen, labels, new, new_labels, fitted, fitted.evidence).mean()
    variance = task.features.var(axis=0).mean()  # above 0, even if these domains' features are dead
    densities = gaussian_log_density(seen, np.concatenate([new, seen]), variance)
    stability, own = densities[: len(new)].sum(), densities[len(new) :].sum()
    return evidence, stability, own, len(new), len(seen)
