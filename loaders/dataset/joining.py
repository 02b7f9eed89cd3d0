"""Column tables of joined datasets: columns that one lacks, and models that share an id.

Shape letters: N rows of a dataset.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.column_values import missing_values
from ...zoos.format import IDENTITY
from ...zoos.index import INDEX_NAME
from ...zoos.lineage import LINEAGE, Lineage
from ..storage.columns import ColumnTable
from .row_protocol import ZooRows
from .table_edits import with_columns

SAME_IDS = ("refuse", "renumber", "keep")
ZOO, ZOO_MODEL_ID = "zoo", "zoo_model_id"


def joined_table(zoos: Sequence[ZooRows], same_ids: str) -> ColumnTable:
    """The columns of all rows of all files, one dataset after the other.

    Args:
        zoos: datasets of equal layer tables.
        same_ids: what is done where zoos share a `model_id`, one of `SAME_IDS`.

    Raises:
        ValueError: if zoos share a `model_id` and that is refused, a column holds text in one and
            numbers in another, or one lacks a column that every zoo has.
    """
    if same_ids not in SAME_IDS:
        raise ValueError(f"same_ids must be one of {SAME_IDS}, got {same_ids!r}")
    tables = [zoo.table for zoo in zoos]
    if clash := _clashes(zoos):
        tables = _kept_apart(zoos, same_ids, clash)
    kinds = [{name: table.kinds[name] for name in table.names} for table in tables]
    if all(list(own.items()) == list(kinds[0].items()) for own in kinds):
        return ColumnTable.joined(tables)
    return _filled(zoos, tables)


def _filled(zoos: Sequence[ZooRows], tables: Sequence[ColumnTable]) -> ColumnTable:
    """A table with the columns of all, missing values where a zoo lacks one."""
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    for zoo, table in zip(zoos, tables, strict=True):
        if lacking := [name for name in IDENTITY if name in names and name not in table.names]:
            raise ValueError(
                f"zoo {zoo.name!r} was loaded without the columns {lacking}, and another with "
                "them: load both with the same columns=[...]"
            )
    columns = {name: _column(name, tables) for name in dict.fromkeys([*names, "split"])}
    files = tables[0].files.joined(table.files for table in tables[1:])
    aliases = {k: v for table in tables for k, v in table.aliases.items()}
    return ColumnTable.of_columns(files, columns, names, aliases)


def _column(name: str, tables: Sequence[ColumnTable]) -> np.ndarray:
    """One column of all tables."""
    kinds = [table.kinds[name] for table in tables if name in table.kinds]
    if len({kind.kind == "O" for kind in kinds}) > 1:
        raise ValueError(
            f"column {name!r} holds text in one zoo and numbers in another: rename one of them"
        )
    parts = []
    for table in tables:
        count = int(table.files.counts.sum())
        if name in table.kinds:
            parts.append(table.column(name, np.arange(count)))
        elif name in LINEAGE:
            parts.append(_untold(name, count))
        else:
            parts.append(missing_values(name, kinds[0], count))
    return np.concatenate(parts)


def _untold(name: str, count: int) -> np.ndarray:
    """Lineage of a zoo that tells none: every row was trained from an initial state."""
    value: Any = getattr(Lineage(), name)
    return np.full(count, value, object if LINEAGE[name] is str else np.int64)


def _origins(zoo: ZooRows) -> frozenset[Path]:
    """The zoo folders, or single files, that the rows lie in."""
    return frozenset(
        path.parent if (path.parent / INDEX_NAME).is_file() else path
        for path in zoo.source.files.paths
    )


def _clashes(zoos: Sequence[ZooRows]) -> list[int]:
    """Ids of models that two zoos have which do not lie in the same folder."""
    if any("model_id" not in zoo.table.names for zoo in zoos):
        return []
    found: set[int] = set()
    seen: list[tuple[frozenset[Path], np.ndarray]] = []
    for zoo in zoos:
        own, ids = _origins(zoo), np.unique(zoo.table.column("model_id", zoo.rows))
        for other, known in seen:
            if not (own <= other or other <= own):
                found.update(np.intersect1d(ids, known).tolist())
        seen.append((own, ids))
    return sorted(found)


def _kept_apart(zoos: Sequence[ZooRows], same_ids: str, clash: Sequence[int]) -> list[ColumnTable]:
    """Tables that say of each row which zoo it is from, with ids of their own if asked for."""
    if same_ids == "refuse":
        names = [zoo.name for zoo in zoos]
        raise ValueError(
            f"the zoos {names} share {len(clash)} model ids, such as {clash[0]}, that may stand "
            "for different models: give same_ids='renumber' for new ids, or 'keep' to tell them "
            f"apart by a column {ZOO!r}"
        )
    labels = _labels(zoos)
    all_ids = [zoo.table.column("model_id", zoo.rows) for zoo in zoos]
    new_ids = _new_ids(labels, all_ids)
    tables = []
    for zoo, label, ids in zip(zoos, labels, all_ids, strict=True):
        columns: dict[str, np.ndarray] = {}
        if ZOO not in zoo.table.kinds:
            columns[ZOO] = np.full(len(ids), label, object)
        if same_ids == "renumber":
            if ZOO_MODEL_ID not in zoo.table.kinds:
                columns[ZOO_MODEL_ID] = ids
            known, first = new_ids[label]
            is_first = label == labels[0]
            columns["model_id"] = ids if is_first else first + np.searchsorted(known, ids)
        tables.append(with_columns(zoo, columns))
    return tables


def _new_ids(
    labels: Sequence[str], all_ids: Sequence[np.ndarray]
) -> dict[str, tuple[np.ndarray, int]]:
    """The ids of each zoo, rising, and the number from which they are counted anew.

    The first zoo keeps its ids; parts of one zoo, such as its splits, are counted together.
    """
    found: dict[str, tuple[np.ndarray, int]] = {}
    next_id = 0
    for label in dict.fromkeys(labels):
        parts = [ids for own, ids in zip(labels, all_ids, strict=True) if own == label]
        known = np.unique(np.concatenate(parts))
        is_first = label == labels[0]
        found[label] = known, next_id
        next_id = int(known.max(initial=-1)) + 1 if is_first else next_id + len(known)
    return found


def _labels(zoos: Sequence[ZooRows]) -> list[str]:
    """A name for each zoo; parts of one folder share theirs, others of the same name do not."""
    labels: dict[frozenset[Path], str] = {}
    for zoo in zoos:
        own, label, number = _origins(zoo), zoo.name, 2
        if own in labels:
            continue
        while label in labels.values():
            label, number = f"{zoo.name}-{number}", number + 1
        labels[own] = label
    return [labels[_origins(zoo)] for zoo in zoos]
