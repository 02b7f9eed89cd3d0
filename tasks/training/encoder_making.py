"""Makes encoders by name, with the caller's own factory, or from a saved config."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from ...encoders.registry import (
    ENCODERS,
    EncoderEntry,
    encoder_entry,
    known_entries,
    loaded_entry,
    own_entry,
    register_encoder,
    with_config,
)
from ...zoos.errors import UnsuitableError, did_you_mean
from ...zoos.networks.layer_table import LayerTable
from ...zoos.strict_json import json_text
from .settings import TrainingSettings

PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class EncoderSpec:
    """Name and options of an encoder to make.

    Attributes:
        name: name of an encoder (`encoders.encoder_names()`), or "package.module:Class".
        options: arguments of the encoder that differ from its defaults.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks.training.encoder_making import EncoderSpec, make_encoder
        >>> train = load_zoo(ZOO, split="train")
        >>> encoder = make_encoder(EncoderSpec("flat-mlp"), [train.layer_table], outputs=1)
        >>> encoder(train.weights([0, 1]), train.layer_table).shape
        torch.Size([2, 1])
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Take a registered class along to worker processes, which have not registered it."""
        entry = known_entries().get(self.name)
        return _spec, (self.name, self.options, entry.own_class if entry else None)


def _spec(name: str, options: Mapping[str, Any], own_class: type[nn.Module] | None) -> EncoderSpec:
    if own_class is not None:
        register_encoder(name, own_class)
    return EncoderSpec(name, options)


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
        entry, options = encoder_entry(encoder.name), {**encoder.options, "outputs": outputs}
        return _made(encoder.name, entry, options, tables[0])
    table = {"layer_table": tables[0]} if _is_tied(encoder) else {}
    made: nn.Module = encoder(outputs=outputs, **table)
    if isinstance(_function(encoder), type):
        arguments = {**getattr(encoder, "keywords", {}), "outputs": outputs}
        made = with_config(made, arguments, tables[0] if table else None)
    return made


def untied_encoders() -> list[str]:
    """Names of the encoders that take any number of architectures."""
    return [name for name, entry in ENCODERS.items() if entry.several_architectures]


def encoder_name(module: nn.Module) -> str:
    """Name of an encoder: of this package, registered, or "package.module:Class"."""
    # the entry with the most options: "sne-paper" is an "sne" too
    by_options = sorted(known_entries().items(), key=lambda item: -len(item[1].options))
    for name, entry in by_options:
        options = entry.options.items()
        if entry.class_name == type(module).__qualname__ and entry.load() is type(module):
            if all(encoder_config(module).get(key) == value for key, value in options):
                return name
    return encoder_path(module)


def encoder_path(module: nn.Module) -> str:
    """The class of an encoder as "package.module:Class"."""
    return f"{type(module).__module__}:{type(module).__qualname__}"


def encoder_config(module: nn.Module) -> dict[str, Any]:
    """The arguments that an encoder was made with, as plain data.

    Raises:
        ValueError: if its attribute `config` is no mapping to values of JSON.
    """
    config = getattr(module, "config", {})
    try:
        json_text(config := dict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(module).__name__}.config must be a dict of constructor arguments, with "
            f"numbers, texts, lists and dicts, so that the encoder can be saved, got {config!r} "
            f"({error}): name the attribute differently, or leave it out"
        ) from error
    return config


def remake_encoder(
    name: str,
    config: Mapping[str, Any],
    layer_table: Any,
    path: str | None = None,
    handed: EncoderEntry | None = None,
) -> nn.Module:
    """An untrained encoder from saved data; a class that only the data name is never imported.

    Args:
        name: name of the encoder in the data.
        config: arguments of the encoder.
        layer_table: layer table as JSON; None for an encoder that is not tied to an architecture.
        path: "package.module:Class" in the data of a class outside this package.
        handed: class that the caller hands over; None takes an encoder of this package or a
            registered one.

    Raises:
        ValueError: if the name or an argument is unknown (the known ones are listed), or the
            class is not the one that was saved.
    """
    entry = loaded_entry(name, path) if handed is None else _checked(handed, name, path)
    table = LayerTable.from_json(layer_table) if layer_table else None
    return _made(name, entry, config, table)


def describe_encoder(encoder: EncoderFactory) -> dict[str, Any]:
    """Name and options of an encoder to make, and the source of a user's class, as plain data."""
    if isinstance(encoder, EncoderSpec):
        entry = encoder_entry(encoder.name)
        plain: dict[str, Any] = {"encoder": encoder.name, "options": dict(encoder.options)}
        return plain | source_of(entry.load() if entry.own_class else None)
    options = getattr(encoder, "keywords", {})
    plain = {"encoder": _name(encoder), "options": {k: str(v) for k, v in options.items()}}
    return plain | source_of(_function(encoder))


def is_own(encoder: Any) -> bool:
    """Whether a class or function is a user's, and not of this package."""
    return not str(getattr(encoder, "__module__", "")).startswith(f"{PACKAGE}.")


def source_of(own: Any) -> dict[str, str]:
    """Checksum of the file that defines a class or function outside this package.

    A changed file is another encoder, whose results and checkpoints are not reused. Empty for code
    of this package, whose version is recorded, and for code that lies in no file.
    """
    if own is None or not is_own(own):
        return {}
    try:
        file = inspect.getsourcefile(own)
        return {"source": hashlib.sha256(Path(file or "").read_bytes()).hexdigest()}
    except (TypeError, OSError):
        return {}


def handed_entry(encoder: type[nn.Module] | str | None) -> EncoderEntry | None:
    """The entry of a class, or of a name of it, that a caller hands over.

    Raises:
        ValueError: if there is no such encoder, or it is no class of encoders.
    """
    if encoder is None:
        return None
    return encoder_entry(encoder) if isinstance(encoder, str) else own_entry(encoder)


def _checked(entry: EncoderEntry, name: str, path: str | None) -> EncoderEntry:
    """The entry that a caller hands over, if it is the class of the saved data."""
    if path is None and name in ENCODERS:
        if entry.load() is not ENCODERS[name].load():
            raise ValueError(
                f"it holds the encoder {name!r} of weightzoo, got {entry.path!r}: leave out encoder"
            )
        return ENCODERS[name]
    saved = (path or name).rpartition(":")[2]
    if entry.class_name.rpartition(".")[2] != saved.rpartition(".")[2]:
        raise ValueError(
            f"it was saved from the class {saved!r} ({path or name}), got {entry.path!r}: hand "
            "over that class"
        )
    return entry


def _training_hint(names: Iterable[str]) -> str:
    """Where to set what is no option of an encoder, as the end of an error message."""
    settings = sorted({one.name for one in fields(TrainingSettings)} & set(names))
    if not settings:
        return ""
    return (
        f"; set {settings} in TrainingSettings(...), or with options of the command such as "
        "--epochs N"
    )


def _made(
    name: str, entry: EncoderEntry, options: Mapping[str, Any], table: LayerTable | None
) -> nn.Module:
    parameters = inspect.signature(entry.load()).parameters
    known = [key for key in parameters if key != "layer_table"]
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    if (odd := sorted(set(options) - set(known))) and not every:
        hint = _training_hint(odd) or did_you_mean(odd, known)
        raise ValueError(f"encoder {name!r} takes {known}, got {odd}{hint}")
    try:
        return entry.make(table, **options)
    except TypeError as error:  # a value of a wrong type, e.g. text for a number
        given = {key: value for key, value in options.items() if key != "outputs"}
        defaults = {key: parameters[key].default for key in given if key in parameters}
        raise ValueError(
            f"encoder {name!r} cannot be made with {given!r}: {error}; "
            f"the defaults are {defaults!r}"
        ) from error


def _is_tied(encoder: EncoderFactory) -> bool:
    if isinstance(encoder, EncoderSpec):
        return not encoder_entry(encoder.name).several_architectures
    return "layer_table" in inspect.signature(encoder).parameters


def _function(encoder: Callable[..., nn.Module]) -> Any:
    """The function or class inside a partial."""
    return getattr(encoder, "func", encoder)


def _name(encoder: Callable[..., nn.Module]) -> str:
    made = _function(encoder)
    return str(getattr(made, "__name__", made))
