"""Trained encoders as folders of `model.safetensors` and `config.json`, on disk or on the Hub."""

import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...encoders.registry import ENCODERS
from ...loaders.hub.requests import hub_errors, patiently
from ...zoos.errors import ZooError
from ...zoos.networks.layer_table import LayerTable
from ...zoos.strict_json import json_text
from ..scoring.targets import TargetMapping
from .encoder_making import encoder_config, encoder_name, encoder_path, remake_encoder
from .property_predictor import PropertyPredictor
from .weight_scaling import WeightScaler

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"
FORMAT = "weightzoo-encoder-1"


class ModelFormatError(ZooError, ValueError):
    """A folder without a trained encoder of this version of weightzoo."""


def save_pretrained(predictor: PropertyPredictor, folder: Path | str) -> Path:
    """Write an encoder with everything that prediction needs.

    A file is replaced only after the new one is completely written.

    Args:
        predictor: trained encoder.
        folder: folder to write, created if it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument of the encoder is no value of JSON.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    table = getattr(predictor.module, "layer_table", None)
    name = encoder_name(predictor.module)
    config = {
        "format": FORMAT,
        "encoder": name,
        "config": encoder_config(predictor.module),
        "layer_table": table.to_json() if isinstance(table, LayerTable) else None,
        "link": predictor.target_mapping.to_json(),
        "scaler": predictor.scaler.to_json(),
        "training": dict(predictor.training),
    }
    if name not in ENCODERS:  # whoever loads it must hand over the class
        config["class"] = encoder_path(predictor.module)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: t.detach().cpu().contiguous() for name, t in predictor.module.state_dict().items()
    }
    save_file(state, partial := folder / f"{WEIGHTS_NAME}.tmp", metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS_NAME)
    _write(folder / CONFIG_NAME, json_text(config, indent=1) + "\n")
    _write(folder / CARD_NAME, _card(config))
    return folder


def from_pretrained(
    folder_or_repo: Path | str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    device: str = "cpu",
    encoder: type[torch.nn.Module] | str | None = None,
) -> PropertyPredictor:
    """Load an encoder that `save_pretrained` wrote; nothing that its files name is imported.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        revision: branch, tag or commit of the Hub repository; None takes the default branch.
        token: access token of the Hub; None takes the stored one.
        device: device of the encoder.
        encoder: class of an encoder of your own, or its name or "package.module:Class"; None
            loads an encoder of weightzoo, or one that `register_encoder` was given.

    Raises:
        ModelFormatError: if it has no trained encoder, one of another version or of a class that
            was not handed over, or weights that do not fit its config.
        ZooNotFoundError: if there is neither a folder nor a repository.
    """
    folder = Path(folder_or_repo)
    if not folder.is_dir():
        folder = _fetch(str(folder_or_repo), revision, token)
    config = _read_config(folder / CONFIG_NAME)
    target_mapping = TargetMapping.from_json(config["link"])
    try:
        given = (config[key] for key in ("encoder", "config", "layer_table"))
        module = remake_encoder(*given, config.get("class"), encoder)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{folder / CONFIG_NAME}: {error}") from error
    module.load_state_dict(_read_weights(folder / WEIGHTS_NAME, module))
    return PropertyPredictor(
        module=module.to(device).eval(),
        target_mapping=target_mapping,
        scaler=WeightScaler.from_json(config["scaler"]),
        training=config["training"],
    )


def push_to_hub(
    predictor: PropertyPredictor,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str = "Publish encoder",
) -> str:
    """Publish an encoder as a model repository on the Hub.

    Args:
        predictor: trained encoder.
        repo_id: repository "org/name", created if it does not exist.
        token: access token of the Hub; None takes the stored one.
        private: whether a new repository is private.
        message: commit message.

    Returns:
        Hash of the commit.

    Raises:
        HubError: if the Hub cannot be reached or rejects the upload.
        ValueError: for the reasons in `save_pretrained`.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder, hub_errors(repo_id):
        save_pretrained(predictor, folder)
        options: dict[str, Any] = {"private": private or None, "exist_ok": True}
        patiently(partial(api.create_repo, repo_id, **options))
        options = {"repo_id": repo_id, "folder_path": folder, "commit_message": message}
        return str(patiently(partial(api.upload_folder, **options)).oid)


def _fetch(repo: str, revision: str | None, token: str | bool | None) -> Path:
    """The folder of a Hub repository in the client's cache."""
    from huggingface_hub import snapshot_download

    if repo.count("/") != 1 or repo.startswith((".", "/")):
        raise ModelFormatError(
            f"there is no folder {repo!r}, and a Hub repository has a name 'org/name': train an "
            "encoder with `weightzoo train ENCODER ZOO --out FOLDER`, and give that folder"
        )
    names = [CONFIG_NAME, WEIGHTS_NAME]
    with hub_errors(repo):
        download = partial(
            snapshot_download, repo, revision=revision, token=token, allow_patterns=names
        )
        return Path(patiently(download))


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelFormatError(
            f"{path.parent} has no {CONFIG_NAME}: train an encoder with `weightzoo train`"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else config
        raise ModelFormatError(f"{path} has format {found!r}, expected {FORMAT!r}")
    keys = ("encoder", "config", "layer_table", "link", "scaler", "training")
    if missing := [key for key in keys if key not in config]:
        raise ModelFormatError(f"{path} lacks the keys {missing}")
    return config


def _read_weights(path: Path, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if odd := sorted(wanted.items() ^ found.items()):
        raise ModelFormatError(f"{path} does not fit its {CONFIG_NAME}, e.g. in {odd[:2]}")
    return state


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _card(config: dict[str, Any]) -> str:
    """The model card on the Hub, made from the config."""
    training = config["training"]
    zoos = ", ".join(f"{zoo['name']} ({zoo['rows']} rows)" for zoo in training.get("zoos", []))
    score = training.get("val_score")
    found = f"score on the val split {score} at epoch {training.get('best_epoch')}"
    if score is None:
        found = f"no score on the val split ({training.get('note') or 'none recorded'})"
    return f"""---
library_name: weightzoo
tags: [weight-space-learning, model-zoo]
---
# {config["encoder"]} predicting {config["link"]["target"]}

Predicts the column `{config["link"]["target"]}` of a model zoo from the weights of its models.
Trained with weightzoo on {zoos or "an unknown zoo"}, seed {training.get("seed")};
{found}.

```python
from weightzoo.loaders import load_zoo
from weightzoo.tasks import from_pretrained

predicted = from_pretrained("path/or/repo").predict(load_zoo("zoo", split="test"))
```
"""
