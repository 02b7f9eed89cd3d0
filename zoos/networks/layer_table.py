"""The layer table: where every tensor of a network lies in its flat vector.

Shape letters: B models in the batch, D length of the flat vector.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ZooFormatError
from .modules import PositionEmbedding, Projection

KINDS = ("conv", "linear", "norm", "embedding", "attention", "other")
ROLES = ("weight", "bias", "buffer")

_KIND_OF_MODULE: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.modules.conv._ConvNd, "conv"),
    (Projection, "attention"),
    (nn.Linear, "linear"),
    (nn.modules.batchnorm._NormBase, "norm"),
    (nn.LayerNorm, "norm"),
    (nn.GroupNorm, "norm"),
    (nn.Embedding, "embedding"),
    (PositionEmbedding, "embedding"),
    (nn.MultiheadAttention, "attention"),
)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor of a network.

    Attributes:
        name: its key in the module's state dict.
        kind: one of `KINDS`, what the owning layer is.
        role: one of `ROLES`; a buffer (batch-norm statistics) is state, not a parameter.
        shape: torch's shape, e.g. (out, in) or (out, in, height, width).
        offset: index of its first value in the flat vector.
        layer: name of the owning layer in the module.
        depth: index of the owning layer among layers with tensors, input to output, from 0.
        dtype: torch's name of its type; the flat vector holds every tensor as float32.
    """

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    offset: int
    layer: str
    depth: int
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def fan_in(self) -> int:
        """Values that one output unit reads from a weight; 1 for biases, norms and buffers."""
        return max(1, math.prod(self.shape[1:])) if self.role == "weight" else 1


@dataclass(frozen=True)
class LayerTable(Sequence[TensorSpec]):
    """All tensors of one architecture, in the order of the flat vector, without gaps."""

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        """Reject a table with unknown kinds or roles, gaps or overlaps."""
        if not self.tensors:
            raise ZooFormatError("layer table must hold at least one tensor")
        offset = 0
        for tensor in self.tensors:
            _check_tensor(tensor, offset)
            offset += tensor.size
        if offset == 0:
            raise ZooFormatError("layer table must hold at least one value, all tensors are empty")
        if len({tensor.name for tensor in self.tensors}) < len(self.tensors):
            raise ZooFormatError("layer table names a tensor twice")

    @classmethod
    def from_module(cls, module: nn.Module) -> "LayerTable":
        """Describe the tensors of `module` in the order of its state dict."""
        owners = _owners(module)
        tensors, offset, depths = [], 0, dict[str, int]()
        for name, value in module.state_dict().items():
            layer, kind, role = owners[name]
            depth = depths.setdefault(layer, len(depths))
            tensors.append(
                TensorSpec(
                    name=name,
                    kind=kind,
                    role=role,
                    shape=tuple(value.shape),
                    offset=offset,
                    layer=layer,
                    depth=depth,
                    dtype=str(value.dtype).removeprefix("torch."),
                )
            )
            offset += value.numel()
        return cls(tuple(tensors))

    @classmethod
    def from_json(cls, rows: Any) -> "LayerTable":
        """Read what `to_json` wrote.

        Raises:
            ZooFormatError: if a field is missing, unknown or of the wrong type.
        """
        names = [field.name for field in fields(TensorSpec)]
        if not isinstance(rows, list) or not rows:
            raise ZooFormatError("layer table must be a list with at least one tensor")
        for row in rows:
            if not isinstance(row, dict) or sorted(row) != sorted(names):
                raise ZooFormatError(f"layer table row {row!r} must have the fields {names}")
            if not isinstance(row["shape"], list):
                raise ZooFormatError(f"layer table shape must be a list, got {row['shape']!r}")
        return cls(tuple(TensorSpec(**(row | {"shape": tuple(row["shape"])})) for row in rows))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists and dicts, for a JSON attribute."""
        return [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in self.tensors]

    @property
    def width(self) -> int:
        """D, the length of the flat vector."""
        return self.tensors[-1].offset + self.tensors[-1].size

    @property
    def parameters(self) -> int:
        """Number of trained values: `width` without buffers."""
        return sum(tensor.size for tensor in self.tensors if tensor.role != "buffer")

    def flatten(self, state_dict: Mapping[str, Tensor]) -> Tensor:
        """Write a state dict as one flat vector.

        Returns:
            (D,), float32.

        Raises:
            ValueError: if a tensor is missing, unknown or of another shape.
        """
        if set(state_dict) != {tensor.name for tensor in self.tensors}:
            odd = sorted(set(state_dict) ^ {tensor.name for tensor in self.tensors})
            raise ValueError(f"state dict and layer table differ in {odd}")
        parts = []
        for tensor in self.tensors:
            value = state_dict[tensor.name]
            if tuple(value.shape) != tensor.shape:
                raise ValueError(
                    f"{tensor.name} has shape {tuple(value.shape)}, expected {tensor.shape}"
                )
            parts.append(value.detach().reshape(-1).to(torch.float32))
        return torch.cat(parts)

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """View flat vectors tensor by tensor.

        Args:
            weights: (..., D), one or many flat vectors.

        Returns:
            For every tensor a float32 view of shape (..., *shape).

        Raises:
            ValueError: if the last dimension is not D.
        """
        if weights.shape[-1] != self.width:
            raise ValueError(f"weights have length {weights.shape[-1]}, expected D={self.width}")
        lead = weights.shape[:-1]
        return {
            tensor.name: weights[..., tensor.offset : tensor.offset + tensor.size].reshape(
                (*lead, *tensor.shape)
            )
            for tensor in self.tensors
        }

    def state_dict(self, weights: Tensor) -> dict[str, Tensor]:
        """Turn one flat vector (D,) into a state dict with the tensors' own types."""
        views = self.split(weights)
        return {
            tensor.name: views[tensor.name].to(getattr(torch, tensor.dtype))
            for tensor in self.tensors
        }

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self.tensors)

    def __getitem__(self, index: Any) -> Any:
        """The tensor, or the tuple of tensors, at `index`."""
        return self.tensors[index]

    def __iter__(self) -> Iterator[TensorSpec]:
        """Tensors in the order of the flat vector."""
        return iter(self.tensors)


def _check_tensor(tensor: TensorSpec, offset: int) -> None:
    """Check the kind, role, numbers and offset of one tensor."""
    if not all(isinstance(text, str) for text in (tensor.name, tensor.layer, tensor.dtype)):
        raise ZooFormatError(f"layer table: name, layer and dtype must be texts, got {tensor!r}")
    numbers = (*tensor.shape, tensor.offset, tensor.depth)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ZooFormatError(f"layer table: {tensor.name!r} has a negative or non-integer number")
    if tensor.kind not in KINDS or tensor.role not in ROLES:
        raise ZooFormatError(
            f"layer table: {tensor.name!r} has kind {tensor.kind!r} and role {tensor.role!r}, "
            f"allowed are {KINDS} and {ROLES}"
        )
    if not isinstance(getattr(torch, tensor.dtype, None), torch.dtype):
        raise ZooFormatError(f"layer table: {tensor.name!r} has unknown dtype {tensor.dtype!r}")
    if tensor.offset != offset:
        raise ZooFormatError(
            f"layer table: {tensor.name!r} starts at {tensor.offset}, expected {offset}"
        )


def _owners(module: nn.Module) -> dict[str, tuple[str, str, str]]:
    """Layer, kind and role of every tensor, by its name in the state dict."""
    owners = {}
    for layer, child in module.named_modules():
        kind = next((kind for cls, kind in _KIND_OF_MODULE if isinstance(child, cls)), "other")
        for name, _ in child.named_parameters(recurse=False):
            role = "bias" if name.endswith("bias") else "weight"
            owners[f"{layer}.{name}".lstrip(".")] = (layer, kind, role)
        for name, _ in child.named_buffers(recurse=False):
            owners[f"{layer}.{name}".lstrip(".")] = (layer, kind, "buffer")
    return owners
