"""Folders of trained models, on disk or on the Hub.

A folder holds `model.safetensors`, `config.json` and a card.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...zoos.disk import write_whole
from ...zoos.errors import ZooError
from ...zoos.hub.requests import hub_errors, patiently
from ...zoos.strict_json import json_text

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"


class ModelFormatError(ZooError, ValueError):
    """A folder without a trained model of this version of weightzoo."""


def write_model_folder(
    folder: Path | str,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    card: str,
) -> Path:
    """Write a trained model; a file is replaced only after the new one is completely written.

    Args:
        folder: folder to write, created if it does not exist.
        tensors: tensors by name.
        config: plain data, everything else.
        card: text of the model card.

    Returns:
        The folder.
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files = {
        WEIGHTS_NAME: save(state, metadata={"format": "pt"}),
        CONFIG_NAME: f"{json_text(config, indent=1)}\n".encode(),
        CARD_NAME: card.encode(),
    }
    for name, data in files.items():
        write_whole(folder / name, data)  # names a full disk, as `save_file` does not
    return folder


def find_model_folder(
    folder_or_repo: Path | str, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """The folder itself, or the folder of a Hub repository in the client's cache.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        revision: branch, tag or commit of the Hub repository; None takes the default branch.
        token: access token of the Hub; None takes the stored one.

    Raises:
        ModelFormatError: if there is no such folder, and the text names no repository.
        ZooNotFoundError: if there is no such repository.
    """
    repo = str(folder_or_repo)
    if (folder := Path(folder_or_repo)).is_dir():
        return folder
    if repo.count("/") != 1 or repo.startswith((".", "/")):
        raise ModelFormatError(
            f"there is no folder {repo!r}, and a Hub repository has a name 'org/name': train an "
            "encoder with `weightzoo train ENCODER ZOO --out FOLDER`, and give that folder"
        )
    from huggingface_hub import snapshot_download

    names = [CONFIG_NAME, WEIGHTS_NAME]
    with hub_errors(repo):
        download = partial(
            snapshot_download, repo, revision=revision, token=token, allow_patterns=names
        )
        return Path(patiently(download))


def read_model_config(folder: Path, formats: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The config of a trained model.

    Args:
        folder: folder of the model.
        formats: keys that a config needs, by its format.

    Raises:
        ModelFormatError: if there is no config, or one of another format or without a key.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ModelFormatError(
            f"{folder} has no {CONFIG_NAME}: train an encoder with `weightzoo train`"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from error
    found = config.get("format") if isinstance(config, dict) else config
    if not isinstance(config, dict) or not isinstance(found, str) or found not in formats:
        expected = " or ".join(map(repr, formats))
        raise ModelFormatError(f"{path} has format {found!r}, expected {expected}")
    if missing := [key for key in formats[found] if key not in config]:
        raise ModelFormatError(f"{path} lacks the keys {missing}")
    return config


def read_model_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a trained model by name, on the CPU.

    Raises:
        ModelFormatError: if the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_NAME
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    return tensors


def load_weights(module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Load weights into a module.

    Args:
        module: module to load into.
        state: tensors by name.
        folder: folder of the model, for the message.

    Raises:
        ModelFormatError: if names or shapes differ; some are named.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if odd := sorted(wanted.items() ^ found.items()):
        raise ModelFormatError(
            f"{folder / WEIGHTS_NAME} does not fit its {CONFIG_NAME}, e.g. in {odd[:2]}"
        )
    module.load_state_dict(dict(state))


@contextmanager
def config_errors(folder: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Raise errors about values of a config as `ModelFormatError` with its path.

    Args:
        folder: folder of the model.
        *kinds: kinds of errors.

    Raises:
        ModelFormatError: if an error of one of the kinds was raised.
    """
    try:
        yield
    except ModelFormatError:
        raise
    except kinds as error:
        raise ModelFormatError(f"{folder / CONFIG_NAME}: {error}") from error


def push_model_folder(
    write: Callable[[str], Any],
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str = "Publish encoder",
) -> str:
    """Publish a trained model as a model repository on the Hub.

    Args:
        write: function that writes the model to a folder.
        repo_id: repository "org/name", created if it does not exist.
        token: access token of the Hub; None takes the stored one.
        private: whether a new repository is private.
        message: commit message.

    Returns:
        Hash of the commit.

    Raises:
        HubError: if the Hub cannot be reached or rejects the upload.
    """
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder, hub_errors(repo_id):
        write(folder)
        options: dict[str, Any] = {"private": private or None, "exist_ok": True}
        patiently(partial(api.create_repo, repo_id, **options))
        options = {"repo_id": repo_id, "folder_path": folder, "commit_message": message}
        return str(patiently(partial(api.upload_folder, **options)).oid)
