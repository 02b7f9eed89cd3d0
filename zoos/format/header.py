"""The header of a zoo file: JSON root attributes that say what its rows are."""

import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ZooFormatError
from ..networks.architectures import Architecture
from ..networks.layer_table import LayerTable
from ..strict_json import json_text
from .columns import checksum

FORMAT_VERSION = "1.1"  # readers take every minor version of the same major version
MOST_JSON_DEPTH = 64  # levels of nested lists and objects; 16 nested residuals take 33
LONGEST_MESSAGE = 1000  # about a value of a file, which may be long
ATTRIBUTE_LIMIT_BYTES = 2_000_000  # 8,000 tensors; text lies in a heap, which has no such limit

_JSON_ATTRIBUTES = (
    "architecture",
    "layer_table",
    "hyper_parameters",
    "recipe",
    "split",
    "provenance",
    "checksums",
)


@dataclass(frozen=True, kw_only=True)
class ZooHeader:
    """Description of a zoo file in its root attributes.

    Attributes:
        architecture: description from which the torch module is rebuilt; None if only the layer
            table is known (some imported zoos).
        layer_table: position of each tensor in a row of `weights`.
        hyper_parameters: names of the columns that are hyper-parameters.
        recipe: resolved recipe, plain data.
        split: rule that assigned models to splits, {by, fractions, seed}.
        provenance: versions, device, times and fingerprint of the image set, plain data.
        checksums: "sha256:..." of each column, see `checksum`; empty while a build runs.
    """

    architecture: Architecture | None
    layer_table: LayerTable
    hyper_parameters: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)


def check_format_version(path: Path, version: str) -> None:
    """Reject a file of another major version.

    Args:
        path: path of the file, for the message.
        version: format version of the file.

    Raises:
        ZooFormatError: if the version is not of the major version of `FORMAT_VERSION`.
    """
    theirs, ours = (text.split(".")[0] for text in (version, FORMAT_VERSION))
    if theirs != ours:
        raise ZooFormatError(
            f"{path} has format version {version!r}, this weightzoo reads {ours}.x: install a "
            f"weightzoo that reads {theirs}.x, or take a copy or revision of format {ours}.x"
        )


def check_room_for_checksums(header: ZooHeader, names: Iterable[str]) -> None:
    """Reject a header that would be too long with its checksums, before any work is done.

    Args:
        header: header without checksums.
        names: names of all columns.

    Raises:
        ZooFormatError: if an attribute would be too long.
    """
    longest = dict.fromkeys(names, checksum(np.zeros(0)))
    _attribute("checksums", replace(header, checksums=longest))


def write_header(file: h5py.File, header: ZooHeader) -> None:
    """Write the root attributes.

    Args:
        file: the open file.
        header: root attributes.

    Raises:
        ZooFormatError: if an attribute is too long.
    """
    for name in _JSON_ATTRIBUTES:
        file.attrs[name] = _attribute(name, header)


def _attribute(name: str, header: ZooHeader) -> str:
    """A root attribute as JSON text."""
    value = getattr(header, name)
    text = json_text(value.to_json() if hasattr(value, "to_json") else value)
    if len(text.encode()) > ATTRIBUTE_LIMIT_BYTES:
        raise ZooFormatError(
            f"attribute {name!r} takes {len(text.encode())} bytes, "
            f"allowed are {ATTRIBUTE_LIMIT_BYTES}: shorten it"
        )
    return text


def read_header(path: Path, file: h5py.File) -> ZooHeader:
    """Read and check the root attributes.

    Args:
        path: path of the file, for messages.
        file: the open file.

    Raises:
        ZooFormatError: if the file has another format version, or an attribute is missing, wrong,
            too long, or contradicts another.
    """
    version = file.attrs.get("format_version")
    if version is None:
        raise ZooFormatError(
            f"{path} is not a weightzoo file: it has no attribute 'format_version'"
        )
    check_format_version(path, str(version))
    data = {name: _read_json(path, file, name) for name in _JSON_ATTRIBUTES}
    spec = data.pop("architecture")
    try:
        header = ZooHeader(
            architecture=None if spec is None else Architecture.from_json(spec),
            layer_table=LayerTable.from_json(data.pop("layer_table")),
            hyper_parameters=tuple(data.pop("hyper_parameters")),
            **data,
        )
    except ZooFormatError as error:
        raise ZooFormatError(f"{path}: {str(error)[:LONGEST_MESSAGE]}") from error
    if header.architecture and header.architecture.layer_table() != header.layer_table:
        raise ZooFormatError(f"{path}: attributes 'architecture' and 'layer_table' differ")
    return header


def _read_json(path: Path, file: h5py.File, name: str) -> Any:
    try:
        text = file.attrs[name]
        value = json.loads(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ZooFormatError(f"{path} has no readable JSON attribute {name!r}") from error
    if len(text) > ATTRIBUTE_LIMIT_BYTES:
        raise ZooFormatError(
            f"{path}: attribute {name!r} takes {len(text)} bytes, allowed are "
            f"{ATTRIBUTE_LIMIT_BYTES}"
        )
    if not _has_type(name, value) or _depth(value) > MOST_JSON_DEPTH:
        raise ZooFormatError(
            f"{path} has a wrong JSON attribute {name!r}: {reprlib.repr(value):.200}"
        )
    return value


def _depth(value: Any) -> int:
    """Levels of nested lists and objects; not recursive, so that a deep value cannot exhaust it."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _has_type(name: str, value: Any) -> bool:
    """Whether an attribute has its type; architecture and layer table are checked elsewhere."""
    if name == "hyper_parameters":
        are_texts = isinstance(value, list) and all(isinstance(key, str) for key in value)
        return are_texts and len(set(value)) == len(value)
    if name == "checksums":
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    return name in ("architecture", "layer_table") or isinstance(value, dict)
