"""Mapping between the outputs of an encoder, which are any real numbers, and a target column.

Shape letters: N rows, B models in the batch, K outputs (1 for a number, else one per category).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import UnsuitableError
from ...zoos.networks.devices import upload

LOSSES = ("auto", "bce", "mse", "cross_entropy")
CATEGORIES = ("activation", "optimizer", "init", "dropout")  # never regression targets
CLASSES = ("label",)  # nor are these: class of the image that a network stores
MAX_CATEGORIES = 64


@dataclass(frozen=True, kw_only=True)
class TargetMapping:
    """Labels for the loss from a target column, and predicted values from encoder outputs.

    Attributes:
        target: name of the target column.
        loss_name: "bce" (binary cross-entropy) for a share in [0, 1], as in the paper on set-based
            neural network encoding (SNE, section 3.8); "mse" for a standardised number;
            "cross_entropy" for one of several categories.
        mean: mean of a number over the train rows.
        scale: standard deviation of a number over the train rows.
        categories: distinct values in the train rows, sorted, for "cross_entropy".
    """

    target: str
    loss_name: str
    mean: float = 0.0
    scale: float = 1.0
    categories: tuple[Any, ...] = ()

    @classmethod
    def of(cls, loss: str, target: str, true: np.ndarray) -> "TargetMapping":
        """Choose the mapping for a target column.

        "auto" takes cross-entropy for text, `CATEGORIES` and `CLASSES`, "bce" for a target named
        "...accuracy" in [0, 1], and "mse" otherwise.

        Args:
            loss: one of `LOSSES`.
            target: name of the target column.
            true: target of the train rows, (N,).

        Raises:
            ValueError: if the loss is unknown or does not suit the target, or if the target is
                constant.
        """
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
        if loss == "cross_entropy" or is_text(true) or loss == "auto" and is_category(target, true):
            return cls._of_categories(loss, target, true)
        low, high = float(true.min()), float(true.max())
        if low == high:
            raise UnsuitableError(
                f"target {target!r} is {low} in every train row: there is nothing to learn, "
                "choose another target"
            )
        is_share = 0 <= low and high <= 1
        if loss == "bce" and not is_share:
            raise UnsuitableError(
                f"loss 'bce' needs a target in [0, 1], {target!r} ranges from {low} to {high}: "
                "use loss='mse'"
            )
        if loss == "bce" or loss == "auto" and is_share and target.endswith("accuracy"):
            return cls(target=target, loss_name="bce")
        values = np.asarray(true, np.float64)
        return cls(
            target=target, loss_name="mse", mean=float(values.mean()), scale=float(values.std())
        )

    @classmethod
    def _of_categories(cls, loss: str, target: str, true: np.ndarray) -> "TargetMapping":
        if loss not in ("auto", "cross_entropy"):
            raise UnsuitableError(
                f"target {target!r} is text and needs loss 'cross_entropy' or 'auto', got {loss!r}"
            )
        categories = tuple(np.unique(true).tolist())
        if not 2 <= len(categories) <= MAX_CATEGORIES:
            raise UnsuitableError(
                f"target {target!r} has {len(categories)} different values in the train rows, "
                f"a category needs 2 to {MAX_CATEGORIES}: choose another target or loss='mse'"
            )
        return cls(target=target, loss_name="cross_entropy", categories=categories)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TargetMapping":
        """Read what `to_json` wrote."""
        return cls(**(dict(data) | {"categories": tuple(data["categories"])}))

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes an equal mapping."""
        return asdict(self) | {"categories": list(self.categories)}

    @property
    def outputs(self) -> int:
        """K, the number of outputs that an encoder needs."""
        return len(self.categories) or 1

    def labels(self, true: np.ndarray) -> Tensor:
        """Labels that the loss compares outputs with, (N,): float32, or int64 for categories."""
        if self.categories:
            indices = {value: index for index, value in enumerate(self.categories)}
            return torch.tensor([indices[value] for value in np.asarray(true).tolist()])
        labels = torch.from_numpy(np.array(true, np.float32))
        return labels if self.loss_name == "bce" else (labels - self.mean) / self.scale

    def device_labels(self, true: Tensor) -> Tensor:
        """`labels` of a column of numbers, computed on its device.

        Args:
            true: values of the target, (N,); categories must be values of the train rows.
        """
        if self.categories:
            values = upload(torch.tensor(self.categories, dtype=true.dtype), true.device)
            return (true[:, None] == values).int().argmax(1)
        labels = true.float()
        return labels if self.loss_name == "bce" else (labels - self.mean) / self.scale

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            outputs: encoder outputs, (B, K).
            labels: labels from `labels`, (B,).
        """
        if self.categories:
            return F.cross_entropy(outputs, labels)
        if self.loss_name == "bce":
            return F.binary_cross_entropy_with_logits(outputs[:, 0], labels)
        return F.mse_loss(outputs[:, 0], labels)

    def predicted(self, outputs: Tensor) -> np.ndarray:
        """Outputs (B, K) as values of the target, (B,): float64, or the categories."""
        if self.categories:
            return np.array(self.categories, self._dtype)[outputs.argmax(dim=1).cpu().numpy()]
        values = outputs[:, 0].double()
        values = values.sigmoid() if self.loss_name == "bce" else values * self.scale + self.mean
        return values.cpu().numpy()

    @property
    def _dtype(self) -> Any:
        return object if isinstance(self.categories[0], str) else None


def is_category(target: str, column: np.ndarray) -> bool:
    """Whether a column holds categories to classify, not numbers to regress.

    Args:
        target: name of the column.
        column: values of the column, (N,).
    """
    return target in (*CATEGORIES, *CLASSES) or is_text(column)


def is_text(column: np.ndarray) -> bool:
    """Whether a column holds text, not numbers."""
    return column.dtype.kind in "OUS"
