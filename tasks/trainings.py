"""Kinds of training by name: what `weightzoo train NAME` can train, imported when it is asked for.

A kind is a function of its name and `TrainOptions`; it returns plain data to print.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from ..encoders.registry import ENCODERS

PROPERTY = (".prediction.trained", "train_property")
AUTOENCODER = (".autoencoding.train", "train_autoencoder")
TRAIN_KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(ENCODERS, PROPERTY),
    **dict.fromkeys(("hyper-representation", "sane"), AUTOENCODER),
}
"""Module in this package, and function in it, by name."""


def train_kind(name: str) -> Callable[..., dict[str, Any]]:
    """The kind of training of a name; it takes `TrainOptions`.

    Raises:
        ValueError: if there is none; the names are listed.
    """
    if name not in TRAIN_KINDS:
        raise ValueError(f"encoder must be one of {sorted(TRAIN_KINDS)}, got {name!r}")
    module, function = TRAIN_KINDS[name]
    return partial(getattr(import_module(module, __package__), function), name)
