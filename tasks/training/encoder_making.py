"""Makes encoders by name, with the caller's own factory, or from a saved config."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...encoders.registry import ENCODERS, encoder_entry
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable

SNE_CONFIG: dict[str, Any] = {
    "width": 16,
    "heads": 1,
    "blocks": 1,
}  # chosen on the val split, see LOG.md


@dataclass(frozen=True)
class EncoderSpec:
    """Name and options of an encoder to make.

    Attributes:
        name: a key of `encoders.ENCODERS`.
        options: arguments of the encoder that differ from its defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


EncoderFactory = EncoderSpec | Callable[..., nn.Module]
"""A spec, or a function of `outputs`, and of `layer_table` if it is tied to one architecture."""


def make_encoder(encoder: EncoderFactory, tables: Sequence[LayerTable], outputs: int) -> nn.Module:
    """Make an untrained encoder.

    Args:
        encoder: encoder to make.
        tables: layer tables of the train zoos.
        outputs: number of outputs.

    Raises:
        ValueError: if there is no such encoder or argument, if it cannot take the architecture,
            or if it is tied to one architecture and there are several; the encoders for several
            architectures are named.
    """
    name = encoder.name if isinstance(encoder, EncoderSpec) else _name(encoder)
    if _is_tied(encoder) and len(set(tables)) > 1:
        raise UnsuitableError(
            f"{name} is tied to one architecture, the zoos have {len(set(tables))}: take one of "
            f"{untied_encoders()}"
        )
    if isinstance(encoder, EncoderSpec):
        return _made(encoder.name, {**encoder.options, "outputs": outputs}, tables[0])
    table = {"layer_table": tables[0]} if _is_tied(encoder) else {}
    return encoder(outputs=outputs, **table)


def untied_encoders() -> list[str]:
    """Names of the encoders that take any number of architectures."""
    return [name for name, entry in ENCODERS.items() if entry.several_architectures]


def encoder_name(module: nn.Module) -> str:
    """The key of an encoder in `encoders.ENCODERS`.

    Raises:
        ValueError: if it is not one of them.
    """
    for name, entry in ENCODERS.items():
        options = entry.options.items()
        if entry.class_name == type(module).__name__ and entry.load() is type(module):
            if all(encoder_config(module).get(key) == value for key, value in options):
                return name
    raise ValueError(
        f"{type(module).__name__} is not one of the encoders {list(ENCODERS)}: only these can be "
        "saved and loaded"
    )


def encoder_config(module: nn.Module) -> dict[str, Any]:
    """The arguments that an encoder was made with, as plain data."""
    return dict(getattr(module, "config", {}))


def remake_encoder(name: str, config: Mapping[str, Any], layer_table: Any) -> nn.Module:
    """An untrained encoder from saved data.

    Args:
        name: a key of `encoders.ENCODERS`.
        config: arguments of the encoder.
        layer_table: layer table as JSON; None for an encoder that is not tied to an architecture.

    Raises:
        ValueError: if the name or an argument is unknown; the known ones are listed.
    """
    return _made(name, config, LayerTable.from_json(layer_table) if layer_table else None)


def describe_encoder(encoder: EncoderFactory) -> dict[str, Any]:
    """Name and options of an encoder to make, as plain data."""
    if isinstance(encoder, EncoderSpec):
        return {"encoder": encoder.name, "options": dict(encoder.options)}
    options = getattr(encoder, "keywords", {})
    return {"encoder": _name(encoder), "options": {k: str(v) for k, v in options.items()}}


def _made(name: str, options: Mapping[str, Any], table: LayerTable | None) -> nn.Module:
    entry = encoder_entry(name)
    parameters = inspect.signature(entry.load()).parameters
    known = [key for key in parameters if key != "layer_table"]
    if odd := sorted(set(options) - set(known)):
        raise ValueError(f"encoder {name!r} takes {known}, got {odd}")
    try:
        return entry.make(table, **options)
    except TypeError as error:  # a value of a wrong type, e.g. text for a number
        given = {key: value for key, value in options.items() if key != "outputs"}
        defaults = {key: parameters[key].default for key in given}
        raise ValueError(
            f"encoder {name!r} cannot be made with {given!r}: {error}; "
            f"the defaults are {defaults!r}"
        ) from error


def _is_tied(encoder: EncoderFactory) -> bool:
    if isinstance(encoder, EncoderSpec):
        return not encoder_entry(encoder.name).several_architectures
    return "layer_table" in inspect.signature(encoder).parameters


def _name(encoder: Callable[..., nn.Module]) -> str:
    made = getattr(encoder, "func", encoder)  # the function inside a partial
    return str(getattr(made, "__name__", made))
