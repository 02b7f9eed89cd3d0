"""Selection of features by a spike-and-slab regression, fitted by variational EM.

Source: the family of models that ZooD (Dong et al. 2022, arXiv 2210.09236) selects features of an
ensemble with; its priors and thresholds were not published, so these are ours. Model:
y = F w + noise of precision b; z_d ~ Bernoulli(share); w_d ~ N(0, 1/slab) if z_d, else
N(0, 1/spike) with spike >> slab; slab and b have Gamma priors. The posterior is taken as a
product of one over w, one over each z, slab and b.

Shape letters: N images, D features, C columns of targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import UnsuitableError

VAGUE = 1e-3  # shape and rate of the noise's prior
SLAB = 1.0  # of the slab's: with a vague one, a round without inclusions ends all further ones
SPIKE = 1e4
ANNEALING, STEPS, TOLERANCE = 20, 200, 1e-6
AGGREGATIONS = ("union", "mean")


@dataclass(frozen=True, eq=False)
class Selection:
    """Which features were selected.

    Attributes:
        inclusion: (D, C) probability that a feature matters for a column of targets.
        chosen: (D,) bool.
    """

    inclusion: np.ndarray
    chosen: np.ndarray


def select_features(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    share: float = 0.2,
    threshold: float = 0.5,
    aggregate: str = "union",
) -> Selection:
    """Select the features that a sparse regression of the targets uses.

    Features and targets are standardised first. The share is fixed: when it is learned, real
    features, which are correlated, are all kept.

    Args:
        features: (N, D), more images than features.
        targets: (N, C) one-hot classes, or values.
        share: prior probability of a feature to matter.
        threshold: inclusion from which a feature is chosen.
        aggregate: "union" chooses what matters for any column, "mean" what does on average.

    Raises:
        UnsuitableError: if there are not more images than features: the mean field fails there.
        ValueError: if an option is out of range.
    """
    if aggregate not in AGGREGATIONS or not 0 < share < 1 or not 0 < threshold < 1:
        raise ValueError(
            f"aggregate must be one of {AGGREGATIONS}, share and threshold between 0 and 1, got "
            f"{aggregate!r}, {share!r}, {threshold!r}"
        )
    images, width = features.shape
    if images <= width:
        raise UnsuitableError(
            f"selection needs more images than features, got {images} images of {width} features: "
            "take fewer models or `prescreen` the features"
        )
    scaled = _standardised(features)
    columns = [
        list(variational_steps(scaled, target, share))[-1].inclusion
        for target in _standardised(targets).T
    ]
    inclusion = np.stack(columns, axis=1)
    joined = inclusion.max(axis=1) if aggregate == "union" else inclusion.mean(axis=1)
    return Selection(inclusion, joined > threshold)


def prescreen(features: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """Index of the features that correlate most with any column of targets, ascending.

    Args:
        features: (N, D).
        targets: (N, C).
        count: number of features to keep.
    """
    correlations = _standardised(features).T @ _standardised(targets) / len(features)
    return np.sort(np.argsort(-np.abs(correlations).max(axis=1), kind="stable")[:count])


@dataclass(frozen=True, eq=False)
class Step:
    """State after one round of updates.

    Attributes:
        inclusion: (D,).
        spike: precision of weights that do not matter, in this round.
        bound: lower bound of the log evidence; rises from round to round once `spike` is fixed.
    """

    inclusion: np.ndarray
    spike: float
    bound: float


def variational_steps(features: np.ndarray, target: np.ndarray, share: float) -> Iterator[Step]:
    """Rounds of coordinate ascent for one column of targets, until nothing moves.

    All features start as included and the spike narrows over 20 rounds: from a narrow spike and
    half inclusions the fit collapses to no feature at all.

    Args:
        features: (N, D), standardised.
        target: (N,), standardised.
        share: prior probability of a feature to matter.
    """
    from scipy.special import expit

    images, width = features.shape
    gram, cross, square = features.T @ features, features.T @ target, float(target @ target)
    inclusion = np.ones(width)
    slab, noise = _Gamma(SLAB, SLAB, SLAB), _Gamma(1.0, 1.0, VAGUE)
    for step in range(STEPS):
        spike = SPIKE ** min(1.0, step / ANNEALING)
        precision = inclusion * slab.mean + (1 - inclusion) * spike
        covariance = np.linalg.inv(noise.mean * gram + np.diag(precision))
        mean = noise.mean * covariance @ cross
        squares = mean**2 + np.diag(covariance)
        old, odds = inclusion, np.log(share / (1 - share))
        odds = odds + 0.5 * (slab.log - np.log(spike)) - 0.5 * squares * (slab.mean - spike)
        inclusion = expit(odds)
        matter, size = inclusion.sum() / 2, (inclusion * squares).sum() / 2
        slab = _Gamma(SLAB + matter, SLAB + size, SLAB)
        error = square - 2 * mean @ cross + mean @ gram @ mean + (gram * covariance).sum()
        noise = _Gamma(VAGUE + images / 2, VAGUE + error / 2, VAGUE)
        likelihood = 0.5 * images * (noise.log - np.log(2 * np.pi)) - 0.5 * noise.mean * error
        bound = likelihood + _weights_bound(covariance, squares, inclusion, slab, spike, share)
        yield Step(inclusion, spike, float(bound + slab.bound + noise.bound))
        if step > ANNEALING and np.abs(inclusion - old).max() < TOLERANCE:
            return


@dataclass(frozen=True)
class _Gamma:
    """A Gamma posterior of a precision; `prior` is shape and rate of its prior."""

    shape: float
    rate: float
    prior: float

    @property
    def mean(self) -> float:
        return self.shape / self.rate

    @property
    def log(self) -> float:
        """Mean of the logarithm."""
        from scipy.special import digamma

        return float(digamma(self.shape) - np.log(self.rate))

    @property
    def bound(self) -> float:
        """Mean log prior plus entropy."""
        from scipy.special import digamma, gammaln

        own = self.prior
        prior = own * np.log(own) - gammaln(own) + (own - 1) * self.log - own * self.mean
        entropy = self.shape - np.log(self.rate) + gammaln(self.shape)
        return float(prior + entropy + (1 - self.shape) * digamma(self.shape))


def _weights_bound(
    covariance: np.ndarray,
    squares: np.ndarray,
    inclusion: np.ndarray,
    slab: _Gamma,
    spike: float,
    share: float,
) -> float:
    """Terms of the bound about weights and inclusions."""
    from scipy.special import entr

    inside = inclusion * (slab.log - slab.mean * squares)
    outside = (1 - inclusion) * (np.log(spike) - spike * squares)
    prior = inclusion * np.log(share) + (1 - inclusion) * np.log(1 - share)
    entropy = entr(inclusion) + entr(1 - inclusion)
    weights = 0.5 * (inside + outside + 1).sum() + 0.5 * np.linalg.slogdet(covariance)[1]
    return float(weights + (prior + entropy).sum())


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1; constant ones are 0."""
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
