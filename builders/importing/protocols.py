"""Applies a published protocol to the models of a scan, before their weights are read.

Shape letters: N checkpoints of all models, K checkpoints of one model.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ...zoos.protocols.definitions import find_protocol
from ...zoos.protocols.protocol import LEFT_OUT
from .columns import ColumnPlan
from .models import FoundModel, Scan


def apply_protocol(scan: Scan, name: str, format: str, split_file: Path | None) -> dict[str, Any]:
    """Keep the checkpoints of a protocol only, with its splits.

    A model that the protocol cuts becomes one model per split, of the same name.

    Args:
        scan: models found, with their stored or drawn splits; models and notes are changed.
        name: name of the protocol.
        format: name of the published format.
        split_file: published file of splits, or None.

    Returns:
        Description of the splits, for the header.

    Raises:
        BuildError: if the protocol is of another format, or does not fit models or file.
    """
    try:
        protocol = find_protocol(name)
        if format not in protocol.formats:
            raise ValueError(
                f"protocol {name!r} is for the formats {list(protocol.formats)}, got {format!r}"
            )
        columns = ColumnPlan.of(scan.models).columns(scan.models, range(len(scan.models)))
        found = protocol.apply(columns, split_file)
    except ValueError as error:
        raise BuildError(str(error)) from error
    kept, first = list[FoundModel](), 0
    for model in scan.models:
        last = first + len(model.locations)
        split = found.split[first:last]
        kept += [_part(model, part, split == part) for part in np.unique(split) if part != LEFT_OUT]
        first = last
    scan.models = kept
    scan.notes += found.notes
    return found.description


def _part(model: FoundModel, split: str, keep: np.ndarray) -> FoundModel:
    """The checkpoints of a model that are in one split."""
    if keep.all():
        return replace(model, split=split)
    rows = np.flatnonzero(keep).tolist()
    return replace(
        model,
        split=split,
        locations=[model.locations[row] for row in rows],
        epochs=model.epochs[rows],
        metrics={name: values[rows] for name, values in model.metrics.items()},
        properties={name: _values(value, rows) for name, value in model.properties.items()},
        diverged=None if model.diverged is None else model.diverged[rows],
    )


def _values(value: Any, rows: list[int]) -> Any:
    """A property of some checkpoints: one value for all, or one each."""
    if isinstance(value, np.ndarray):
        return value[rows]
    return [value[row] for row in rows] if isinstance(value, list) else value
