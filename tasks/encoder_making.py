"""Makes encoders from a factory or from what was saved of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..encoders import ENCODERS
from ..zoos.layer_table import LayerTable


def make_encoder(
    encoder: Callable[..., nn.Module], tables: Sequence[LayerTable], outputs: int
) -> nn.Module:
    """Call a factory as it wants to be called.

    Args:
        encoder: takes `outputs`, and `layer_table` if it is tied to one architecture.
        tables: the architectures to learn from.
        outputs: numbers to predict.

    Raises:
        ValueError: if the encoder is tied to one architecture and there are several.
    """
    if "layer_table" not in inspect.signature(encoder).parameters:
        return encoder(outputs=outputs)
    if len(set(tables)) > 1:
        raise ValueError(
            f"{getattr(encoder, '__name__', encoder)} is tied to one architecture, the zoos have "
            f"{len(set(tables))}: {untied_encoders()} take several"
        )
    return encoder(layer_table=tables[0], outputs=outputs)


def untied_encoders() -> list[str]:
    """Names of the encoders that take any number of architectures."""
    return sorted(
        name
        for name, cls in ENCODERS.items()
        if "layer_table" not in inspect.signature(cls).parameters
    )


def encoder_name(module: nn.Module) -> str:
    """The key of an encoder in `encoders.ENCODERS`.

    Raises:
        ValueError: if it is none of them.
    """
    for name, cls in ENCODERS.items():
        if type(module) is cls:
            return name
    raise ValueError(
        f"{type(module).__name__} is none of the encoders {sorted(ENCODERS)}: only these can be "
        "saved and loaded"
    )


def encoder_config(module: nn.Module) -> dict[str, Any]:
    """The arguments from which an encoder is made again, as plain data."""
    config = dict(getattr(module, "config", {}))
    if isinstance(table := getattr(module, "layer_table", None), LayerTable):
        config["layer_table"] = table.to_json()
    return config


def remake_encoder(name: str, config: Mapping[str, Any]) -> nn.Module:
    """An untrained encoder from its name and config.

    Raises:
        ValueError: if the name or an argument is unknown; the known ones are listed.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder must be one of {sorted(ENCODERS)}, got {name!r}")
    arguments = dict(config)
    known = list(inspect.signature(ENCODERS[name]).parameters)
    if odd := sorted(set(arguments) - set(known)):
        raise ValueError(f"encoder {name!r} takes {known}, got {odd}")
    if "layer_table" in arguments:
        arguments["layer_table"] = LayerTable.from_json(arguments["layer_table"])
    return ENCODERS[name](**arguments)
