"""Heads on the features of several models together, and averages of their probabilities.

Source of the idea: ZooD (Dong et al. 2022, arXiv 2210.09236), which trains a head on selected
features of the models that it ranks first.

Shape letters: N images, D features of all models together, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import UnsuitableError
from ..transferability.task_features import TaskFeatures, softmax
from .feature_selection import prescreen, select_features

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier of standardised features.

    Attributes:
        chosen: (D,) index of the features it reads.
        centre: mean of each of them.
        scale: deviation of each of them.
        weight: (C, chosen).
        bias: (C,).
        classes: (C,) label of each output.
        val_accuracy: what its strength of regularisation was chosen by.
    """

    chosen: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    val_accuracy: float

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each class, (N, C), for features (N, D) of all models together."""
        scaled = (features[:, self.chosen] - self.centre) / self.scale
        return softmax(scaled @ self.weight.T + self.bias)

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Share of images whose class is predicted.

        Args:
            features: features (N, D) of all models together.
            labels: class of each image, (N,).
        """
        predicted = self.classes[self.probabilities(features).argmax(axis=1)]
        return float((predicted == labels).mean())


def fit_ensemble(
    train: Sequence[TaskFeatures],
    val: Sequence[TaskFeatures],
    *,
    select: bool = True,
    share: float = 0.2,
) -> Head:
    """Fit a head to the features of several models, regularised as the val images say.

    Args:
        train: each model's features of the training images, in the same order of images.
        val: each model's features of the images that the strength is chosen on.
        select: whether variational EM selects features first; where there are as many features as
            images, those that correlate most with a class are kept before, half as many as images.
        share: prior share of features that matter.

    Raises:
        UnsuitableError: if the models' labels differ, or there is no model.
    """
    features, labels = joined(train)
    val_features, val_labels = joined(val)
    targets = train[0].one_hot
    chosen = np.flatnonzero(features.std(axis=0) > 0)
    if select:
        if len(chosen) >= len(features):
            chosen = chosen[prescreen(features[:, chosen], targets, len(features) // 2)]
        kept = select_features(features[:, chosen], targets, share=share).chosen
        chosen = chosen[kept] if kept.any() else chosen
    heads = [
        _fit(features, labels, val_features, val_labels, chosen, strength) for strength in STRENGTHS
    ]
    return max(heads, key=lambda head: head.val_accuracy)


def joined(models: Sequence[TaskFeatures]) -> tuple[np.ndarray, np.ndarray]:
    """Features of all models side by side, (N, D), and their common labels (N,).

    Raises:
        UnsuitableError: if there is no model, or labels differ: the images are not the same.
    """
    if not models:
        raise UnsuitableError("an ensemble needs at least one model")
    for model in models:
        if not np.array_equal(model.labels, models[0].labels):
            raise UnsuitableError("the models' features are of different images: labels differ")
    return np.concatenate([model.features for model in models], axis=1), models[0].labels


def _fit(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    chosen: np.ndarray,
    strength: float,
) -> Head:
    from sklearn.linear_model import LogisticRegression

    centre, scale = features[:, chosen].mean(axis=0), features[:, chosen].std(axis=0)
    fitted = LogisticRegression(C=strength, max_iter=5_000)
    fitted.fit((features[:, chosen] - centre) / scale, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes: one row that speaks for the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head = Head(chosen, centre, scale, weight, bias, fitted.classes_, float("nan"))
    accuracy = head.accuracy(val_features, val_labels)
    return Head(chosen, centre, scale, weight, bias, fitted.classes_, accuracy)
