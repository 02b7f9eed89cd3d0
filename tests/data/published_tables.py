"""Published tables, which are not part of the project: found through WEIGHTZOO_TABLES."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = os.environ.get("WEIGHTZOO_TABLES", "")

needs_tables = pytest.mark.skipif(
    not FOLDER, reason="WEIGHTZOO_TABLES does not name the folder of published tables"
)


def path(name: str) -> Path:
    """Path of a published file."""
    return Path(FOLDER) / name


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a table; a missing file fails, it does not skip."""
    with open(path(name), newline="") as file:
        return list(csv.DictReader(file))


def matrix(name: str) -> tuple[list[str], list[str], np.ndarray]:
    """(models, targets, values) of a table whose first column names the models."""
    table = rows(name)
    key, *targets = table[0]
    values = [[float(row[target]) for target in targets] for row in table]
    return [row[key] for row in table], targets, np.array(values)
