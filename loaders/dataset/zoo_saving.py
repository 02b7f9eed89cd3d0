"""`save_zoo`: datasets become a whole zoo folder, which opens, verifies and can be published.

Shape letters: N rows of all datasets.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.column_values import check_splits_by_model
from ...zoos.folder_identity import Identity
from ...zoos.format import IDENTITY, SPLITS, ZooHeader, checksum
from ...zoos.index import SPLIT_WORDS, ZooIndex
from ...zoos.partial_folder import partial_folder
from ...zoos.provenance import imported_from, package_version
from ...zoos.zoo_folder import write_zoo_rows
from .joining import ZOO
from .row_protocol import ZooRows
from .saving import kept_hyper_parameters

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_dataset(
    dataset: ZooRows,
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    description: str | None = None,
    overwrite: bool = False,
) -> ZooIndex:
    """Write the rows of a dataset as a zoo folder, with all loaded columns.

    Args:
        dataset: N rows; the column `split` says which split each is in.
        folder: the zoo folder to make.
        name: the zoo's name; None takes the folder's.
        licence: the Hub's word for its licence; None keeps that of the zoo it is made from.
        description: a line for the card; None keeps that of the zoo it is made from.
        overwrite: replace a zoo at `folder`.

    Returns:
        The index of the new zoo.

    Raises:
        ValueError: if there is no row, a column that every zoo has was not loaded, a row is there
            twice, or a model is in two splits.
        BuildError: if the folder is taken.
    """
    folder = Path(folder)
    name = name or folder.resolve().name
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be written in letters, digits, dots and dashes, got {name!r}")
    columns = _columns(dataset)
    header = _header(dataset, name, licence, description)
    settings: dict[str, Any] = {
        key: checksum(columns[key]) for key in ("model_id", "epoch", "split") if key in columns
    }
    with partial_folder(folder, Identity("save", dataset.name, settings), overwrite) as held:
        if not held.is_done:
            held.is_planned({}, overwrite=True)  # what a kill left is written anew
            write_zoo_rows(
                held.finished,
                name,
                header,
                columns,
                lambda rows: dataset.source.take(dataset.rows[rows], _room(dataset, len(rows))),
            )
        return ZooIndex.read(held.out if held.is_done else held.finished)


def split_of(key: str) -> str:
    """Our word for a key of a dict of splits.

    Raises:
        ValueError: if it is no split.
    """
    if key not in SPLIT_WORDS:
        raise ValueError(f"keys must be splits of {SPLITS}, got {key!r}")
    return SPLIT_WORDS[key]


def _room(dataset: ZooRows, rows: int) -> np.ndarray:
    return np.empty((rows, dataset.source.width), np.float32)


def _columns(dataset: ZooRows) -> dict[str, np.ndarray]:
    """All loaded columns, checked."""
    table = dataset.table
    needed = (*IDENTITY, *kept_hyper_parameters(dataset))
    if missing := [name for name in needed if name not in table.names]:
        raise ValueError(f"a zoo needs the columns {missing}: load the zoo with them")
    if len(dataset) == 0:
        raise ValueError("there is no row to save: does the filter leave any?")
    columns = {name: table.column(name, dataset.rows) for name in table.names}
    _check_rows(columns)
    check_splits_by_model(columns["model_id"], columns["split"])
    return columns


def _check_rows(columns: Mapping[str, np.ndarray]) -> None:
    """Refuse two rows of one model and epoch."""
    zoos = columns.get(ZOO, [""] * len(columns["epoch"]))
    seen: set[tuple[Any, ...]] = set()
    for row in zip(zoos, columns["model_id"].tolist(), columns["epoch"].tolist(), strict=True):
        if row in seen:
            raise ValueError(
                f"model {row[1]} has two rows of epoch {row[2]}: a zoo holds each row once"
            )
        seen.add(row)


def _headers(dataset: ZooRows) -> list[tuple[str, ZooHeader]]:
    """One header of each zoo that the rows lie in."""
    starts = np.concatenate([[0], np.cumsum(dataset.source.files.counts)])
    used = np.unique(np.searchsorted(starts, dataset.rows, side="right") - 1)
    found: dict[Path, ZooHeader] = {}
    for place in used.tolist():
        file = dataset.source.files[place]
        found.setdefault(file.path.parent, file.header)
    return [(path.name, header) for path, header in found.items()]


def _header(dataset: ZooRows, name: str, licence: str | None, description: str | None) -> ZooHeader:
    """What the new zoo says of itself."""
    headers = _headers(dataset)
    first = headers[0][1]
    recipe: dict[str, Any] = {"zoos": _recipes(headers)}
    if len(headers) == 1:
        recipe = dict(first.recipe)
    recipe |= {"name": name}
    if description is not None or "description" not in recipe:
        recipe["description"] = description or f"rows of {dataset.name}"
    header = replace(
        first,
        hyper_parameters=kept_hyper_parameters(dataset),
        recipe=recipe,
        split=dict(dataset.splitting) if len(headers) == 1 else {"by": "given"},
        provenance=_provenance(headers, licence),
        checksums={},
    )
    if dataset.layer_table != first.layer_table:
        return replace(header, architecture=None, layer_table=dataset.layer_table)
    return header


def _recipes(headers: Sequence[tuple[str, ZooHeader]]) -> list[dict[str, Any]]:
    return [{"folder": name, "name": header.recipe.get("name", name)} for name, header in headers]


def _provenance(headers: Sequence[tuple[str, ZooHeader]], licence: str | None) -> dict[str, Any]:
    """That of the one zoo, or the names of several and what their rights descend from."""
    if len(headers) == 1:
        provenance = dict(headers[0][1].provenance)
    else:
        provenance = {"joined": [name for name, _ in headers], "weightzoo": package_version()}
        imported = (imported_from(header.provenance) for _, header in headers)
        if parent := next(filter(None, imported), {}):
            provenance["parent"] = {"name": headers[0][0]} | parent
        licences = {header.provenance.get("licence") for _, header in headers}
        stated = licences.pop() if len(licences) == 1 else None
        if stated or licences:
            provenance["licence"] = stated or "other"
    if licence is not None:
        provenance["licence"] = licence
    return provenance | {"saved_with": package_version()}
