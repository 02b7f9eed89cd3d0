"""Columns that users hand over, as the arrays that a zoo file holds.

A table may be a dict of sequences, a pandas frame or an Arrow table. Missing values are None, NaN
or what the library of the table has for them; a zoo file holds "" in place of a missing text, NaN
in place of a missing number, and whole numbers with a missing one as float64.

Shape letters: N rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .format import IDENTITY, METRICS, STATUSES
from .index import FILE_SPLITS, SPLIT_WORDS

Column = np.ndarray
_KINDS = "text, numbers or booleans"
_ACCURACIES = tuple(name for name in METRICS if name.endswith("accuracy"))


def table_columns(table: Any) -> dict[str, Column]:
    """The columns of a table, checked to be of one length.

    Args:
        table: a mapping of sequences by name, a pandas DataFrame, an Arrow table, or None.

    Returns:
        (N,) by name: int64, floating point, or str objects.

    Raises:
        TypeError: if it is no table.
        ValueError: if a column holds what no zoo file holds, or the columns differ in length.
    """
    columns = {name: column_array(name, values) for name, values in _named(table)}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must be of one length, got {lengths}")
    return columns


def _named(table: Any) -> list[tuple[str, Any]]:
    """Names and values of the columns of any table."""
    if table is None:
        return []
    if isinstance(table, Mapping):
        named = list(table.items())
    elif hasattr(table, "column_names") and hasattr(table, "column"):  # Arrow
        named = [(name, table.column(name)) for name in table.column_names]
    elif hasattr(table, "columns") and hasattr(table, "iloc"):  # pandas
        named = [(name, table[name]) for name in table.columns]
    else:
        raise TypeError(
            "columns must be a dict of sequences, a pandas DataFrame or an Arrow table, got "
            f"{type(table).__name__}"
        )
    if odd := [name for name, _ in named if not isinstance(name, str) or not name.isidentifier()]:
        raise ValueError(
            f"names of columns must be letters, digits and underscores, got {odd}: rename them"
        )
    return named


def column_array(name: str, values: Any) -> Column:
    """One column as a zoo file holds it.

    Args:
        name: name of the column; decides the type of those that every zoo has.
        values: (N,) text, numbers or booleans in an array, tensor, list, pandas or Arrow column.

    Returns:
        (N,): int64 for whole numbers and booleans, floating point, or str objects.

    Raises:
        TypeError: if it is a single value, or holds values of other types.
        ValueError: if a column that every zoo has gets a value that it does not allow.
    """
    column = _typed(name, _plain(name, values))
    if name in METRICS:
        column = _metric(name, column)
    elif name in IDENTITY:
        _check_identity(name, column)
    if name == "split":
        return _splits(column)
    return column


def missing_values(name: str, kind: np.dtype, count: int) -> Column:
    """A column of missing values.

    Args:
        name: name of the column.
        kind: type that the column has elsewhere, `object` for text.
        count: N.

    Returns:
        (N,): "" for text; NaN for numbers, in float64 where the column holds whole numbers.
    """
    if kind.kind == "O":
        return np.full(count, "", object)
    return np.full(count, np.nan, np.float64 if kind.kind in "iu" else kind)


def _plain(name: str, values: Any) -> Any:
    """The values as a numpy array, or as a list with None for what is missing."""
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TypeError(
            f"column {name!r} must hold one value per row, got the single value {values!r}: "
            f"give a list such as [{values!r}] * N"
        )
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    if hasattr(values, "to_pylist"):  # Arrow
        values = values.to_pylist()
    elif hasattr(values, "isna") and hasattr(values, "astype"):  # pandas
        gone = np.asarray(values.isna())
        plain = values.astype(object).tolist()
        values = [None if is_gone else value for value, is_gone in zip(plain, gone, strict=True)]
    return values


def _typed(name: str, values: Any) -> Column:
    """Values as int64, floats or str objects."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return _numbers(name, values)
    rows = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise TypeError(f"column {name!r} must have one value per row, got shape {values.shape}")
    known = [value for value in rows if not _is_missing(value)]
    if all(isinstance(value, str) for value in known) and (known or None in rows):
        return _texts(name, ["" if _is_missing(value) else value for value in rows])
    kinds = (bool, int, float, np.bool_, np.integer, np.floating)
    if odd := [value for value in known if not isinstance(value, kinds)]:
        raise TypeError(
            f"column {name!r} must hold {_KINDS}, all of one kind, got {odd[0]!r} of type "
            f"{type(odd[0]).__name__}"
        )
    whole = all(isinstance(value, int | np.integer | np.bool_) for value in known)
    if whole and len(known) == len(rows):
        return _numbers(name, np.array(rows))
    return np.array([np.nan if _is_missing(value) else value for value in rows], np.float64)


def _is_missing(value: Any) -> bool:
    return value is None or isinstance(value, float | np.floating) and bool(value != value)


def _numbers(name: str, values: np.ndarray) -> Column:
    """An array of numbers in a type that stock readers take."""
    if values.ndim != 1:
        raise TypeError(f"column {name!r} must have one value per row, got shape {values.shape}")
    if values.dtype.kind == "f":
        wide = np.float64 if values.itemsize > 4 else np.float32
        return values.astype(wide, copy=False)
    if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
        raise ValueError(f"column {name!r} holds {int(values.max())}, which 64 bits do not hold")
    return values.astype(np.int64)


def _texts(name: str, rows: Sequence[str]) -> Column:
    column = np.empty(len(rows), object)
    column[:] = rows
    for text in set(rows):
        if "\0" in text:
            raise ValueError(f"column {name!r} holds {text!r}: text must not hold zero bytes")
    return column


def _metric(name: str, column: Column) -> Column:
    """A metric as float32; accuracies are fractions."""
    if column.dtype.kind == "O":
        raise TypeError(f"column {name!r} must hold numbers, got text such as {column[0]!r}")
    if name in _ACCURACIES and (above := column[column > 1]).size:
        raise ValueError(
            f"column {name!r} must hold fractions from 0 to 1, got {float(above.max()):g}: divide "
            "percent by 100"
        )
    return column.astype(np.float32)


def _check_identity(name: str, column: Column) -> None:
    is_right = column.dtype.kind == ("O" if IDENTITY[name] is str else "i")
    if not is_right:
        kind = "text" if IDENTITY[name] is str else "whole numbers, none missing"
        raise TypeError(f"column {name!r} must hold {kind}, got {column.dtype}")
    if name == "status" and (odd := sorted(set(column) - set(STATUSES))):
        raise ValueError(f"column 'status' must hold values of {STATUSES}, got {odd}")
    if name == "model_id" and len(column) and column.min() < 0:
        raise ValueError(f"column 'model_id' must hold numbers from 0, got {column.min()}")


def _splits(column: Column) -> Column:
    if odd := sorted(set(column) - set(SPLIT_WORDS)):
        raise ValueError(
            f"column 'split' must hold values of {tuple(FILE_SPLITS)}, got {odd}: give each model "
            "one of them"
        )
    return _texts("split", [SPLIT_WORDS[word] for word in column])


def check_splits_by_model(model_id: Iterable[int], split: Iterable[str]) -> None:
    """Refuse a model whose checkpoints are in two splits.

    Args:
        model_id: model of each row, (N,).
        split: split of each row, (N,).

    Raises:
        ValueError: naming the first such model.
    """
    seen: dict[int, str] = {}
    for model, word in zip(model_id, split, strict=True):
        if seen.setdefault(int(model), word) != word:
            raise ValueError(
                f"model {int(model)} has rows in the splits {seen[int(model)]!r} and {word!r}: "
                "give all checkpoints of a model one split"
            )
