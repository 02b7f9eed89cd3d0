"""How models that a user hands over become rows of one zoo: layer table, architecture, names.

Shape letters: D length of the flat weight vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...zoos.errors import UnsuitableError
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import LayerTable
from ...zoos.networks.tracing import TracedModule, trace_architecture
from ...zoos.tensors.lazy import LazyTensor, TensorType
from ..importing.layers import derive_layer_table, known_architecture

STATE_DICT_ONLY = (
    "kept as state dicts only, because {reason}. Loaders, encoders that need no architecture and "
    "`state_dict(i)` work; `module(i)`, measuring, sampling and permutations that follow the "
    "architecture do not"
)
_GIVEN = "an Architecture, its plain data, a LayerTable, an nn.Module or a TracedModule"
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_EXACT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True, kw_only=True)
class ModelLayout:
    """What all models of a zoo share.

    Attributes:
        table: position of each tensor in a row.
        architecture: from which modules are rebuilt; None for state dicts only.
        names: the user's name of each tensor, by its name in the table.
        hyper_parameters: activation and dropout of the module that was traced.
        note: what the user should know, "" for nothing.
        is_surprising: whether the user could not know the note from what was handed over.
    """

    table: LayerTable
    architecture: Architecture | None
    names: dict[str, str]
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    is_surprising: bool = True

    @classmethod
    def of(
        cls, architecture: Any, model: Any, input_shape: Sequence[int] | None = None
    ) -> "ModelLayout":
        """Find the layout of a zoo from what the user says of it and from its first model.

        Args:
            architecture: an `Architecture` or its plain data, a `LayerTable`, an `nn.Module`, a
                `TracedModule`, or None to look at the first model.
            model: a state dict, an `nn.Module` or a flat vector.
            input_shape: shape of an input without the batch, for tracing.

        Raises:
            TypeError: if the architecture is of another type, or a flat vector comes without one.
            ZooFormatError: if the plain data is no architecture.
        """
        if architecture is None and isinstance(model, np.ndarray | Tensor):
            raise TypeError(f"flat weight vectors need architecture=..., {_GIVEN}")
        given = model if architecture is None else architecture
        if isinstance(given, nn.Module):
            return cls._of_module(given, input_shape)
        if architecture is None:
            return cls._of_state(state_of(model))
        layout = cls._given(architecture)
        return layout._renamed(model)

    @classmethod
    def _given(cls, given: Any) -> "ModelLayout":
        if isinstance(given, TracedModule):
            return _traced_layout(given)
        if isinstance(given, LayerTable):
            reason = "a layer table does not say what its networks compute"
            note = STATE_DICT_ONLY.format(reason=reason)
            names = _same_names(given)
            return cls(table=given, architecture=None, names=names, note=note, is_surprising=False)
        if isinstance(given, Mapping):
            given = Architecture.from_json(given)
        if not isinstance(given, Architecture):
            raise TypeError(f"architecture must be {_GIVEN}, got {type(given).__name__}")
        table = given.layer_table()
        return cls(table=table, architecture=given, names=_same_names(table))

    @classmethod
    def _of_module(cls, module: nn.Module, input_shape: Sequence[int] | None) -> "ModelLayout":
        module = unwrapped(module)
        try:
            return _traced_layout(trace_architecture(module, input_shape))
        except UnsuitableError as error:
            table = LayerTable.from_module(module)
            note = STATE_DICT_ONLY.format(reason=str(error))
            return cls(table=table, architecture=None, names=_same_names(table), note=note)

    @classmethod
    def _of_state(cls, state: Mapping[str, Tensor]) -> "ModelLayout":
        leaves = {name: _leaf(value) for name, value in state.items()}
        architecture = known_architecture(leaves)
        if architecture is not None:
            return cls._given(architecture)
        table = derive_layer_table(leaves)
        reason = "a state dict does not say what its network computes (give architecture=...)"
        note = STATE_DICT_ONLY.format(reason=reason)
        return cls(table=table, architecture=None, names=_same_names(table), note=note)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelLayout":
        """Read what `to_json` wrote."""
        spec = data["architecture"]
        return cls(
            table=LayerTable.from_json(data["table"]),
            architecture=None if spec is None else Architecture.from_json(spec),
            names=dict(data["names"]),
            hyper_parameters=dict(data["hyper_parameters"]),
            note=str(data["note"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "table": self.table.to_json(),
            "architecture": self.architecture and self.architecture.to_json(),
            "names": self.names,
            "hyper_parameters": self.hyper_parameters,
            "note": self.note,
        }

    def _renamed(self, model: Any) -> "ModelLayout":
        """The same with the names of a model that has the same shapes in the same order."""
        if isinstance(model, np.ndarray | Tensor):
            return self
        state = state_of(model)
        if set(state) in (set(self.names), set(self.names.values())):
            return self
        if [tuple(value.shape) for value in state.values()] != [t.shape for t in self.table]:
            return self  # `flatten` says what differs
        names = dict(zip(self.names, state, strict=True))
        return replace(self, names=names, note="tensors were matched to the layers by their order")

    def row(self, model: Any) -> np.ndarray:
        """A model's weights as a row.

        Args:
            model: a state dict under the user's names or ours, an `nn.Module`, or a flat vector.

        Returns:
            (D,), float32.

        Raises:
            TypeError: if it is none of these.
            ValueError: if its tensors are not those of the layer table, or hold whole numbers
                that float32 would round.
        """
        if isinstance(model, np.ndarray | Tensor):
            return self._checked_vector(model)
        state = state_of(model)
        if set(state) == set(self.names.values()):
            state = {ours: state[theirs] for ours, theirs in self.names.items()}
        elif set(state) != set(self.names):
            lacks = sorted(set(self.names.values()) - set(state))[:3]
            has = sorted(set(state) - set(self.names.values()))[:3]
            raise ValueError(
                f"the model has other tensors than the zoo: it lacks {lacks}, and has {has}; a zoo "
                "holds models of one architecture"
            )
        for name, value in state.items():
            _check_exact(name, value)
        try:
            return self.table.flatten(state).cpu().numpy()
        except ValueError as error:
            raise ValueError(f"{error}; a zoo holds models of one architecture") from error

    def hyper_parameters_of(self, model: Any) -> dict[str, Any]:
        """Activation and dropout of a module, which may differ from model to model.

        Raises:
            ValueError: if the module has other layers than the first one.
        """
        if self.architecture is None or not isinstance(model, nn.Module):
            return self.hyper_parameters
        shape = self.architecture.input_shape
        proven = TracedModule(
            architecture=self.architecture,
            activation=self.hyper_parameters.get("activation", ""),
            dropout=self.hyper_parameters.get("dropout", 0.0),
            names=self.names,
        )
        try:
            model = unwrapped(model)
            traced = trace_architecture(model, shape, self.architecture.name, like=proven)
        except UnsuitableError as error:
            raise ValueError(f"the model cannot be rebuilt like the first one: {error}") from error
        if traced.architecture.layers != self.architecture.layers:
            raise ValueError(
                "the model has other layers than the first one: write a zoo for each architecture"
            )
        return _hyper_parameters(traced)

    def _checked_vector(self, vector: Any) -> np.ndarray:
        values = vector.detach().cpu().numpy() if isinstance(vector, Tensor) else vector
        if values.shape != (self.table.width,) or values.dtype.kind not in "fiu":
            raise ValueError(
                f"a flat weight vector must hold {self.table.width} numbers, as the layer table "
                f"says, got {values.dtype} of shape {values.shape}"
            )
        return np.asarray(values, np.float32)


def _leaf(value: Tensor) -> LazyTensor:
    """Shape and type of a tensor, as the importers read them."""
    return LazyTensor(TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape)), 0)


def state_of(model: Any) -> dict[str, Tensor]:
    """The tensors of a model by name.

    Args:
        model: an `nn.Module`, or a mapping of tensors or arrays by name.

    Returns:
        The tensors, without the prefix that `DataParallel` or `torch.compile` gives to all names.

    Raises:
        TypeError: if it is neither, or holds what is no tensor.
    """
    if isinstance(model, nn.Module):
        return dict(unwrapped(model).state_dict())
    if not isinstance(model, Mapping):
        raise TypeError(
            "a model must be a state dict, an nn.Module or a flat weight vector, got "
            f"{type(model).__name__}"
        )
    state = {}
    for name, value in model.items():
        if not isinstance(value, np.ndarray | Tensor):
            inner = " (hand over that state dict itself)" if isinstance(value, Mapping) else ""
            raise TypeError(
                f"a state dict holds tensors by name, got {type(value).__name__} under {name!r}"
                f"{inner}"
            )
        state[str(name)] = value if isinstance(value, Tensor) else torch.from_numpy(value)
    if not state:
        raise TypeError("the model has no tensors")
    return _without_wrapper(state)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of `DataParallel`, `DistributedDataParallel` or `torch.compile`."""
    for prefix in _WRAPPERS:
        inner = getattr(module, prefix.removesuffix("."), None)
        if isinstance(inner, nn.Module) and len(list(module.children())) == 1:
            return unwrapped(inner) if type(module).__module__.startswith("torch.") else module
    return module


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            return _without_wrapper({n.removeprefix(prefix): v for n, v in state.items()})
    return state


def _traced_layout(traced: TracedModule) -> ModelLayout:
    return ModelLayout(
        table=traced.architecture.layer_table(),
        architecture=traced.architecture,
        names=traced.names,
        hyper_parameters=_hyper_parameters(traced),
    )


def _hyper_parameters(traced: TracedModule) -> dict[str, Any]:
    """The hyper-parameters that rebuilding a module takes."""
    found: dict[str, Any] = {"activation": traced.activation} if traced.activation else {}
    kinds = traced.architecture.kinds()
    return found | ({"dropout": traced.dropout} if "dropout" in kinds else {})


def _same_names(table: LayerTable) -> dict[str, str]:
    return {tensor.name: tensor.name for tensor in table}


def _check_exact(name: str, value: Tensor) -> None:
    if value.dtype.is_complex:
        raise ValueError(f"tensor {name!r} is {value.dtype}: a zoo holds real numbers")
    if value.dtype.is_floating_point or value.dtype == torch.bool or not value.numel():
        return
    if int(value.max()) > _EXACT or int(value.min()) < -_EXACT:
        raise ValueError(
            f"tensor {name!r} holds whole numbers up to {int(value.max())}, which float32 would "
            "round: leave it out of the state dict, or keep it as a column"
        )
