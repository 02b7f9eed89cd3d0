"""Folders of SIREN state dicts, one `.pth` per implicit neural representation (INR).

Layouts: Navon et al. 2023 (arXiv 2301.12780), `mnist_png_training_<label>_<image>/checkpoints/
model_final.pth`; Zhou et al. 2023 (arXiv 2302.14040), `<prefix>_<label>s/net<image>.pth`; and
any other layout, in which file names are model names. Every file is one model, of unknown epoch.

Tensors named `seq.<index>.weight` are Navon's: a SIREN (sinusoidal representation network) with
omega 30 and 0.5 added to its output, as in the published code. Those named
`net.<index>.linear.weight` are Zhou's: a SIREN with omega 30 and a linear last layer, for
coordinates from -1 to 1. Other names are kept, without an architecture. Navon's networks of sine
waves also store `coef`, which becomes columns, and the points `x` and `y`, which are left out.

Networks of one image are in one split, such as Zhou's augmented copies in
`<prefix>_aug<n>_<label>s/net<image>.pth`. `--split-file` takes Navon's JSON and
Zhou's CSV of image numbers.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.presets import inr
from ..checkpoints.archives import Source
from ..checkpoints.opening import find_state_dict
from ..checkpoints.tensors import Leaf
from ..checkpoints.unreadable import UnreadableFileError, reading
from ..importing.layers import count_layers, is_indexed
from ..importing.models import UNKNOWN_EPOCH, FoundModel, OpenState, Reader, Remark, Scan

_NAVON = re.compile(r"\w_(?P<part>train|test)(?:ing)?_(?P<label>\d+)_(?P<image>\d+)(?:/|\.)")
_ZHOU = re.compile(r"_(?P<label>\d+)s/net(?P<image>\d+)\.pth$")
_SINE_LAYER = re.compile(r"net\.([0-9]{1,6})(?:\.linear)?\.(weight|bias)")
_AUGMENTED = re.compile(r"_aug([0-9]{1,6})(?=_[0-9]+s/)")
_FITTED = ("coef", "x", "y")  # stored beside the tensors of Navon's networks of sine waves
_MOST_COORDINATES = 4
_GENERIC = ("model_final", "checkpoints")


class InrReader(Reader):
    """Reads one network per `.pth` file."""

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        super().__init__(source)
        self._make: Callable[..., Architecture] | None = None  # SIREN of the first network read

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
                        group=_group(file),
                    )
                )
        scan.models.sort(key=lambda model: model.name)
        self._add_coefficients(scan)
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open one network, without the points it was fitted to.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        checkpoint = self.open_file(model.locations[row])
        root = checkpoint.root
        if isinstance(root, Mapping) and "coef" in root:
            root = {name: value for name, value in root.items() if name not in _FITTED}
        return OpenState(self.rename(find_state_dict(root), model), checkpoint.read)

    def _add_coefficients(self, scan: Scan) -> None:
        """Add the coefficients of fitted sine waves, if the first readable network has them."""
        for model in scan.models:
            try:
                with reading():
                    root = self.open_file(model.locations[0]).root
                    known = root.get("coef") if isinstance(root, Mapping) else None
                    numbers = [float(value) for value in known or ()]
            except UnreadableFileError:  # opened again with its weights, which reports it
                continue
            if not numbers:  # a zoo of images: no further file is opened
                return
            model.properties |= {f"coef_{i}": value for i, value in enumerate(numbers, start=1)}
        scan.notes.append("coef became the columns coef_1, ...; the points x, y are left out")

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """Rename the tensors of Navon's networks to `linear1.weight` and so on.

        Args:
            state: tensors by published name.
            model: model of the source.
        """
        if is_indexed(state) and all(name.startswith("seq.") for name in state):
            self._check_kind(inr)
            return count_layers(state)
        sines = [_SINE_LAYER.fullmatch(name) for name in state]
        if all(sines) and any(".linear." in name for name in state):
            self._check_kind(siren)
            return count_layers({name.replace(".linear", ""): v for name, v in state.items()})
        return state

    def _check_kind(self, make: Callable[..., Architecture]) -> None:
        """Reject a SIREN of another kind than the first: their tensors are equal, not their use."""
        if self._make not in (None, make):
            raise UnreadableFileError(
                "is a SIREN of another author than the first network: import both one by one"
            )
        self._make = make

    def notes(self, state: Mapping[str, Leaf]) -> list[str]:
        """Note on a first layer that takes more values than a point has coordinates."""
        first = state.get("linear1.weight")
        if first is None or first.shape[1] <= _MOST_COORDINATES:
            return []
        return [
            f"the first layer takes {first.shape[1]} inputs: a positional encoding that is not in "
            "the files, so a rebuilt module takes encoded coordinates"
        ]

    def architecture(self, state: Mapping[str, Leaf]) -> Architecture | None:
        """Navon's or Zhou's SIREN, of any width and number of layers from two."""
        shapes = {name: tuple(leaf.shape) for name, leaf in state.items()}
        first, last = shapes.get("linear1.bias"), shapes.get(f"linear{len(shapes) // 2}.bias")
        if first is None or last is None or len(shapes) < 4:
            return None
        inputs = shapes["linear1.weight"][1]
        if self._make is None:
            return None
        architecture = self._make(inputs, first[0], last[0], len(shapes) // 2)
        wanted = {tensor.name: tensor.shape for tensor in architecture.layer_table()}
        return architecture if shapes == wanted else None


def siren(inputs: int, width: int, outputs: int, layers: int) -> Architecture:
    """Zhou's SIREN: sine layers with omega 30 and a linear last layer, without an offset.

    Args:
        inputs: number of coordinates of a point, each from -1 to 1.
        width: width of the hidden layers.
        outputs: number of values at a point.
        layers: number of linear layers.
    """
    rows: list[dict[str, Any]] = []
    for _ in range(layers - 1):
        rows += [{"kind": "linear", "out": width}, {"kind": "sine", "omega": 30.0}]
    rows += [{"kind": "linear", "out": outputs}]
    return Architecture.from_json({"name": "siren", "input_shape": [inputs], "layers": rows})


def _group(file: str) -> str | None:
    """Key of the networks of one image: a path without the number of the augmentation."""
    match = _ZHOU.search(file)
    return None if match is None else _AUGMENTED.sub("", file) + f"#{match['image']}"


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
    if _ZHOU.search(file):
        copy = _AUGMENTED.search(file)
        found["augmentation"] = int(copy[1]) if copy else -1
    part = match.groupdict().get("part")
    return found | ({"image_split": part} if part else {})
