"""Folders of SIREN state dicts, one `.pth` per implicit neural representation (INR).

Layouts: Navon et al. 2023 (arXiv 2301.12780), `mnist_png_training_<label>_<image>/checkpoints/
model_final.pth`; Zhou et al. 2023 (arXiv 2302.14040), `<prefix>_<label>s/net<image>.pth`; and
any other, whose file names then are the models' names. Every file is one model, of unknown epoch.
"""

import re
from typing import Any

import numpy as np

from .import_models import UNKNOWN_EPOCH, FoundModel, Reader, Remark, Scan

_NAVON = re.compile(r"\w_(?P<part>train|test)(?:ing)?_(?P<label>\d+)_(?P<image>\d+)(?:/|\.)")
_ZHOU = re.compile(r"_(?P<label>\d+)s/net(?P<image>\d+)\.pth$")
_GENERIC = ("model_final", "checkpoints")


class InrReader(Reader):
    """Reads one network per `.pth` file."""

    def scan(self) -> Scan:
        """Take every `.pth` file as a model; label and image number from its path."""
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        for file in (name for name in self.source.names if name.endswith(".pth")):
            scan.models.append(
                FoundModel(
                    name=_model_name(file),
                    places=[file],
                    epochs=np.array([UNKNOWN_EPOCH]),
                    properties=_properties(file),
                )
            )
        scan.models.sort(key=lambda model: model.name)
        return scan


def _model_name(file: str) -> str:
    """The path without what all models share in it."""
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
