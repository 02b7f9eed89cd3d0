"""ResNet-18 of Model Zoos: torchvision's network, with a 3x3 stem and no stem pooling."""

import re
from collections.abc import Mapping
from typing import TypeVar

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.presets import resnet18

Value = TypeVar("Value")
LARGE_SIDE_CLASSES = 200  # Tiny-ImageNet, with images of side 64; tensors do not tell the side
LAST_BLOCK = "residual8.body.conv2.weight"
_BLOCK = re.compile(r"layer([1-4])\.([01])\.(conv|bn)([12])\.(\w+)")
_SHORTCUT = re.compile(r"layer([1-4])\.([01])\.downsample\.([01])\.(\w+)")
_STEM = {"conv1": "conv1", "bn1": "batch_norm1", "fc": "linear1"}
_KIND = {"conv": "conv", "bn": "batch_norm"}


def rename_resnet18(state: Mapping[str, Value]) -> dict[str, Value] | None:
    """Rename torchvision's tensors to weightzoo's names; None if other names occur."""
    named = {_name(name): value for name, value in state.items()}
    whole = None not in named and LAST_BLOCK in named
    return named if whole else None  # type: ignore[return-value]


def resnet18_of(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    """The ResNet-18 with these tensor shapes, by weightzoo's names, or None."""
    if "linear1.bias" not in shapes or LAST_BLOCK not in shapes:
        return None
    classes, width = shapes["linear1.bias"][0], shapes["conv1.weight"][0]
    side = 64 if classes == LARGE_SIDE_CLASSES else 32
    architecture = resnet18(classes, side, width)
    wanted = {tensor.name: tensor.shape for tensor in architecture.layer_table()}
    return architecture if dict(shapes) == wanted else None


def _name(name: str) -> str | None:
    layer, _, role = name.rpartition(".")
    if layer in _STEM:
        return f"{_STEM[layer]}.{role}"
    if match := _BLOCK.fullmatch(name):
        stage, block, kind, count, role = match.groups()
        return f"{_residual(stage, block)}.body.{_KIND[kind]}{count}.{role}"
    if match := _SHORTCUT.fullmatch(name):
        stage, block, index, role = match.groups()
        kind = ("conv1", "batch_norm1")[int(index)]
        return f"{_residual(stage, block)}.shortcut.{kind}.{role}"
    return None


def _residual(stage: str, block: str) -> str:
    return f"residual{2 * int(stage) + int(block) - 1}"
