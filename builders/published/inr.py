"""Folders of SIREN state dicts, one `.pth` per implicit neural representation (INR).

Layouts: Navon et al. 2023 (arXiv 2301.12780), `mnist_png_training_<label>_<image>/checkpoints/
model_final.pth`; Zhou et al. 2023 (arXiv 2302.14040), `<prefix>_<label>s/net<image>.pth`; and
any other layout, in which file names are model names. Every file is one model, of unknown epoch.

Tensors named `seq.<index>.weight` are Navon's: a SIREN (sinusoidal representation network) with
omega 30 and 0.5 added to its output, as in the published code. Other names are kept, without an
architecture.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.presets import inr
from ..checkpoints.tensors import Leaf
from ..importing.layers import count_layers, is_indexed
from ..importing.models import UNKNOWN_EPOCH, FoundModel, Reader, Remark, Scan

_NAVON = re.compile(r"\w_(?P<part>train|test)(?:ing)?_(?P<label>\d+)_(?P<image>\d+)(?:/|\.)")
_ZHOU = re.compile(r"_(?P<label>\d+)s/net(?P<image>\d+)\.pth$")
_GENERIC = ("model_final", "checkpoints")


class InrReader(Reader):
    """Reads one network per `.pth` file."""

    def scan(self) -> Scan:
        """Take every `.pth` file as a model, with label and image number from its path."""
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        for file in (name for name in self.source.names if name.endswith(".pth")):
            with scan.refusing(file):
                scan.models.append(
                    FoundModel(
                        name=_model_name(file),
                        locations=[file],
                        epochs=np.array([UNKNOWN_EPOCH]),
                        properties=_properties(file),
                    )
                )
        scan.models.sort(key=lambda model: model.name)
        return scan

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """Rename the tensors of Navon's networks to `linear1.weight` and so on.

        Args:
            state: tensors by published name.
            model: model of the source.
        """
        own = is_indexed(state) and all(name.startswith("seq.") for name in state)
        return count_layers(state) if own else state

    def architecture(self, state: Mapping[str, Leaf]) -> Architecture | None:
        """Navon's SIREN, of any width and number of layers from two."""
        shapes = {name: tuple(leaf.shape) for name, leaf in state.items()}
        first, last = shapes.get("linear1.bias"), shapes.get(f"linear{len(shapes) // 2}.bias")
        if first is None or last is None or len(shapes) < 4:
            return None
        inputs = shapes["linear1.weight"][1]
        architecture = inr(inputs, first[0], last[0], len(shapes) // 2)
        wanted = {tensor.name: tensor.shape for tensor in architecture.layer_table()}
        return architecture if shapes == wanted else None


def _model_name(file: str) -> str:
    """The path without generic parts such as `checkpoints`."""
    parts = file.removesuffix(".pth").split("/")
    named = [part for part in parts if part not in _GENERIC]
    return "/".join(named or parts)


def _properties(file: str) -> dict[str, Any]:
    match = _NAVON.search(file) or _ZHOU.search(file)
    if match is None:
        return {}
    found = {"label": int(match["label"]), "image_id": int(match["image"])}
    part = match.groupdict().get("part")
    return found | ({"image_split": part} if part else {})
