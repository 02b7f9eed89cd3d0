"""Architectures that a user names on the command line: a TOML file, or a torch module."""

import tomllib
from pathlib import Path
from typing import Any

from torch import nn

from ...zoos.named_objects import named_object
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.presets import resolve


def named_architecture(text: str) -> Architecture | nn.Module:
    """Read an architecture from a file, or import a module.

    Args:
        text: path of a TOML file with the table `architecture` of a recipe, or with its keys at the
            top; or "package.module:Name" of a module, or of a class or function that makes one
            without arguments.

    Raises:
        ValueError: if the text is neither, the file cannot be read, or the module cannot be made.
        ZooFormatError: if the table is no architecture.
    """
    if text.endswith(".toml"):
        return _read(Path(text))
    if ":" not in text:
        raise ValueError(
            f"architecture must be a file FILE.toml or a class MODULE:CLASS, got {text!r}"
        )
    found: Any = named_object(text)
    try:
        made = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # of the user's own code
        raise ValueError(
            f"{text} cannot be made without arguments ({type(error).__name__}: {error}): name a "
            "function that returns the module"
        ) from error
    if not isinstance(made, nn.Module | Architecture):
        raise ValueError(f"{text} must be a torch module, got {type(made).__name__}")
    return made


def _read(path: Path) -> Architecture:
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"no file {str(path)!r}: give a TOML file with an architecture") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}") from error
    return resolve(data.get("architecture", data))
