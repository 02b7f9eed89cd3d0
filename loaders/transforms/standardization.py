"""Standardisation: the weights of every layer to mean zero and variance one.

Source: SANE (sequential autoencoder for neural embeddings), Schürholt et al. 2024,
arXiv:2406.09997. The mean of a layer is the mean over models of the mean of each model. Its
deviation is the root of the mean over models of the variance of each model, so that differences
between the means of models do not count. Weights and bias of a layer are standardised together.
Differs: buffers (batch-norm statistics) are standardised one by one, because their scale differs
from that of the parameters.

Shape letters: B models in the batch, D length of the flat vector, P parts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable, TensorSpec
from ..dataset.zoo_dataset import ZooDataset

BLOCK_BYTES = 2**26
FIELDS = ("part", "mean", "deviation")


@dataclass(frozen=True)
class LayerStandardization:
    """Mean and deviation of every part; a part is the parameters of a layer, or one buffer.

    Attributes:
        layer_table: layer table of the architecture.
        mean: mean of each of the P parts, in the order of `standardized_parts(layer_table)`.
        deviation: standard deviation of each part, above zero; 1 for a part of equal values.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import LayerStandardization
        >>> train = load_zoo(ZOO, split="train")
        >>> scale = LayerStandardization.fit(train)
        >>> abs(scale.apply(train.weights()).mean().item()) < 0.1
        True
    """

    layer_table: LayerTable
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    _on_device: dict[Any, tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def fit(cls, dataset: ZooDataset) -> "LayerStandardization":
        """Measure mean and deviation of the parts over the train split, block by block.

        Raises:
            ValueError: if the dataset is empty, holds rows of another split, or a model with
                weights that are not finite.
        """
        _check_train(dataset)
        table = dataset.layer_table
        rows = max(1, BLOCK_BYTES // (8 * table.width))
        blocks = (
            dataset.weights(slice(start, start + rows)) for start in range(0, len(dataset), rows)
        )
        mean, variance = _moments(table, blocks, len(dataset))
        least = (
            torch.finfo(torch.float32).eps * mean.abs()
        )  # smaller deviations are rounding errors
        constant = variance.sqrt() <= least
        deviation = torch.where(constant, 1.0, variance.sqrt())
        return cls(table, tuple(mean.tolist()), tuple(deviation.tolist()))

    def apply(self, weights: Tensor) -> Tensor:
        """Standardise flat weights.

        Args:
            weights: flat weights, (B, D), on any device.

        Returns:
            Standardised weights, (B, D), of the same type, in new memory.
        """
        mean, deviation = self._vectors(weights)
        return (weights - mean) / deviation

    def inverse(self, weights: Tensor) -> Tensor:
        """Invert `apply`, up to rounding."""
        mean, deviation = self._vectors(weights)
        return weights * deviation + mean

    def to_json(self) -> list[dict[str, Any]]:
        """Convert to plain JSON values, one entry per part."""
        rows = zip(standardized_parts(self.layer_table), self.mean, self.deviation, strict=True)
        return [dict(zip(FIELDS, row, strict=True)) for row in rows]

    @classmethod
    def from_json(cls, layer_table: LayerTable, rows: Any) -> "LayerStandardization":
        """Read the result of `to_json`.

        Args:
            layer_table: layer table of the architecture.
            rows: result of `to_json`.

        Raises:
            ValueError: if the entries do not match the layer table, or a value is no number.
        """
        names = list(standardized_parts(layer_table))
        if not isinstance(rows, list) or not all(
            isinstance(row, Mapping) and sorted(row) == sorted(FIELDS) for row in rows
        ):
            raise ValueError(f"standardization must be a list of entries with the keys {FIELDS}")
        if [row["part"] for row in rows] != names:
            raise ValueError(
                f"standardization has the parts {[row['part'] for row in rows]}, "
                f"expected {names}: it was fitted to another architecture"
            )
        mean = tuple(float(row["mean"]) for row in rows)
        deviation = tuple(float(row["deviation"]) for row in rows)
        if not all(0 < number < float("inf") for number in deviation):
            raise ValueError(f"deviations must be finite and above zero, got {deviation}")
        return cls(layer_table, mean, deviation)

    def _vectors(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every value, (D,), in the type and on the device of the weights."""
        if weights.shape[-1] != self.layer_table.width:
            raise ValueError(
                f"weights must have shape (B, {self.layer_table.width}), got {tuple(weights.shape)}"
            )
        key = (weights.device, weights.dtype)
        if key not in self._on_device:
            with torch.inference_mode(False):
                self._on_device[key] = (
                    self._spread(self.mean).to(weights),
                    self._spread(self.deviation).to(weights),
                )
        return self._on_device[key]

    def _spread(self, numbers: Iterable[float]) -> Tensor:
        """Repeat the number of each part for its values, (D,), float64."""
        spread = torch.empty(self.layer_table.width, dtype=torch.float64)
        for number, specs in zip(
            numbers, standardized_parts(self.layer_table).values(), strict=True
        ):
            for spec in specs:
                spread[spec.offset : spec.offset + spec.size] = number
        return spread


def standardized_parts(layer_table: LayerTable) -> dict[str, list[TensorSpec]]:
    """Group the tensors that are standardised together, by name of the layer or buffer."""
    found = dict[str, list[TensorSpec]]()
    for spec in layer_table:
        if spec.size:
            name = spec.name if spec.role == "buffer" else spec.layer
            found.setdefault(name, []).append(spec)
    return found


def _moments(table: LayerTable, blocks: Iterable[Tensor], models: int) -> tuple[Tensor, Tensor]:
    """Mean over models of the mean and of the variance of each part, (P,), float64."""
    total = torch.zeros(2, len(standardized_parts(table)), dtype=torch.float64)
    for block in blocks:
        if not block.isfinite().all():
            raise ValueError(
                "standardization must be fitted to finite weights, got a model with others: use "
                "dataset.filter(\"status == 'ok'\") first"
            )
        for index, specs in enumerate(standardized_parts(table).values()):
            values = [block[:, spec.offset : spec.offset + spec.size] for spec in specs]
            variance, mean = torch.var_mean(torch.cat(values, 1).double(), dim=1, correction=0)
            total[:, index] += torch.stack([mean.sum(), variance.sum()])
    mean, variance = total / models
    return mean, variance


def _check_train(dataset: ZooDataset) -> None:
    if len(dataset) == 0:
        raise ValueError("the dataset has no rows to fit the standardization to: check its filter")
    others = set(dataset.table.column("split", dataset.rows)) - {"train"}
    if others:
        raise ValueError(
            f"standardization must be fitted to the train split alone, got rows of "
            f"{sorted(others)}: load the zoo with split='train'"
        )
