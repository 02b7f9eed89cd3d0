"""The commands `weightzoo train hyper-representation` and `weightzoo train sane`.

SANE is the sequential autoencoder for neural embeddings, arXiv 2406.09997.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...loaders import load_zoo
from ..prediction.trained import TrainOptions
from .autoencoder_training import AutoencoderSettings
from .hyper_representation import train_hyper_representation
from .learnable_rows import homogeneous_splits
from .sane import SequenceSettings, train_sane
from .saved import MODEL_NAME, Origin, save_autoencoder

ENCODER_ARGUMENTS = ("latent", "width", "heads", "blocks", "feed_forward", "dropout")
MODEL_ENCODER_ARGUMENTS = (*ENCODER_ARGUMENTS, "compression", "bottleneck")
LEAST_EPOCH = "least_epoch"  # first epoch of the train rows


def train_autoencoder(kind: str, options: TrainOptions) -> dict[str, Any]:
    """Train a hyper-representation or SANE on one zoo and save it.

    Args:
        kind: one of `KINDS`.
        options: options of the command.

    Returns:
        Results to print.

    Raises:
        ValueError: if there are several zoos, or an argument is unknown (the known ones are
            listed) or has a wrong type.
    """
    if len(options.zoos) != 1:
        raise ValueError(f"{kind} is trained on one zoo, got {options.zoos!r}: give one zoo")
    _check_types(kind, options.config)
    config = dict(options.config)
    least_epoch = config.pop(LEAST_EPOCH, 0)
    splits = load_zoo(options.zoos[0])
    assert isinstance(splits, dict)
    train, val = homogeneous_splits(splits, least_epoch)
    train_kind, settings_of, shape = KINDS[kind]
    settings = settings_of(**_settings(settings_of, shape, config, options.settings))
    autoencoder = train_kind(train, val, settings, options.seed, options.out, options.resume)
    origin = Origin(zoo=str(Path(options.zoos[0]).resolve()), least_epoch=least_epoch)
    save_autoencoder(autoencoder, options.out / MODEL_NAME, origin)
    kept = {
        "rows": len(train),
        "epochs": len(autoencoder.history),
        "kept_epoch": autoencoder.kept_epoch,
    }
    note = {"note": autoencoder.note} if autoencoder.note else {}
    return {"path": str(options.out)} | kept | autoencoder.history[autoencoder.kept_epoch] | note


def _check_types(kind: str, config: Mapping[str, Any]) -> None:
    """Reject arguments that are not numbers or not booleans where these are expected."""
    _, settings_of, _ = KINDS[kind]
    defaults: dict[str, Any] = dict.fromkeys((*ENCODER_ARGUMENTS, LEAST_EPOCH), 0)
    defaults |= {field.name: field.default for field in fields(settings_of)}
    for name, value in config.items():
        if isinstance(default := defaults.get(name), bool) and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")
        if isinstance(default, int | float) and not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}")


def _settings(
    kind: type[AutoencoderSettings],
    shape: tuple[str, ...],
    config: dict[str, Any],
    settings: Any,
) -> dict[str, Any]:
    """Fields of the settings, with the arguments of the encoder under "shape"."""
    given = config | {name: value for name, value in settings.items()}
    known = {field.name for field in fields(kind)} - {"shape"}
    if odd := sorted(set(given) - known - set(shape)):
        raise ValueError(
            f"unknown arguments {odd}, known are {sorted({*known, *shape, LEAST_EPOCH})}"
        )
    plain = {name: value for name, value in given.items() if name in known}
    if isinstance(plain.get("views"), list):
        plain["views"] = tuple(plain["views"])
    return plain | {"shape": {name: value for name, value in given.items() if name in shape}}


KINDS: dict[str, tuple[Callable[..., Any], type[AutoencoderSettings], tuple[str, ...]]] = {
    "hyper-representation": (
        train_hyper_representation,
        AutoencoderSettings,
        MODEL_ENCODER_ARGUMENTS,
    ),
    "sane": (train_sane, SequenceSettings, tuple(set(ENCODER_ARGUMENTS) - {"feed_forward"})),
}
