"""Kinds of training by the NAME in `weightzoo train NAME`, imported on use.

SANE is the sequential autoencoder for neural embeddings, arXiv 2406.09997. A kind is a function of
its name and `TrainOptions` that returns plain data to print. A name of a user's encoder, or
"package.module:Class", is trained to predict a property.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from ..encoders.registry import ENCODERS, encoder_entry, encoder_names, unknown_encoder

PROPERTY = (".prediction.trained", "train_property")
AUTOENCODER = (".autoencoding.train", "train_autoencoder")
FLOW = (".flow_matching.train", "train_flow")
TRAIN_KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(ENCODERS, PROPERTY),
    **dict.fromkeys(("hyper-representation", "sane"), AUTOENCODER),
    "flow-matching": FLOW,
}
"""Module in this package, and function in the module, by name."""


def train_kind(name: str) -> Callable[..., dict[str, Any]]:
    """The function of `TrainOptions` that trains the kind of this name.

    Raises:
        ValueError: if there is no such kind; the names are listed.
    """
    if name not in TRAIN_KINDS:
        if ":" not in name and name not in encoder_names():
            raise ValueError(unknown_encoder(name, sorted({*TRAIN_KINDS, *encoder_names()})))
        encoder_entry(name)  # a class that cannot be imported is reported before anything else
    module, function = TRAIN_KINDS.get(name, PROPERTY)
    return partial(getattr(import_module(module, __package__), function), name)
