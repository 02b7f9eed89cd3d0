"""The commands `weightzoo train hyper-representation` and `weightzoo train sane`.

SANE is the sequential autoencoder for neural embeddings, arXiv 2406.09997.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ...loaders import ZooDataset, load_zoo
from ...zoos.errors import ZooError, did_you_mean
from ...zoos.images.catalog import load_images
from ...zoos.images.signals import is_signal_set
from ..training.checks import check_target
from ..training.settings import TrainOptions
from .hyper_representation import train_hyper_representation
from .learnable_rows import homogeneous_splits
from .sane import SequenceSettings, train_sane
from .saved import save_autoencoder
from .settings import AutoencoderSettings
from .token_autoencoder import Origin

ENCODER_ARGUMENTS = ("latent", "width", "heads", "blocks", "feed_forward", "dropout")
MODEL_ENCODER_ARGUMENTS = (*ENCODER_ARGUMENTS, "compression", "bottleneck")
BEHAVIOUR, QUERIES = 0.3, 32  # as the generation benchmark has them
DEFAULT_TARGET = "test_accuracy"
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
    train, val = homogeneous_splits(splits, least_epoch)
    probed = _probed(train, val, options.target)
    train_kind, settings_of, shape = KINDS[kind]
    given = _settings(settings_of, shape, config, options.settings)
    settings = settings_of(**_behaviour(kind, train, options, given))
    autoencoder = train_kind(train, val, settings, options.seed, options.out, options.resume)
    autoencoder.origin = Origin(zoo=str(Path(options.zoos[0]).resolve()), least_epoch=least_epoch)
    if probed:
        autoencoder.fit_probe(train, val, options.target, options.seed)
    save_autoencoder(autoencoder, options.out)
    kept = {
        "kind": kind,
        "behaviour_share": round(1 - settings.structure, 6),
        "rows": len(train),
        "epochs": len(autoencoder.history),
        "kept_epoch": autoencoder.kept_epoch,
    }
    note = {"note": autoencoder.note} if autoencoder.note else {}
    probe = {"probe": options.target} if probed else {}
    return (
        {"path": str(options.out)}
        | kept
        | autoencoder.history[autoencoder.kept_epoch]
        | probe
        | note
    )


def _probed(train: ZooDataset, val: ZooDataset, target: str) -> bool:
    """Whether a probe of the target can be fitted.

    Only the default target may be missing: then the autoencoder has no probe.
    """
    if target != DEFAULT_TARGET:
        for zoo in (train, val):
            check_target(zoo, target)
        return True
    true = train.columns[target] if target in train.columns else np.array([np.nan])
    known = [zoo.columns[target] for zoo in (train, val) if target in zoo.columns]
    return len(known) == 2 and all(np.isfinite(one).all() for one in known) and true.std() > 0


def _behaviour(
    kind: str, train: ZooDataset, options: TrainOptions, given: dict[str, Any]
) -> dict[str, Any]:
    """The settings with the share of the behavioural loss, by default of the loss on weights alone.

    Hyper-representations of networks with known images get `BEHAVIOUR`: networks sampled without
    that loss hardly work. The last epoch is kept then, because R2 measures weights only.
    """
    if options.behaviour is not None:
        if "structure" in given:
            raise ValueError(
                "--behaviour and --set structure=... set the same share: give one of them"
            )
        if not 0 <= options.behaviour <= 1:
            raise ValueError(f"behaviour must lie in [0, 1], got {options.behaviour!r}")
        share = options.behaviour
    elif "structure" in given or kind != "hyper-representation" or not _images_known(train):
        return given
    else:
        share = BEHAVIOUR
    if share == 0:
        return given
    if _images_known(train):
        _check_images(train.header.recipe["images"])
    return {"queries": QUERIES, "keep": "last"} | given | {"structure": 1 - share}


def _images_known(train: ZooDataset) -> bool:
    """Whether the zoo names the image set that its models classify."""
    name = train.header.recipe.get("images")
    return isinstance(name, str) and not is_signal_set(name) and "activation" in train.columns


def _check_images(name: str) -> None:
    """Load the image set, before any other work."""
    try:
        load_images(name)
    except ZooError as error:
        raise ValueError(
            f"{error}; the loss on the networks' behaviour needs these images: give --behaviour 0 "
            "to train on weights alone"
        ) from error


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
        every = sorted({*known, *shape, LEAST_EPOCH})
        raise ValueError(f"unknown arguments {odd}, known are {every}" + did_you_mean(odd, every))
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
