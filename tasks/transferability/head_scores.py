"""Scores from what a model's own head says about the task's images: LEEP, NCE, N-LEEP.

Sources: LEEP, Nguyen et al. 2020, arXiv 2002.12462; NCE, Tran et al. 2019, arXiv 1908.08142;
N-LEEP, Li et al. 2021, arXiv 2011.11200.

Shape letters: N images, Z classes of the head or components of a mixture, C classes of the task.
"""

import warnings

import numpy as np

from ...zoos.errors import UnsuitableError
from .task_features import TaskFeatures, softmax

KEPT_VARIANCE = 0.8
MOST_BYTES = 2**31  # of the mixture's covariances; scikit-learn holds three such arrays


def leep(task: TaskFeatures) -> float:
    """Mean log probability of the label, given the head's probabilities alone; at most 0.

    Raises:
        UnsuitableError: if the model has no head.
    """
    return _expected_label(softmax(_logits(task)), task.one_hot)


def nce(task: TaskFeatures) -> float:
    """Negative conditional entropy of the label given the head's predicted class; at most 0.

    Raises:
        UnsuitableError: if the model has no head.
    """
    logits = _logits(task)
    predicted = np.eye(logits.shape[1])[logits.argmax(axis=1)]
    joint = task.one_hot.T @ predicted / len(logits)  # (C, Z)
    marginal = np.broadcast_to(joint.sum(axis=0), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / marginal[seen])).sum())


def n_leep(task: TaskFeatures, components: int | None = None, seed: int = 0) -> float:
    """LEEP with the components of a Gaussian mixture of the features in place of the head.

    The mixture is fitted to the principal components that hold 80 % of the variance.

    Args:
        task: features and labels.
        components: number of components; by default the number of classes, at least a tenth and
            at most a fifth of the images, as Model Spider's baselines have it.
        seed: seed of the mixture's first guess.

    Raises:
        UnsuitableError: if the covariances of the mixture take more than `MOST_BYTES`.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    images, classes = task.one_hot.shape
    count = components or max(1, int(max(min(classes, 0.2 * images), 0.1 * images)))
    reduced = PCA(KEPT_VARIANCE, svd_solver="full").fit_transform(task.features)
    if (needed := 8 * count * reduced.shape[1] ** 2) > MOST_BYTES:
        raise UnsuitableError(
            f"a mixture of {count} components on {reduced.shape[1]} principal components takes "
            f"{needed / 1e9:.1f} GB for its covariances, and at most {MOST_BYTES / 1e9:.1f} GB are "
            "allowed: give fewer images, or another score of features, such as 'logme'"
        )
    reduced /= reduced.std()  # so that the mixture's constant ridge means the same for all models
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop is part of the score
        mixture = GaussianMixture(count, random_state=seed).fit(reduced)
    return _expected_label(mixture.predict_proba(reduced), task.one_hot)


def _expected_label(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean log of sum_z p(z | x) p(y | z), with p(y | z) counted on the same images."""
    joint = labels.T @ probabilities  # (C, Z)
    marginal = joint.sum(axis=0)
    conditional = joint / np.where(marginal > 0, marginal, 1)
    return float(np.log(((labels @ conditional) * probabilities).sum(axis=1)).mean())


def _logits(task: TaskFeatures) -> np.ndarray:
    if task.logits is None:
        raise UnsuitableError(
            "the model has no head, and this score reads its logits: choose a score of features, "
            "such as 'n-leep'"
        )
    return task.logits
