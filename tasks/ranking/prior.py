"""Prior plus evidence: what models did on other targets, and what scores say of this one.

The fixed order, the mean standardised accuracy on other targets, beats or equals every published
score on the published matrices; its sum with LogME beats both where targets differ. So the prior
is where a ranking starts, and a score has to add to it.

Shape letters: M models, T targets, K scores.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...zoos.errors import UnsuitableError
from .aggregation import standardised

RIDGE = 5.0


def fixed_order(accuracy: np.ndarray, excluded: Sequence[int] = ()) -> np.ndarray:
    """Mean standardised accuracy on the targets that are not excluded, (M,).

    Args:
        accuracy: (M, T), NaN where a model was not fine-tuned.
        excluded: index of the targets that may not be looked at: the one to rank for, as a rule.

    Returns:
        0, the mean, for a model without any history.
    """
    kept = [index for index in range(accuracy.shape[1]) if index not in set(excluded)]
    z = _standardised_columns(accuracy[:, kept])
    known = np.isfinite(z)
    return np.where(known, z, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def prior_of_new_models(
    prior: np.ndarray, columns: Mapping[str, np.ndarray], new: np.ndarray, ridge: float = RIDGE
) -> np.ndarray:
    """The prior with that of models without history guessed from what is known of them, (M,).

    A ridge regression over the other models, of the prior on the log of the number of parameters,
    source accuracy and architecture.

    Args:
        prior: (M,), see `fixed_order`.
        columns: what is known of the models, see `matrix.MODEL_COLUMNS`.
        new: (M,) bool, models whose prior is to be guessed.
        ridge: strength of the regularisation.

    Raises:
        UnsuitableError: if nothing is known of the models, or all are new.
    """
    features = _descriptions(columns, len(prior))
    if features is None or new.all():
        raise UnsuitableError(
            "the prior of a new model needs models with a history, and their parameters, source "
            "accuracy or architecture: leave the new models at 0"
        )
    old = ~new
    centre = features[old].mean(axis=0)
    weights = _ridge(features[old] - centre, prior[old] - prior[old].mean(), ridge)
    guessed = prior[old].mean() + (features - centre) @ weights
    return np.where(new, guessed, prior)


def plain_sum(
    accuracy: np.ndarray, scores: Mapping[str, np.ndarray], target: int, excluded: Sequence[int]
) -> np.ndarray:
    """Standardised prior plus each standardised score, with equal weights, (M,).

    Args:
        accuracy: (M, T), NaN where a model was not fine-tuned.
        scores: (M, T) by name.
        target: index of the target to rank for.
        excluded: index of the targets whose accuracy may not be looked at.
    """
    evidence = [_evidence(score[:, target]) for score in scores.values()]
    return standardised(fixed_order(accuracy, [target, *excluded])) + sum(evidence)


def learned_sum(
    accuracy: np.ndarray,
    scores: Mapping[str, np.ndarray],
    target: int,
    excluded: Sequence[int],
    ridge: float = RIDGE,
) -> tuple[np.ndarray, np.ndarray]:
    """Prior and scores with weights that are fitted on the other targets.

    The prior of another target u is computed without u, and without what is excluded, so that no
    accuracy on the target or its family reaches the weights.

    Args:
        accuracy: (M, T), NaN where a model was not fine-tuned.
        scores: (M, T) by name.
        target: index of the target to rank for.
        excluded: index of the targets whose accuracy may not be looked at.
        ridge: strength of the regularisation.

    Returns:
        The ranking (M,), and the weights (1 + K,) of prior and scores.

    Raises:
        UnsuitableError: if fewer than two other targets may be looked at.
    """
    hidden = {target, *excluded}
    others = [index for index in range(accuracy.shape[1]) if index not in hidden]
    if len(others) < 2:
        raise UnsuitableError(
            f"learned weights need at least 2 other targets, got {len(others)}: use the plain sum"
        )
    rows, wanted = [], []
    for other in others:
        known = np.isfinite(accuracy[:, other])
        rows.append(_features(accuracy, scores, other, hidden)[known])
        wanted.append(standardised(accuracy[known, other]))
    weights = _ridge(np.concatenate(rows), np.concatenate(wanted), ridge)
    return _features(accuracy, scores, target, hidden) @ weights, weights


def _features(
    accuracy: np.ndarray, scores: Mapping[str, np.ndarray], target: int, hidden: set[int]
) -> np.ndarray:
    """Standardised prior, without the target, and scores: (M, 1 + K)."""
    prior = standardised(fixed_order(accuracy, [target, *hidden]))
    return np.stack([prior, *(_evidence(score[:, target]) for score in scores.values())], axis=1)


def _evidence(score: np.ndarray) -> np.ndarray:
    """A score in deviations; 0 for a model without it, and for all where it is constant."""
    known = np.isfinite(score)
    z = np.zeros(len(score))
    if known.any():
        z[known] = standardised(score[known])
    return z


def _standardised_columns(values: np.ndarray) -> np.ndarray:
    """Each column in deviations of its finite values; 0 where it is constant."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, values, 0)
    centred = np.where(known, values - centred.sum(axis=0) / count, 0)
    low, high = (np.where(known, values, fill) for fill in (np.inf, -np.inf))
    flat = high.max(axis=0) <= low.min(axis=0)
    deviation = np.where(flat, 1, np.sqrt((centred**2).sum(axis=0) / count))
    return np.where(known, np.where(flat, 0, centred / deviation), np.nan)


def _descriptions(columns: Mapping[str, np.ndarray], models: int) -> np.ndarray | None:
    """What is known of the models as numbers in deviations, (M, ...)."""
    parts = []
    if "parameters" in columns:
        parts.append(np.log(columns["parameters"].astype(float))[:, None])
    if "source_accuracy" in columns:
        parts.append(columns["source_accuracy"].astype(float)[:, None])
    if "architecture" in columns:
        names = np.unique(columns["architecture"].astype(str))
        parts.append((columns["architecture"][:, None] == names[None]).astype(float))
    if not parts:
        return None
    joined = np.concatenate(parts, axis=1)
    return standardised(np.where(np.isfinite(joined), joined, np.nanmean(joined, axis=0)).T).T


def _ridge(features: np.ndarray, wanted: np.ndarray, strength: float) -> np.ndarray:
    gram = features.T @ features + strength * np.eye(features.shape[1])
    solution: np.ndarray = np.linalg.solve(gram, features.T @ wanted)
    return solution
