"""Trained flows as folders of tensors and plain data, without code."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ...loaders import LayerStandardization
from ...zoos.networks.architectures import Architecture
from ..autoencoding.canonical import Canonical
from ..autoencoding.token_autoencoder import Origin
from ..training.model_folder import (
    config_errors,
    load_weights,
    read_model_config,
    read_model_tensors,
    write_model_folder,
)
from .flow_training import make_field
from .settings import FlowSettings
from .weight_flow import Coordinates, WeightFlow

FORMAT = "weightzoo-flow-1"
KEYS = ("settings", "architecture", "standardization", "scale", "history", "kept_epoch", "origin")
FAULTS = (KeyError, TypeError, AttributeError, RuntimeError, ValueError)


def save_flow(flow: WeightFlow, folder: Path) -> Path:
    """Write a flow to a folder.

    Args:
        flow: trained flow.
        folder: folder to write, created if it does not exist.

    Returns:
        The folder.
    """
    canonical, coordinates = flow.canonical, flow.coordinates
    config = {
        "format": FORMAT,
        "settings": asdict(flow.settings),
        "architecture": canonical.architecture.to_json(),
        "standardization": canonical.standardization.to_json(),
        "scale": coordinates.scale,
        "history": flow.history,
        "kept_epoch": flow.kept_epoch,
        "note": flow.note,
        "origin": None if flow.origin is None else asdict(flow.origin),
    }
    tensors = {f"module.{name}": one for name, one in flow.module.state_dict().items()}
    tensors["mean"] = coordinates.mean
    optional = {"axes": coordinates.axes, "reference": canonical.reference}
    tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
    return write_model_folder(folder, tensors, config, _card(config))


def load_flow(folder: Path) -> WeightFlow:
    """Load a flow onto the CPU; no code in its files is run.

    Raises:
        ModelFormatError: if it holds no flow of this version.
    """
    config = read_model_config(folder, {FORMAT: KEYS})
    tensors = read_model_tensors(folder)
    with config_errors(folder, *FAULTS):
        flow = _made(config, tensors)
    module = {
        name.removeprefix("module."): one
        for name, one in tensors.items()
        if name.startswith("module.")
    }
    load_weights(flow.module, module, folder)
    return flow


def _made(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> WeightFlow:
    """A flow of untrained weights, with everything else from a folder."""
    architecture = Architecture.from_json(config["architecture"])
    table = architecture.layer_table()
    given = config["settings"] | {"device": "cpu", "widths": tuple(config["settings"]["widths"])}
    settings = FlowSettings(**given)
    shapes: dict[str, tuple[int, ...]] = {"mean": (table.width,)}
    if settings.components:
        count = len(tensors["axes"]) if "axes" in tensors else settings.components
        shapes["axes"] = (min(count, settings.components), table.width)
    shapes |= {"reference": (table.width,)} if settings.aligned else {}
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            raise ValueError(f"tensor {name!r} must have shape {shape}")
    standardization = LayerStandardization.from_json(table, config["standardization"])
    canonical = Canonical(architecture, standardization, tensors.get("reference"))
    coordinates = Coordinates(tensors["mean"], float(config["scale"]), tensors.get("axes"))
    flow = WeightFlow(canonical, coordinates, make_field(coordinates.values, settings), settings)
    flow.history, flow.kept_epoch = config["history"], config["kept_epoch"]
    flow.note = config.get("note")
    flow.origin = None if config["origin"] is None else Origin(**config["origin"])
    return flow


def _card(config: Mapping[str, Any]) -> str:
    """The model card on the Hub, made from the config."""
    origin, name = config["origin"], config["architecture"]["name"]
    zoo = "a model zoo" if origin is None else f"the zoo {Path(origin['zoo']).name}"
    return f"""---
library_name: weightzoo
tags: [weight-space-learning, model-zoo]
---
# flow-matching of {name}

Flow on the aligned weights of the architecture `{name}`, trained with weightzoo on {zoo}. It draws
new networks:

```sh
weightzoo sample path/or/repo --count 100 --out drawn
```
"""
