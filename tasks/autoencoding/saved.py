"""Trained autoencoders as files of weights and plain data, without code."""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...loaders import LayerStandardization
from ...zoos.disk import write_whole
from ...zoos.networks.architectures import Architecture
from ..training.checkpoints import torch_file
from .autoencoder_training import AutoencoderSettings
from .canonical import Canonical
from .hyper_representation import ZooAutoencoder, make_module
from .sane import SequenceAutoencoder, SequenceSettings, make_sane
from .token_autoencoder import TokenAutoencoder

KINDS = ("hyper-representation", "sane")
MODEL_NAME = "autoencoder.pt"  # file name in a folder of `weightzoo train`
FAULTS = (KeyError, TypeError, AttributeError, pickle.UnpicklingError, RuntimeError, EOFError)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Reference to the rows that an autoencoder was trained on.

    Attributes:
        zoo: path of the zoo.
        least_epoch: first epoch of the rows taken.
    """

    zoo: str
    least_epoch: int


def save_autoencoder(
    autoencoder: TokenAutoencoder, path: Path, origin: Origin | None = None
) -> None:
    """Write an autoencoder to one file, completely or not at all.

    Args:
        autoencoder: trained autoencoder.
        path: path of the file; its folder is created if it does not exist.
        origin: reference to its train rows; None if they are unknown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "kind": KINDS[isinstance(autoencoder, SequenceAutoencoder)],
        "settings": asdict(autoencoder.settings),
        "architecture": autoencoder.canonical.architecture.to_json(),
        "standardization": autoencoder.canonical.standardization.to_json(),
        "reference": autoencoder.canonical.reference,
        "mean": autoencoder.mean,
        "history": autoencoder.history,
        "kept_epoch": autoencoder.kept_epoch,
        "origin": None if origin is None else asdict(origin),
        "module": autoencoder.module.state_dict(),
    }
    write_whole(path, torch_file(data))


def load_autoencoder(path: Path) -> tuple[TokenAutoencoder, Origin | None]:
    """Load an autoencoder that `save_autoencoder` wrote, onto the CPU; no code in it is run.

    Args:
        path: path of the file, or of its folder (the file name is then `MODEL_NAME`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds no autoencoder of this version.
    """
    path = path / MODEL_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no autoencoder at {path}: train one with `weightzoo train hyper-representation ZOO "
            "--out FOLDER`, and give that folder"
        )
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        autoencoder = _made(data)
        origin = None if data["origin"] is None else Origin(**data["origin"])
    except FAULTS as error:
        raise ValueError(
            f"{path} holds no autoencoder of this version: train one with "
            f"`weightzoo train hyper-representation ZOO` ({type(error).__name__}: {error})"
        ) from error
    return autoencoder, origin


def _made(data: dict[str, Any]) -> TokenAutoencoder:
    architecture = Architecture.from_json(data["architecture"])
    table = architecture.layer_table()
    standardization = LayerStandardization.from_json(table, data["standardization"])
    canonical = Canonical(architecture, standardization, data["reference"])
    given = data["settings"] | {"device": "cpu", "views": tuple(data["settings"]["views"])}
    autoencoder: TokenAutoencoder
    if data["kind"] == "sane":
        sequence = SequenceSettings(**given)
        sane = make_sane(table, sequence)
        autoencoder = SequenceAutoencoder(canonical, sane, sequence, data["mean"])
    else:
        settings = AutoencoderSettings(**given)
        module = make_module(table, settings)
        autoencoder = ZooAutoencoder(canonical, module, settings, data["mean"])
    autoencoder.module.load_state_dict(data["module"])
    autoencoder.history = data["history"]
    autoencoder.kept_epoch = data.get("kept_epoch")  # files of older versions lack it
    return autoencoder
