"""Counts as a table for people and as JSON for the record."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "WEIGHTZOO_ATTACKS"  # folder for the JSON


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys, one line each."""
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def show_progress(number: int, *words: str) -> None:
    """One line on stderr."""
    print(f"{number:5} {', '.join(words)}", file=sys.stderr, flush=True)


def write_record(name: str, counts: Sequence[Mapping[str, Any]], cases: Iterable[Any]) -> None:
    """Write counts and every single case, if the environment names a folder for them."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        Path(folder).mkdir(parents=True, exist_ok=True)
        record = {"counts": counts, "cases": [asdict(case) for case in cases]}
        (Path(folder) / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
