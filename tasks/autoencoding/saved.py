"""Trained autoencoders as folders of tensors and plain data, without code.

Older versions wrote one file of `torch.save`, which is still read.
"""

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...loaders import LayerStandardization
from ...zoos.networks.architectures import Architecture
from ..training.model_folder import (
    CONFIG_NAME,
    ModelFormatError,
    config_errors,
    load_weights,
    read_model_config,
    read_model_tensors,
    write_model_folder,
)
from .canonical import Canonical
from .hyper_representation import ZooAutoencoder, make_module
from .probe import EmbeddingProbe
from .sane import SequenceAutoencoder, SequenceSettings, make_sane
from .settings import AutoencoderSettings
from .token_autoencoder import Origin, TokenAutoencoder

FORMAT = "weightzoo-autoencoder-1"
KEYS = ("kind", "settings", "architecture", "standardization", "history", "origin", "probe")
KINDS = ("hyper-representation", "sane")
OLD_NAME = "autoencoder.pt"  # file in a folder that an older version wrote
FAULTS = (KeyError, TypeError, AttributeError, pickle.UnpicklingError, RuntimeError, EOFError)


def save_autoencoder(autoencoder: TokenAutoencoder, folder: Path) -> Path:
    """Write an autoencoder with its probe to a folder.

    Args:
        autoencoder: trained autoencoder.
        folder: folder to write, created if it does not exist.

    Returns:
        The folder.
    """
    canonical, probe = autoencoder.canonical, autoencoder.probe
    config = {
        "format": FORMAT,
        "kind": kind_of(autoencoder),
        "settings": asdict(autoencoder.settings),
        "architecture": canonical.architecture.to_json(),
        "standardization": canonical.standardization.to_json(),
        "history": autoencoder.history,
        "kept_epoch": autoencoder.kept_epoch,
        "note": autoencoder.note,
        "origin": None if autoencoder.origin is None else asdict(autoencoder.origin),
        "probe": None if probe is None else probe.mapping.to_json(),
    }
    tensors = {f"module.{name}": one for name, one in autoencoder.module.state_dict().items()}
    tensors["mean"] = autoencoder.mean
    if canonical.reference is not None:
        tensors["reference"] = canonical.reference
    if probe is not None:
        tensors |= {f"probe.{name}": one for name, one in probe.tensors().items()}
    return write_model_folder(folder, tensors, config, _card(config))


def kind_of(autoencoder: TokenAutoencoder) -> str:
    """One of `KINDS`."""
    return KINDS[isinstance(autoencoder, SequenceAutoencoder)]


def load_autoencoder(path: Path) -> tuple[TokenAutoencoder, Origin | None]:
    """Load an autoencoder and its origin onto the CPU; no code in its files is run.

    Args:
        path: folder of the autoencoder, or file that an older version wrote.

    Raises:
        FileNotFoundError: if there is neither.
        ModelFormatError: if it holds no autoencoder of this version.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no autoencoder at {path}: train one with `weightzoo train hyper-representation ZOO "
            "--out FOLDER`, and give that folder"
        )
    old = path / OLD_NAME if path.is_dir() else path
    autoencoder = _read_file(old) if old.is_file() and not _has_config(path) else _read(path)
    return autoencoder, autoencoder.origin


def _has_config(path: Path) -> bool:
    return (path / CONFIG_NAME).is_file()


def _read(folder: Path) -> TokenAutoencoder:
    config = read_model_config(folder, {FORMAT: KEYS})
    tensors = read_model_tensors(folder)
    with config_errors(folder, *FAULTS, ValueError):
        autoencoder = _made(config | {name: tensors.get(name) for name in ("mean", "reference")})
        if config["probe"] is not None:
            autoencoder.probe = EmbeddingProbe.from_file(config["probe"], _under("probe.", tensors))
    load_weights(autoencoder.module, _under("module.", tensors), folder)
    return autoencoder


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): one for k, one in tensors.items() if k.startswith(prefix)}


def _read_file(path: Path) -> TokenAutoencoder:
    """Read the file of an older version."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        autoencoder = _made(data)
        autoencoder.module.load_state_dict(data["module"])
    except FAULTS as error:
        raise ModelFormatError(
            f"{path} holds no autoencoder of this version: train one with "
            f"`weightzoo train hyper-representation ZOO` ({type(error).__name__}: {error})"
        ) from error
    return autoencoder


def _made(data: Mapping[str, Any]) -> TokenAutoencoder:
    """An autoencoder of untrained weights, with everything else from a file."""
    architecture = Architecture.from_json(data["architecture"])
    table = architecture.layer_table()
    standardization = LayerStandardization.from_json(table, data["standardization"])
    for name in ("mean", "reference"):
        value = data[name]
        if not (isinstance(value, Tensor) and value.shape == (table.width,)) and (
            name == "mean" or value is not None
        ):
            raise ValueError(f"tensor {name!r} must have shape ({table.width},)")
    canonical = Canonical(architecture, standardization, data["reference"])
    given = data["settings"] | {"device": "cpu", "views": tuple(data["settings"]["views"])}
    autoencoder: TokenAutoencoder
    if data["kind"] == "sane":
        sequence = SequenceSettings(**given)
        sane = make_sane(table, sequence)
        autoencoder = SequenceAutoencoder(canonical, sane, sequence, data["mean"])
    elif data["kind"] == "hyper-representation":
        settings = AutoencoderSettings(**given)
        module = make_module(table, settings)
        autoencoder = ZooAutoencoder(canonical, module, settings, data["mean"])
    else:
        raise ValueError(f"kind must be one of {KINDS}, got {data['kind']!r}")
    autoencoder.history = data["history"]
    autoencoder.kept_epoch = data.get("kept_epoch")  # files of older versions lack it
    autoencoder.note = data.get("note")
    autoencoder.origin = None if data["origin"] is None else Origin(**data["origin"])
    return autoencoder


def _card(config: Mapping[str, Any]) -> str:
    """The model card on the Hub, made from the config."""
    kept, origin, probe = config["kept_epoch"], config["origin"], config["probe"]
    r2 = "" if kept is None else f"{config['history'][kept]['val_r2']:.3f}"
    r2 = r2 and f"; explained variance on val rows {r2}"
    zoo = "a model zoo" if origin is None else f"the zoo {Path(origin['zoo']).name}"
    predicts = f"\nIts linear probe predicts the column `{probe['target']}`.\n" if probe else ""
    shown = f"\nautoencoder.predict(zoo)  # {probe['target']}" if probe else ""
    return f"""---
library_name: weightzoo
tags: [weight-space-learning, model-zoo]
---
# {config["kind"]} of {config["architecture"]["name"]}

Autoencoder of the weights of the architecture `{config["architecture"]["name"]}`, trained with
weightzoo on {zoo}{r2}.
{predicts}
```python
from weightzoo.loaders import load_zoo
from weightzoo.tasks import from_pretrained

autoencoder = from_pretrained("path/or/repo")
zoo = load_zoo("zoo", split="test")
latent = autoencoder.encode(zoo)
weights = autoencoder.decode(latent){shown}
```
"""
