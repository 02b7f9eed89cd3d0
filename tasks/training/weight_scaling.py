"""Scales the weights of a zoo to a common magnitude before they enter an encoder.

Shape letters: B models in the batch, D length of the flat vector, T tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable, TensorSpec

SCALINGS = ("tensor", "fan_in", "none")
SCALED_SLOPE = 2.0
KEPT_SCALES = 64  # batches of mixed zoos alternate between architectures


class WeightScaler:
    """Maps weights w to asinh(2 w / s), with the scale s of their tensor.

    The scale is the geometric mean over models of the root mean square. Models of one zoo differ
    in magnitude by orders; after division by the deviation of all values, most models would be
    close to zero. asinh limits the influence of a model's few large weights.

    "tensor" has a scale for every tensor of the train zoos, and is defined for their architecture
    only. "fan_in" has one scale for all weights, multiplied by the root of their fan-in, and one
    for all biases, and is defined for any architecture. "none" does not change the weights.

    Attributes:
        scaling: one of `SCALINGS`.
        sizes: scales by tensor name ("tensor") or by role ("fan_in").
    """

    def __init__(self, scaling: str, sizes: Mapping[str, float]) -> None:
        """Take scales that `measure` has measured.

        Args:
            scaling: one of `SCALINGS`.
            sizes: scales by tensor name or by role.

        Raises:
            ValueError: if the scaling is unknown.
        """
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {SCALINGS}, got {scaling!r}")
        self.scaling, self.sizes = scaling, dict(sizes)
        self._kept: dict[tuple[LayerTable, torch.device, torch.dtype], Tensor] = {}

    @classmethod
    def measure(cls, scaling: str, zoos: Sequence[ZooDataset]) -> "WeightScaler":
        """Measure the scales of the train zoos, without tensors that are zero in a model.

        Args:
            scaling: one of `SCALINGS`.
            zoos: zoos of the train split.

        Raises:
            ValueError: if the scaling is unknown, or is "tensor" for zoos of several
                architectures.
        """
        if scaling == "tensor":
            names = {tuple(spec.name for spec in zoo.layer_table) for zoo in zoos}
            if len(names) > 1:
                raise UnsuitableError(
                    "scaling 'tensor' is for one architecture, the zoos have "
                    f"{len(names)} architectures: use scaling='fan_in'"
                )
        sums: dict[str, Tensor] = {}
        for zoo in zoos if scaling != "none" else ():
            for spec, logs in _log_sizes(zoo):  # block by block
                key = spec.name if scaling == "tensor" else spec.role
                if scaling == "fan_in":
                    logs = logs + 0.5 * log(spec.fan_in)
                counted = logs.isfinite()
                part = torch.stack([logs[counted].sum(), counted.sum().double()])
                sums[key] = sums.get(key, torch.zeros(2, dtype=torch.float64)) + part
        sizes = {
            key: float((total / max(1.0, float(count))).exp())
            for key, (total, count) in sums.items()
        }
        return cls(scaling, sizes)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "WeightScaler":
        """Read what `to_json` wrote."""
        return cls(data["scaling"], data["sizes"])

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes an equal scaler."""
        return {"scaling": self.scaling, "sizes": self.sizes}

    def __call__(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Map (B, D) of one architecture to (B, D).

        Raises:
            ValueError: if the scaling is "tensor" and the architecture was not measured.
        """
        if self.scaling == "none":
            return weights
        return torch.asinh(SCALED_SLOPE * weights / self._scale_like(weights, layer_table))

    def _scale_like(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """The scale of every value, (D,), on the device of the weights, where it stays."""
        key = (layer_table, weights.device, weights.dtype)
        if key not in self._kept:
            self.check(layer_table)
            if len(self._kept) == KEPT_SCALES:
                self._kept.pop(next(iter(self._kept)))
            with torch.inference_mode(False):  # scales made in prediction are reused in training
                self._kept[key] = self._scale(layer_table).to(weights)
        return self._kept[key]

    def check(self, layer_table: LayerTable) -> None:
        """Reject an architecture that was not measured.

        Raises:
            ValueError: if the scaling is "tensor" and a tensor is unknown.
        """
        names = {spec.name for spec in layer_table}
        if self.scaling == "tensor" and names != set(self.sizes):
            raise UnsuitableError(
                f"this encoder was trained with scaling='tensor' on the tensors "
                f"{list(self.sizes)}; tensors that differ are "
                f"{sorted(names ^ set(self.sizes))[:4]}: train with scaling='fan_in' for use "
                "across architectures"
            )

    def _scale(self, layer_table: LayerTable) -> Tensor:
        """The scale of every value, (D,)."""
        sizes = [self._size(spec) for spec in layer_table]
        counts = torch.tensor([spec.size for spec in layer_table])
        return torch.tensor(sizes).repeat_interleave(counts)

    def _size(self, spec: TensorSpec) -> float:
        if self.scaling == "tensor":
            return self.sizes[spec.name]
        return self.sizes.get(spec.role, 1.0) / spec.fan_in**0.5


def _log_sizes(zoo: ZooDataset) -> Iterator[tuple[TensorSpec, Tensor]]:
    """Logarithms of the root mean square of every tensor, float64, block of rows by block."""
    specs = list(zoo.layer_table)
    for weights in zoo.weight_blocks():
        tensors = weights.split([spec.size for spec in specs], dim=1)
        logs = (t.double().square().mean(dim=1).sqrt().log() for t in tensors)
        yield from zip(specs, logs, strict=True)
