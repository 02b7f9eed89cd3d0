"""Trained encoders, autoencoders and flows as folders of `model.safetensors` and `config.json`.

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
from .flow_matching.saved import FORMAT as FLOW
from .flow_matching.saved import KEYS as FLOW_KEYS
from .flow_matching.saved import load_flow, save_flow
from .flow_matching.weight_flow import WeightFlow
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

FORMATS = {ENCODER: ENCODER_KEYS, AUTOENCODER: AUTOENCODER_KEYS, FLOW: FLOW_KEYS}
Model = PropertyPredictor | TokenAutoencoder
"""A trained model: both kinds have `embed(dataset)`, `predict(dataset)` and `target`."""
Generator = TokenAutoencoder | WeightFlow
"""A trained model that networks are drawn from."""


def save_pretrained(model: Model | WeightFlow, folder: Path | str) -> Path:
    """Write a trained encoder, autoencoder or flow with everything that loading it needs.

    Args:
        model: trained encoder, autoencoder or flow.
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
    if isinstance(model, WeightFlow):
        return save_flow(model, Path(folder))
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
            was not handed over, weights that do not fit its config, or a flow, which
            `load_trained_generator` loads.
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
    model = load_trained(
        folder_or_repo, revision=revision, token=token, device=device, encoder=encoder
    )
    if isinstance(model, WeightFlow):
        raise ModelFormatError(
            f"{folder_or_repo} holds a flow, which draws networks and encodes none: give it to "
            "`weightzoo sample`, or to load_trained_generator"
        )
    return model


def load_trained(
    folder_or_repo: Path | str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    device: str = "cpu",
    encoder: type[nn.Module] | str | None = None,
) -> Model | WeightFlow:
    """Load a trained model of any kind; arguments and errors are those of `from_pretrained`.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        revision: branch, tag or commit of the Hub repository; None takes the default branch.
        token: access token of the Hub; None takes the stored one.
        device: device of the model.
        encoder: class of an encoder of your own, or its name.

    Raises:
        ModelFormatError: if it has no trained model, or a class was given for a model of ours.
    """
    path, config = _located(folder_or_repo, revision, token)
    if config and config["format"] == ENCODER:
        return load_predictor(path, device, encoder)
    kind = "a flow" if config and config["format"] == FLOW else "an autoencoder"
    if encoder is not None:
        raise ModelFormatError(f"{path} holds {kind} of weightzoo: leave out encoder")
    return (load_flow(path) if kind == "a flow" else load_autoencoder(path)[0]).to(device)


def load_trained_generator(folder_or_repo: Path | str, device: str = "cpu") -> Generator:
    """Load a trained autoencoder or flow.

    Args:
        folder_or_repo: folder, or Hub repository "org/name".
        device: device of the model.

    Raises:
        FileNotFoundError: if there is neither a folder nor the name of a repository.
        ModelFormatError: if there is a trained model of another kind, or none.
    """
    if Path(folder_or_repo).exists() or str(folder_or_repo).count("/") == 1:
        path, config = _located(folder_or_repo)
        if config and config["format"] == FLOW:
            return load_flow(path).to(device)
    return load_trained_autoencoder(folder_or_repo, device)


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
    if config and config["format"] == FLOW:
        raise ModelFormatError(
            f"{folder_or_repo} holds a flow, which has no latent vectors: draw networks from it "
            "with `weightzoo sample`"
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
    model: Model | WeightFlow,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str = "Publish encoder",
) -> str:
    """Publish a trained encoder, autoencoder or flow as a model repository on the Hub.

    Args:
        model: trained encoder, autoencoder or flow.
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
    if isinstance(model, Generator):
        model = model.without_origin()  # a path on this machine
    return push_model_folder(
        lambda folder: save_pretrained(model, folder),
        repo_id,
        token=token,
        private=private,
        message=message,
    )
