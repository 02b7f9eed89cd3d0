"""Choose which model to fine-tune next, so that the best one is found after few fine-tunings.

The accuracies on the target are a Gaussian vector: its mean is prior plus evidence, as far as that
could be trusted on other targets, and its covariance is how models deviated from it together. Every
fine-tuning that was done moves the expectation of the others; the next model is the one with the
greatest expected improvement over the best so far (Mockus 1975; Jones et al. 1998, doi
10.1023/A:1008306431147).

Shape letters: M models, T targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import UnsuitableError
from .aggregation import standardised
from .prior import plain_sum

SHRINKAGE = 0.5  # of the covariance of residuals towards independent models
NOISE = 0.1  # deviation of one fine-tuning, in deviations between models
ANY_LEVEL = 100.0  # variance of the target's difficulty, which nothing is known of


@dataclass(frozen=True, eq=False)
class Belief:
    """What is expected of the models' accuracies on a target before any fine-tuning.

    Attributes:
        mean: (M,), in units of accuracy; its level is arbitrary.
        covariance: (M, M), the unknown level included.
        noise: variance of one fine-tuning.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float


def belief(
    accuracy: np.ndarray, scores: Mapping[str, np.ndarray], target: int, excluded: Sequence[int]
) -> Belief:
    """Belief from other targets and the scores.

    Args:
        accuracy: (M, T), NaN where a model was not fine-tuned.
        scores: (M, T) by name.
        target: index of the target to choose for.
        excluded: index of the targets whose accuracy may not be looked at.

    Raises:
        UnsuitableError: if fewer than three other targets were run with every model.
    """
    hidden = {target, *excluded}
    others = [
        index
        for index in range(accuracy.shape[1])
        if index not in hidden and np.isfinite(accuracy[:, index]).all()
    ]
    if len(others) < 3:
        raise UnsuitableError(
            f"active selection needs at least 3 other targets with all models, got {len(others)}"
        )
    scale = float(accuracy[:, others].std(axis=0).mean())
    truth = np.stack([standardised(accuracy[:, index]) for index in others])
    expected = np.stack(
        [standardised(plain_sum(accuracy, scores, index, [index, *hidden])) for index in others]
    )
    trust = max(0.0, float((truth * expected).sum() / max((expected**2).sum(), 1e-12)))
    residuals = truth - trust * expected
    joint = residuals.T @ residuals / len(others)
    shrunk = (1 - SHRINKAGE) * joint + SHRINKAGE * np.diag(np.diag(joint))
    mean = trust * standardised(plain_sum(accuracy, scores, target, list(hidden)))
    return Belief(scale * mean, scale**2 * (shrunk + ANY_LEVEL), (scale * NOISE) ** 2)


def next_model(known: Belief, observed: np.ndarray) -> int:
    """Index of the model to fine-tune next.

    Args:
        known: belief before any fine-tuning.
        observed: accuracies (M,) of the models that were fine-tuned, NaN for the others.

    Raises:
        UnsuitableError: if all models were fine-tuned.
    """
    from scipy.stats import norm

    done = np.isfinite(observed)
    if done.all():
        raise UnsuitableError(f"all {len(observed)} models were fine-tuned: none is left to choose")
    if not done.any():
        return int(known.mean.argmax())
    mean, deviation = _posterior(known, observed, done)
    gap = mean - observed[done].max()
    ratio = gap / deviation
    improvement = gap * norm.cdf(ratio) + deviation * norm.pdf(ratio)
    return int(np.where(done, -np.inf, improvement).argmax())


def active_order(known: Belief, accuracy: np.ndarray, count: int) -> list[int]:
    """The models in the order of fine-tuning, each chosen after the results before it.

    Args:
        known: belief before any fine-tuning.
        accuracy: (M,) what fine-tuning a model gives; read for chosen models alone.
        count: number of models to fine-tune.
    """
    observed, order = np.full(len(accuracy), np.nan), list[int]()
    for _ in range(min(count, len(accuracy))):
        order.append(next_model(known, observed))
        observed[order[-1]] = accuracy[order[-1]]
    return order


def _posterior(
    known: Belief, observed: np.ndarray, done: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every model's accuracy after some were observed, (M,) each."""
    across = known.covariance[:, done]
    seen = across[done] + known.noise * np.eye(int(done.sum()))
    gain = np.linalg.solve(seen, across.T).T
    mean = known.mean + gain @ (observed[done] - known.mean[done])
    variance = np.diag(known.covariance) - (gain * across).sum(axis=1)
    return mean, np.sqrt(np.maximum(variance, known.noise))
