"""Groups models by their tensors: each group becomes one zoo."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...zoos.format import ATTRIBUTE_LIMIT_BYTES
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import LayerTable
from ...zoos.strict_json import json_text
from ..checkpoints.tensors import check_sizes
from ..checkpoints.unreadable import UnreadableFileError, reading, shown
from .layers import Signature, derive_layer_table, signature
from .models import FoundModel, Reader, Remark, Scan


@dataclass(frozen=True)
class Group:
    """Models of one layer table."""

    architecture: Architecture | None
    table: LayerTable
    models: list[FoundModel]
    digest: str


def group_models(scan: Scan, reader: Reader) -> list[Group]:
    """Group models by the tensors of their first readable checkpoint.

    A model without a readable checkpoint is refused. The largest group comes first.

    Args:
        scan: models found; refused models are added.
        reader: reader of the published format.
    """
    groups: dict[Signature, Group] = {}
    for model in scan.models:
        with scan.refusing(model.name):
            tensors = _first_tensors(model, reader)
            key = signature(tensors)
            if key not in groups:
                groups[key] = _new_group(tensors, key, reader)
                scan.notes += reader.notes(tensors)
            groups[key].models.append(model)
            if wide := [name for name, _, dtype in key if dtype == "float64"]:
                reason = f"float64 values are rounded to float32, such as those of {shown(wide[0])}"
                scan.remarks.append(Remark(model.name, reason))
    fitting = [group for group in groups.values() if _fits(group, scan)]
    return sorted(fitting, key=lambda group: (-len(group.models), group.models[0].name))


def _new_group(tensors: Mapping[str, Any], key: Signature, reader: Reader) -> Group:
    architecture = reader.architecture(tensors)
    table = architecture.layer_table() if architecture else derive_layer_table(tensors)
    return Group(architecture, table, [], hashlib.sha256(repr(key).encode()).hexdigest())


def _first_tensors(model: FoundModel, reader: Reader) -> Mapping[str, Any]:
    failure = UnreadableFileError("has no checkpoint")
    for row in range(len(model.locations)):
        try:
            with reading():
                tensors = reader.open(model, row).tensors
                check_sizes(tensors, reader.size_bytes(model, row))
                return tensors
        except UnreadableFileError as error:
            failure = error
    raise failure


def _fits(group: Group, scan: Scan) -> bool:
    """Refuse models whose layer table is too long for a file's header."""
    size = len(json_text(group.table.to_json()))
    if size <= ATTRIBUTE_LIMIT_BYTES:
        return True
    reason = f"its {len(group.table)} tensors take a layer table of {size} bytes, which is too long"
    scan.refused += [Remark(model.name, reason) for model in group.models]
    return False


def folder_names(groups: Sequence[Group]) -> list[str]:
    """Names of the zoos of a collection, with a digest of the tensors where two would be equal."""
    plain = []
    for group in groups:
        kind = "cnn" if any(tensor.kind == "conv" for tensor in group.table) else "net"
        name = group.architecture.name if group.architecture else kind
        plain.append(f"{name}-{group.table.parameters}")
    return [
        name if plain.count(name) == 1 else f"{name}-{group.digest[:8]}"
        for name, group in zip(plain, groups, strict=True)
    ]
