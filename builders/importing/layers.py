"""Layer tables of imported networks: the published CNNs by name, all others from their tensors.

Names of published code contain module indices (`module_list.4.weight`), which shift with every
dropout layer. Here layers are counted by kind (`conv1`, `conv2`, `linear1`), as in
`zoos.networks.architectures`, so that one architecture has one layer table.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import LayerTable, TensorSpec
from ...zoos.networks.presets import cnn_l, cnn_s
from ...zoos.tensors.lazy import LazyTensor
from ..checkpoints.tensors import Leaf
from ..checkpoints.unreadable import UnreadableFileError
from .resnet import resnet18_of

Signature = tuple[tuple[str, tuple[int, ...], str], ...]
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_INDEXED = re.compile(r"(.*?)(\d+)\.(weight|bias)")


@lru_cache
def _table(architecture: Architecture) -> LayerTable:
    """The layer table, cached: it is derived from a torch module."""
    return architecture.layer_table()


def known_architecture(state: Mapping[str, Leaf]) -> Architecture | None:
    """The published architecture with these tensors, or None."""
    first = state.get("conv1.weight")
    if first is None or len(first.shape) != 4:
        return None
    last = state.get("linear2.bias")
    classes = last.shape[0] if last is not None and last.shape else 10
    shapes = {name: tuple(leaf.shape) for name, leaf in state.items()}
    for make in (cnn_s, cnn_l):
        architecture = make(first.shape[1], classes)
        if shapes == {tensor.name: tensor.shape for tensor in _table(architecture)}:
            return architecture
    return resnet18_of(shapes)


def check_tensors(state: Mapping[str, Leaf], architecture: Architecture) -> None:
    """Reject a state that lacks tensors of its architecture, or has others.

    Args:
        state: tensors by name.
        architecture: expected architecture.

    Raises:
        UnreadableFileError: if tensors are missing, unknown or of another shape; they are named.
    """
    table = _table(architecture)
    wrong = [
        f"{tensor.name} {tensor.shape} is missing"
        if tensor.name not in state
        else f"{tensor.name} has shape {tuple(state[tensor.name].shape)}, not {tensor.shape}"
        for tensor in table
        if tensor.name not in state or tuple(state[tensor.name].shape) != tensor.shape
    ]
    wrong += [f"{name} is unknown" for name in sorted(set(state) - {t.name for t in table})]
    if wrong:
        raise UnreadableFileError(f"not the tensors of {architecture.name}: {'; '.join(wrong)}")


def count_layers(state: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Name the layers of a plain chain by kind and count, in the order of their indices.

    Args:
        state: tensors named `<list>.<index>.weight` and `.bias`, or `<name>.weight`; layers
            without an index come last, in the order given.

    Returns:
        The same tensors as `conv1.weight`, `conv1.bias`, ..., input to output.

    Raises:
        UnreadableFileError: if a layer lacks its weight or bias, or its inputs do not equal the
            outputs of the layer before, because a layer between them is missing.
    """
    layers: dict[str, dict[str, Leaf]] = {}
    for name, leaf in sorted(state.items(), key=lambda item: _index(item[0])):
        layer, _, role = name.rpartition(".")
        layers.setdefault(layer, {})[role] = leaf
    counts: Counter[str] = Counter()
    named: dict[str, Leaf] = {}
    for layer, tensors in layers.items():
        if set(tensors) != {"weight", "bias"}:
            raise UnreadableFileError(f"layer {layer!r} has {sorted(tensors)}, not weight and bias")
        kind = "conv" if len(tensors["weight"].shape) == 4 else "linear"
        counts[kind] += 1
        named[f"{kind}{counts[kind]}.weight"] = tensors["weight"]
        named[f"{kind}{counts[kind]}.bias"] = tensors["bias"]
    _check_chain(named)
    return named


def is_indexed(names: Iterable[str]) -> bool:
    """Whether all are named `<one list>.<index>.weight` or `.bias`."""
    found = [_INDEXED.fullmatch(name) for name in names]
    return all(found) and len({match[1] for match in found if match}) == 1


def signature(state: Mapping[str, Leaf]) -> Signature:
    """Names, shapes and types of the tensors, equal for two models of one architecture."""
    return tuple(
        sorted((name, tuple(leaf.shape), dtype_name(leaf)) for name, leaf in state.items())
    )


def dtype_name(leaf: Leaf) -> str:
    """Torch's name of the type of a tensor."""
    return leaf.type.dtype if isinstance(leaf, LazyTensor) else leaf.dtype.name


def derive_layer_table(state: Mapping[str, Leaf]) -> LayerTable:
    """Describe tensors by their names and shapes alone, in the given order."""
    kinds = _layer_kinds(state)
    tensors, offset, depths = [], 0, dict[str, int]()
    for name, leaf in state.items():
        layer = name.rpartition(".")[0]
        tensors.append(
            TensorSpec(
                name=name,
                kind=kinds[layer],
                role=_role(name),
                shape=tuple(leaf.shape),
                offset=offset,
                layer=layer,
                depth=depths.setdefault(layer, len(depths)),
                dtype=dtype_name(leaf),
            )
        )
        offset += math.prod(leaf.shape)
    return LayerTable(tuple(tensors))


def _layer_kinds(state: Mapping[str, Leaf]) -> dict[str, str]:
    """The kind of each layer, from the names and shapes of its tensors."""
    members: dict[str, dict[str, Leaf]] = {}
    for name, leaf in state.items():
        layer, _, last = name.rpartition(".")
        members.setdefault(layer, {})[last] = leaf
    return {layer: _kind(layer, tensors) for layer, tensors in members.items()}


def _kind(layer: str, tensors: Mapping[str, Leaf]) -> str:
    if "in_proj_weight" in tensors:
        return "attention"
    if any(name in tensors for name in _BUFFERS):
        return "norm"
    if "weight" not in tensors:
        return "other"
    dimensions = len(tensors["weight"].shape)
    if dimensions == 2:
        embeds = "embed" in layer.lower() and "bias" not in tensors
        return "embedding" if embeds else "linear"
    return {1: "norm", 3: "conv", 4: "conv", 5: "conv"}.get(dimensions, "other")


def _role(name: str) -> str:
    last = name.rpartition(".")[2]
    return "buffer" if last in _BUFFERS else "bias" if last.endswith("bias") else "weight"


def _index(name: str) -> tuple[bool, int]:
    match = _INDEXED.fullmatch(name)
    return (False, int(match[2])) if match else (True, 0)


def _check_chain(named: Mapping[str, Leaf]) -> None:
    given, before = 0, ""
    for name, leaf in named.items():
        if name.endswith(".bias"):
            if tuple(leaf.shape) != (given,):
                raise UnreadableFileError(f"{name} has shape {leaf.shape}, its layer gives {given}")
            continue
        taken = leaf.shape[1] if len(leaf.shape) > 1 else 0
        flattened = name.startswith("linear") and before.startswith("conv")
        if before and (taken % given if flattened else taken != given):
            raise UnreadableFileError(
                f"{name} {tuple(leaf.shape)} does not take the {given} outputs of {before}: "
                "a layer is missing between them"
            )
        given, before = leaf.shape[0], name.rpartition(".")[0]
