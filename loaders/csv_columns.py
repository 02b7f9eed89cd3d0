"""Columns from a CSV file, by model or by checkpoint.

Shape letters: N rows of the dataset.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..zoos.column_values import column_array
from .dataset.zoo_dataset import ZooDataset

_KEYS = ("model_id", "epoch")


def add_csv_columns(zoo: ZooDataset, path: str | Path) -> ZooDataset:
    """The same rows with the columns of a CSV file; rows that it leaves out have missing values.

    Args:
        zoo: N rows.
        path: CSV file with a header, a column `model_id`, and `epoch` if values differ by
            checkpoint. A column becomes numbers if all its cells are numbers.

    Raises:
        ValueError: if the file is no such table, names a row twice, or no row of the zoo.
        KeyError: if the zoo was loaded without the columns by which rows are found.
    """
    path = Path(path)
    rows = _read(path)
    keys = [key for key in _KEYS if key in rows[0]]
    places = _places(path, rows, keys)
    own = list(zip(*(zoo.hidden_column(key, str(path)).tolist() for key in keys), strict=True))
    if unknown := sorted(set(places) - set(own)):
        raise ValueError(f"{path} names {keys} {unknown[0]}, and the zoo has no such row")
    for name in rows[0]:
        if name not in keys:
            values = _values([row[name] for row in rows])
            zoo = zoo.add_column(name, _spread(name, values, [places.get(key) for key in own]))
    return zoo


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error
    if not rows or "model_id" not in rows[0]:
        raise ValueError(f"{path} must have a header with the column model_id, and rows")
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path} has rows with more or fewer cells than its header")
    return rows


def _places(
    path: Path, rows: Sequence[Mapping[str, str]], keys: Sequence[str]
) -> dict[tuple[int, ...], int]:
    """The line of each model, or checkpoint."""
    places: dict[tuple[int, ...], int] = {}
    for place, row in enumerate(rows):
        try:
            key = tuple(int(row[name]) for name in keys)
        except ValueError as error:
            raise ValueError(f"{path}: {list(keys)} must be whole numbers, got {row}") from error
        if key in places:
            raise ValueError(f"{path} names {list(keys)} {key} twice")
        places[key] = place
    return places


def _values(cells: Sequence[str]) -> list[Any]:
    """Cells as whole numbers or numbers where all are, else as text; None where empty."""
    for kind in (int, float):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _spread(name: str, values: Sequence[Any], places: Sequence[int | None]) -> np.ndarray:
    """The value of each row of the zoo, None where the file has none."""
    return column_array(name, [None if place is None else values[place] for place in places])
