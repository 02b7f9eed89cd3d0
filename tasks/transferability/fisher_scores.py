"""Scores of linear discriminants: SFDA, NCTI, ETran, and the PED step before any score.

Sources: SFDA, Shao et al. 2022, arXiv 2207.03036; NCTI, Wang et al. 2023, ICCV; ETran, Gholami
et al. 2023, arXiv 2308.02027; PED, Li et al. 2023, arXiv 2308.15074. What the papers leave open
follows their published code.

Shape letters: N images, D features, C classes, P principal components.
"""

from dataclasses import dataclass

import numpy as np

from .class_scores import COMPONENTS, principal_components
from .task_features import TaskFeatures, softmax

LEAST_SHRINKAGE = 1e-10
PED_STEPS, PED_TIME, PED_REACH, PED_EXIT = 6, 0.1, 0.6, 0.5


@dataclass(frozen=True)
class Discriminant:
    """Fisher's linear discriminant with shrunk within-class scatter.

    Attributes:
        precision: (D, D) inverse of the shrunk scatter.
        means: (C, D).
        log_priors: (C,).
        shrinkage: towards a multiple of the identity, in [0, 1].
    """

    precision: np.ndarray
    means: np.ndarray
    log_priors: np.ndarray
    shrinkage: float

    @classmethod
    def fit(
        cls, features: np.ndarray, one_hot: np.ndarray, shrinkage: float | None = None
    ) -> "Discriminant":
        """Fit the discriminant to labelled features.

        Args:
            features: features of the images, (N, D).
            one_hot: class indicators of the images, (N, C).
            shrinkage: weight of the identity, in [0, 1]; None chooses it as SFDA does.
        """
        counts = one_hot.sum(axis=0)
        means = one_hot.T @ features / counts[:, None]
        centred = features - one_hot @ means
        values, vectors = np.linalg.eigh(centred.T @ centred / len(features))
        values = np.maximum(values, 0)
        if shrinkage is None:
            shrinkage = max(float(np.exp(-5 * values[-1])), LEAST_SHRINKAGE)
        shrunk = (1 - shrinkage) * values + shrinkage * values.mean()
        shrunk = np.maximum(shrunk, values[-1] * np.finfo(float).eps)
        precision = (vectors / shrunk) @ vectors.T
        return cls(precision, means, np.log(counts / len(features)), shrinkage)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each class for features (N, D), (N, C)."""
        directions = self.means @ self.precision
        offsets = self.log_priors - (directions * self.means).sum(axis=1) / 2
        return softmax(features @ directions.T + offsets)


def sfda(task: TaskFeatures) -> float:
    """Mean probability of the true class after the classes were pulled together.

    Each image moves towards the mean of the other classes, the more the less sure a first
    discriminant is of it; a second one with the same shrinkage is judged. With more features than
    images, and features of any size, the shrinkage vanishes and every model reaches 1.
    """
    first = Discriminant.fit(task.features, task.one_hot)
    sure = softmax(first.probabilities(task.features))[np.arange(len(task.labels)), task.classes]
    others = (first.means.sum(axis=0) - first.means) / (len(first.means) - 1)
    moved = sure[:, None] * task.features + (1 - sure[:, None]) * others[task.classes]
    return _true_class(
        Discriminant.fit(moved, task.one_hot, first.shrinkage).probabilities(moved), task.classes
    )


def ncti_parts(task: TaskFeatures) -> tuple[float, float, float]:
    """The three parts of NCTI, which `ncti` joins over the models.

    Returns:
        Nuclear norm of the centred discriminant features, mean probability of the true class,
        and log of the summed nuclear norms of each class's probabilities.
    """
    reduced = principal_components(task.features, COMPONENTS)
    leading = reduced[:, :32].var(axis=0, ddof=1).sum()
    shrinkage = max(float(np.exp(-leading)), LEAST_SHRINKAGE)
    fitted = Discriminant.fit(reduced, task.one_hot, shrinkage)
    probabilities = fitted.probabilities(reduced)
    collapse = sum(
        np.linalg.norm(probabilities[task.classes == name], "nuc")
        for name in range(task.one_hot.shape[1])
    )
    spread = np.linalg.norm(_projected(fitted, reduced), "nuc")
    return float(spread), _true_class(probabilities, task.classes), float(np.log(collapse))


def ncti(parts: np.ndarray) -> np.ndarray:
    """NCTI of all models of a zoo, (M,), from their parts (M, 3): a transductive score."""
    scaled = _min_max(parts)
    return scaled[:, 0] + scaled[:, 1] - scaled[:, 2]


def etran_parts(task: TaskFeatures) -> tuple[float, float]:
    """The two parts of ETran: mean true-class probability of a discriminant, and energy.

    The energy is the mean log-sum-exp of the features.
    """
    fitted = Discriminant.fit(task.features, task.one_hot, LEAST_SHRINKAGE)
    top = task.features.max(axis=1)
    energy = top + np.log(np.exp(task.features - top[:, None]).sum(axis=1))
    return _true_class(fitted.probabilities(task.features), task.classes), float(energy.mean())


def etran(parts: np.ndarray) -> np.ndarray:
    """ETran of all models of a zoo, (M,), from their parts (M, 2): a transductive score."""
    return _min_max(parts) @ np.array([0.85, 0.15])


def potential_energy_descent(task: TaskFeatures, reach: float = PED_REACH) -> TaskFeatures:
    """The task with its classes pushed apart, as fine-tuning would (PED), for any other score.

    Classes are balls with a radius of `reach` deviations; balls that overlap repel each other.
    Differs from the published code: features are standardised by the task's own statistics, not
    by those of ImageNet, which a zoo on other images does not have.

    Args:
        task: features and labels.
        reach: radius in deviations; the paper chose between 0.3 and 0.6.
    """
    centre, scale = task.features.mean(axis=0), np.maximum(task.features.std(axis=0), 1e-3)
    features = (task.features - centre) / scale
    first = 0.0
    for step in range(PED_STEPS):
        shifts = _repulsion(features, task.one_hot, reach)
        size = float(np.abs(shifts).sum())
        first = first or size
        if size == 0 or (step and size / first <= PED_EXIT):
            break
        features = features + shifts[task.classes]
    return task.with_features(features * scale + centre)


def _repulsion(features: np.ndarray, one_hot: np.ndarray, reach: float) -> np.ndarray:
    """Displacement of each class in one step, (C, D)."""
    counts = one_hot.sum(axis=0)[:, None]
    means = one_hot.T @ features / counts
    variances = np.maximum(one_hot.T @ features**2 / counts - means**2, 0)
    radii = np.sqrt(variances.sum(axis=1))
    gaps = means[:, None] - means[None]  # (C, C, D), towards the first
    distances = np.sqrt((gaps**2).sum(axis=2))
    overlaps = np.maximum(reach * (radii[:, None] + radii[None]) - distances, 0)
    np.fill_diagonal(overlaps, 0)
    steps = np.minimum(0.5 * PED_TIME**2 * overlaps, overlaps)
    directions = gaps / np.where(distances > 0, distances, 1)[:, :, None]
    return (steps[:, :, None] * directions).sum(axis=1)


def _projected(fitted: Discriminant, features: np.ndarray) -> np.ndarray:
    """Centred features on the C - 1 discriminant axes, with unit within-class variance."""
    values, vectors = np.linalg.eigh(fitted.precision)
    whitened = (vectors * np.sqrt(values)) @ vectors.T
    weights = np.exp(fitted.log_priors)
    between = (fitted.means - weights @ fitted.means) @ whitened * np.sqrt(weights)[:, None]
    axes = np.linalg.svd(between, full_matrices=False)[2][: len(fitted.means) - 1]
    return (features - features.mean(axis=0)) @ whitened @ axes.T


def _true_class(probabilities: np.ndarray, classes: np.ndarray) -> float:
    return float(probabilities[np.arange(len(classes)), classes].mean())


def _min_max(parts: np.ndarray) -> np.ndarray:
    """Each column from 0 to 1 over the models; a constant one is 0."""
    low, width = parts.min(axis=0), np.ptp(parts, axis=0)
    return (parts - low) / np.where(width > 0, width, 1)
