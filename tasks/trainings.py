"""Kinds of training by the NAME in `weightzoo train NAME`, imported on use.

SANE is the sequential autoencoder for neural embeddings, arXiv 2406.09997. A kind is a function of
its name and `TrainOptions` that returns plain data to print.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from ..encoders.registry import ENCODERS
from ..zoos.errors import did_you_mean

PROPERTY = (".prediction.trained", "train_property")
AUTOENCODER = (".autoencoding.train", "train_autoencoder")
TRAIN_KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(ENCODERS, PROPERTY),
    **dict.fromkeys(("hyper-representation", "sane"), AUTOENCODER),
}
"""Module in this package, and function in the module, by name."""


def train_kind(name: str) -> Callable[..., dict[str, Any]]:
    """The function of `TrainOptions` that trains the kind of this name.

    Raises:
        ValueError: if there is no such kind; the names are listed.
    """
    if name not in TRAIN_KINDS:
        known = sorted(TRAIN_KINDS)
        raise ValueError(
            f"encoder must be one of {known}, got {name!r}" + did_you_mean(name, known)
        )
    module, function = TRAIN_KINDS[name]
    return partial(getattr(import_module(module, __package__), function), name)
