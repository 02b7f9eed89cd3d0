"""The published tables of merging results, where a folder with them is named."""

import csv
import os
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = os.environ.get("WEIGHTZOO_TABLES")
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="WEIGHTZOO_TABLES does not name the folder of published tables"
)


CUT_NOT_ROUNDED = 4  # averages that the page cut off after the first decimal


def averages() -> list[tuple[float, float]]:
    """(mean of the eight tasks, printed average) of every row that has both."""
    rows: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with (Path(str(FOLDER)) / "merge_fusionbench_clip_vit.csv").open() as file:
        for cell in csv.DictReader(file):
            if cell["value"].replace(".", "").isdigit():
                rows[cell["table"], cell["row"]][cell["column"]] = float(cell["value"])
    whole = [row for row in rows.values() if "Average" in row and len(row) == 9]
    return [((sum(row.values()) - row["Average"]) / 8, row["Average"]) for row in whole]


def test_averages_of_the_published_table_follow_from_its_columns() -> None:
    found = averages()
    differing = [pair for pair in found if abs(pair[0] - pair[1]) > 0.0501]
    assert len(found) == 85 and len(differing) == CUT_NOT_ROUNDED
    assert all(0 < mean - printed < 0.1 for mean, printed in differing)
