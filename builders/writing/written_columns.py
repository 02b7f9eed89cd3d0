"""The scalar columns of a zoo that a user writes, from what each row was added with.

Shape letters: N rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.column_values import check_splits_by_model, column_array
from ...zoos.format import IDENTITY, METRICS, WEIGHTS
from ...zoos.index import ZooIndex
from ...zoos.lineage import LINEAGE, NO_PARENT, check_lineage
from ...zoos.recipe import hyper_parameter_names
from .model_splits import SplitRule

UNKNOWN_EPOCH = UNKNOWN_SEED = -1  # as the importers have it
_PLAIN = (str, bool, int, float)


def plain_values(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one row as plain Python values, checked.

    Args:
        columns: value by name: text, numbers, booleans, None for what is missing.

    Raises:
        TypeError: if a value is none of these, or a column that every zoo has is of another type.
        ValueError: if a name is no name, or a value is not allowed.
    """
    plain = {name: _plain(name, value) for name, value in columns.items()}
    for name, value in plain.items():
        if not name.isidentifier() or name == WEIGHTS:
            raise ValueError(
                f"a column cannot be named {name!r}: take letters, digits and underscores, and "
                f"not {WEIGHTS!r}"
            )
        if value is not None:
            column_array(name, [value])
    return {name: value for name, value in plain.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # numpy scalar, tensor
        value = value.item()
    if value is not None and not isinstance(value, _PLAIN):
        raise TypeError(
            f"column {name!r} must hold text, a number or a boolean in each row, got "
            f"{type(value).__name__}"
        )
    return value


def zoo_columns(
    rows: Sequence[Mapping[str, Any]], parent: str, hyper_parameters: Sequence[str]
) -> dict[str, np.ndarray]:
    """All scalar columns in file order, without splits drawn.

    Args:
        rows: value by column name of each row.
        parent: name of the zoo that rows descend from, "" for none.
        hyper_parameters: names of the columns that are hyper-parameters.

    Returns:
        (N,) by name; "split" is "" where no split was given.

    Raises:
        TypeError: if a column holds text in some rows and numbers in others.
        ValueError: if a model with one parent does not say which.
        ZooFormatError: if the lineage contradicts itself.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    defaults = _defaults(names, parent)
    columns = {name: _column(name, rows, value) for name, value in defaults.items()}
    for name in hyper_parameters:
        columns[name] = _column(name, rows, None)
    unknown = np.full(len(rows), np.nan, np.float32)
    for name in METRICS:
        columns[name] = _column(name, rows, None) if name in names else unknown
    if "generalization_gap" not in names:
        columns["generalization_gap"] = columns["train_accuracy"] - columns["test_accuracy"]
    for name in names:
        if name not in columns:
            columns[name] = _column(name, rows, None)
    check_lineage(columns)
    _check_parents(columns)
    return columns


def _check_parents(columns: Mapping[str, np.ndarray]) -> None:
    """Refuse models with one parent that do not say which."""
    if "relation" not in columns:
        return
    one = np.isin(columns["relation"].astype(str), ("fine-tuned", "pruned"))
    if np.any(one & (columns["parent_model_id"] < 0)):
        raise ValueError(
            "models that are fine-tuned or pruned need the column parent_model_id, the model_id in "
            "the parents' zoo; give relation='merged' or 'generated' for models of many parents"
        )


def _column(name: str, rows: Sequence[Mapping[str, Any]], default: Any) -> np.ndarray:
    values = [row.get(name, default) for row in rows]
    if name == "split":
        column = np.empty(len(rows), object)
        column[:] = values
        return column
    return column_array(name, values)


def _defaults(names: Sequence[str], parent: str) -> dict[str, Any]:
    """What a row has that does not say it."""
    identity = {"epoch": UNKNOWN_EPOCH, "split": "", "seed": UNKNOWN_SEED, "status": "ok"}
    defaults: dict[str, Any] = {name: identity.get(name) for name in IDENTITY}
    if parent or set(names) & set(LINEAGE):
        relation = "fine-tuned" if parent else "trained"
        defaults |= dict(zip(LINEAGE, (relation, parent, NO_PARENT, NO_PARENT), strict=True))
    return defaults


def hyper_parameters_of(names: Sequence[str]) -> tuple[str, ...]:
    """Those columns that are hyper-parameters by their names."""
    return tuple(name for name in hyper_parameter_names() if name in names)


def fill_splits(
    columns: dict[str, np.ndarray], rule: SplitRule, parent: Path | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Give every row a split: as given, else as its parent has it, else drawn by model.

    Args:
        columns: all columns of all rows; "split" is "" where none was given.
        rule: rule by which splits are drawn.
        parent: zoo folder that the rows descend from, or None.

    Returns:
        (N,) splits, and what the header says of them.

    Raises:
        ValueError: if some rows have a split and others none, or a model has two.
    """
    ids, given = columns["model_id"], columns["split"]
    if np.all(given != ""):
        splits, how = column_array("split", given), {"by": "given"}
    elif np.any(given != ""):
        first = int(ids[given == ""][0])
        raise ValueError(f"model {first} has no split, and others have: give all, or none")
    elif parent is not None and np.all(columns["parent_model_id"] >= 0):
        splits, how = _parent_splits(parent, columns["parent_model_id"]), {"by": "parent"}
    else:
        drawn = rule.draw(ids.tolist())
        splits, how = np.array([drawn[model] for model in ids.tolist()], object), rule.to_json()
    check_splits_by_model(ids, splits)
    return splits, how


def _parent_splits(parent: Path, wanted: np.ndarray) -> np.ndarray:
    """The split that each parent model has."""
    known: dict[int, str] = {}
    for file in ZooIndex.read(parent).open(parent):
        own = file.read_columns(["model_id", "split"])
        known.update(zip(own["model_id"].tolist(), own["split"], strict=True))
    if odd := sorted(set(wanted.tolist()) - set(known)):
        raise ValueError(f"zoo {parent} has no model {odd[:5]}, which parent_model_id names")
    return np.array([known[model] for model in wanted.tolist()], object)
