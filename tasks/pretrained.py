"""Trained encoders and autoencoders as folders of `model.safetensors` and `config.json`.

A folder lies on disk or on the Hub. The kind of model is read from its config.
"""

from pathlib import Path
from typing import Any

from torch import nn

from .autoencoding.saved import (
    FORMAT as AUTOENCODER,
)
from .autoencoding.saved import KEYS as AUTOENCODER_KEYS
from .autoencoding.saved import (
    OLD_NAME,
    load_autoencoder,
    save_autoencoder,
)
from .autoencoding.token_autoencoder import TokenAutoencoder
from .training.model_folder import (
    CONFIG_NAME,
    ModelFormatError,
    find_model_folder,
    push_model_folder,
    read_model_config,
)
from .training.pretrained import FORMAT as ENCODER
from .training.pretrained import KEYS as ENCODER_KEYS
from .training.pretrained import load_predictor, save_predictor
from .training.property_predictor import PropertyPredictor

FORMATS = {ENCODER: ENCODER_KEYS, AUTOENCODER: AUTOENCODER_KEYS}
Model = PropertyPredictor | TokenAutoencoder
"""A trained model: both kinds have `embed(dataset)`, `predict(dataset)` and `target`."""


def save_pretrained(model: Model, folder: Path | str) -> Path:
    """Write a trained encoder or autoencoder with everything that `from_pretrained` needs.

    Args:
        model: trained encoder or autoencoder.
        folder: folder to write, created if it does not exist. A file is replaced only after the
            new one is completely written.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument of the encoder is no value of JSON.

    Example:
        >>> import tempfile
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import EncoderSpec, TrainingSettings
        >>> from weightzoo.tasks import save_pretrained, train_encoder
        >>> zoo, encoder = load_zoo(ZOO), EncoderSpec("flat-mlp", {"widths": [4]})
        >>> settings = TrainingSettings(epochs=1, progress=False)
        >>> model = train_encoder(encoder, zoo["train"], zoo["val"], "test_accuracy", settings)
        >>> folder = save_pretrained(model, tempfile.mkdtemp() + "/encoder")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
    """
    if isinstance(model, TokenAutoencoder):
        return save_autoencoder(model, Path(folder))
    return save_predictor(model, folder)


def from_pretrained(
    folder_or_repo: Path | str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    device: str = "cpu",
    encoder: type[nn.Module] | str | None = None,
) -> Model:
    """Load a trained encoder or autoencoder; nothing that its files name is imported.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        revision: branch, tag or commit of the Hub repository; None takes the default branch.
        token: access token of the Hub; None takes the stored one.
        device: device of the model.
        encoder: class of an encoder of your own, or its name or "package.module:Class"; None
            loads an encoder of weightzoo, or one that `register_encoder` was given.

    Returns:
        A `PropertyPredictor`, or the autoencoder.

    Raises:
        ModelFormatError: if it has no trained model, one of another version or of a class that
            was not handed over, or weights that do not fit its config.
        ZooNotFoundError: if there is neither a folder nor a repository.

    Example:
        >>> import tempfile
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import EncoderSpec, TrainingSettings, train_encoder
        >>> from weightzoo.tasks import from_pretrained, save_pretrained
        >>> zoo, encoder = load_zoo(ZOO), EncoderSpec("flat-mlp", {"widths": [4]})
        >>> settings = TrainingSettings(epochs=1, progress=False)
        >>> model = train_encoder(encoder, zoo["train"], zoo["val"], "test_accuracy", settings)
        >>> folder = save_pretrained(model, tempfile.mkdtemp())
        >>> loaded = from_pretrained(folder)
        >>> bool((loaded.predict(zoo["test"]) == model.predict(zoo["test"])).all())
        True
    """
    path, config = _located(folder_or_repo, revision, token)
    if config and config["format"] == ENCODER:
        return load_predictor(path, device, encoder)
    if encoder is not None:
        raise ModelFormatError(f"{path} holds an autoencoder of weightzoo: leave out encoder")
    return load_autoencoder(path)[0].to(device)


def load_trained_autoencoder(folder_or_repo: Path | str, device: str = "cpu") -> TokenAutoencoder:
    """Load a trained autoencoder.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        device: device of the autoencoder.

    Raises:
        FileNotFoundError: if there is neither a folder nor the name of a repository.
        ModelFormatError: if there is a trained model of another kind, or none.
    """
    if not Path(folder_or_repo).exists() and str(folder_or_repo).count("/") != 1:
        load_autoencoder(Path(folder_or_repo))  # says how to train one
    path, config = _located(folder_or_repo)
    if config and config["format"] == ENCODER:
        raise ModelFormatError(
            f"{folder_or_repo} holds an encoder that predicts {config['link']['target']!r}, and no "
            "autoencoder: train one with `weightzoo train hyper-representation ZOO --out FOLDER`"
        )
    return load_autoencoder(path)[0].to(device)


def _located(
    folder_or_repo: Path | str, revision: str | None = None, token: str | bool | None = None
) -> tuple[Path, dict[str, Any] | None]:
    """Path of a trained model, and its config; None for the file of an older version."""
    if (path := Path(folder_or_repo)).is_file():
        return path, None
    folder = find_model_folder(folder_or_repo, revision, token)
    if not (folder / CONFIG_NAME).exists() and (folder / OLD_NAME).is_file():
        return folder, None
    return folder, read_model_config(folder, FORMATS)


def push_to_hub(
    model: Model,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str = "Publish encoder",
) -> str:
    """Publish a trained encoder or autoencoder as a model repository on the Hub.

    Args:
        model: trained encoder or autoencoder.
        repo_id: repository "org/name", created if it does not exist.
        token: access token of the Hub; None takes the stored one.
        private: whether a new repository is private.
        message: commit message.

    Returns:
        Hash of the commit.

    Raises:
        HubError: if the Hub cannot be reached or rejects the upload.
        ValueError: for the reasons in `save_pretrained`.

    Example:
        >>> from weightzoo.tasks import from_pretrained, push_to_hub
        >>> model = from_pretrained("runs/encoder")  # doctest: +SKIP
        >>> push_to_hub(model, "me/my-encoder", private=True)  # doctest: +SKIP
    """
    if isinstance(model, TokenAutoencoder):
        model = model.without_origin()  # a path on this machine
    return push_model_folder(
        lambda folder: save_pretrained(model, folder),
        repo_id,
        token=token,
        private=private,
        message=message,
    )
