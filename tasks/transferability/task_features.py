"""What one model computes on the images of one task: the input of every score.

Shape letters: N images, D features, Z source classes, R regression targets.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...zoos.errors import UnsuitableError


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """Features, labels and more of one model on one task, checked.

    Attributes:
        features: (N, D), float64.
        labels: (N,) int64 classes, or (N, R) float64 values to regress.
        logits: (N, Z) outputs of the model's own head, or None if it has none.
        domains: (N,) int64, the domain of each image, or None if there is one only.
    """

    features: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None
    domains: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Bring everything to float64 and int64, and refuse what no score can use."""
        self._set("features", np.asarray(self.features, np.float64))
        labels = np.asarray(self.labels)
        regression = labels.ndim == 2 or labels.dtype.kind == "f"
        self._set("labels", _targets(labels) if regression else labels.astype(np.int64))
        if self.logits is not None:
            self._set("logits", np.asarray(self.logits, np.float64))
        if self.domains is not None:
            self._set("domains", np.asarray(self.domains, np.int64))
        self._check_shapes()
        self._check_values()

    @property
    def regression(self) -> bool:
        """Whether the labels are values and not classes."""
        return self.labels.ndim == 2

    @cached_property
    def classes(self) -> np.ndarray:
        """(N,) labels renumbered from 0 without gaps."""
        return np.unique(self.labels, return_inverse=True)[1]

    @cached_property
    def one_hot(self) -> np.ndarray:
        """(N, C) indicators of the classes, or the (N, R) values to regress; float64."""
        return self.labels if self.regression else np.eye(self.classes.max() + 1)[self.classes]

    def rows(self, chosen: np.ndarray) -> "TaskFeatures":
        """The images that a mask (N,) or index chooses."""
        return TaskFeatures(
            self.features[chosen],
            self.labels[chosen],
            None if self.logits is None else self.logits[chosen],
            None if self.domains is None else self.domains[chosen],
        )

    def with_features(self, features: np.ndarray) -> "TaskFeatures":
        """The same task with other features, (N, D)."""
        return TaskFeatures(features, self.labels, self.logits, self.domains)

    def _set(self, name: str, value: np.ndarray) -> None:
        object.__setattr__(self, name, value)

    def _check_shapes(self) -> None:
        if self.features.ndim != 2 or self.features.shape[1] == 0:
            raise UnsuitableError(
                f"features must be (images, features), got shape {self.features.shape}"
            )
        for name in ("labels", "logits", "domains"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.features):
                raise UnsuitableError(
                    f"{name} must have one row per image ({len(self.features)}), "
                    f"got shape {values.shape}"
                )
        if self.logits is not None and self.logits.ndim != 2:
            raise UnsuitableError(f"logits must be (images, classes), got {self.logits.shape}")

    def _check_values(self) -> None:
        for name in ("features", "logits"):
            values = getattr(self, name)
            if values is not None and (odd := int((~np.isfinite(values)).any(axis=1).sum())):
                raise UnsuitableError(
                    f"{name} of {odd} of {len(values)} images are not finite: leave the model or "
                    "these images out"
                )
        if not np.ptp(self.features, axis=0).any():
            raise UnsuitableError(
                "features are equal for all images, so that no score can tell classes apart: "
                "take another layer, or leave the model out"
            )
        if not self.regression:
            _check_classes(self.labels)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, Z) of logits (N, Z)."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def _targets(labels: np.ndarray) -> np.ndarray:
    values = np.asarray(labels, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if not np.isfinite(values).all() or (np.ptp(values, axis=0) == 0).any():
        raise UnsuitableError("values to regress must be finite and differ between images")
    return values


def _check_classes(labels: np.ndarray) -> None:
    if (labels < 0).any():
        raise UnsuitableError(f"labels must be whole numbers from 0, got {labels.min()}")
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise UnsuitableError(f"a task needs at least 2 classes, got {names.tolist()}")
    if (counts < 2).any():
        raise UnsuitableError(
            f"classes {names[counts < 2].tolist()} have one image only: scores need at least 2 "
            "per class, so leave these classes out or add images"
        )
