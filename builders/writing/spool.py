"""Rows of an unfinished zoo in the order in which they came, kept on the disk across kills.

Weights are appended to one file, and then a line to a journal that holds the row's columns and a
checksum of its weights. A line vouches for a row only if the checksum fits, so that what a kill or
a power cut left half written is cut off when the spool is opened again.

Shape letters: N rows so far, D length of the flat weight vector.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.disk import write_all, write_whole
from ...zoos.errors import BuildError
from ...zoos.strict_json import json_text

SYNC_BYTES = 8_000_000  # of weights that a power cut may lose
_WEIGHTS, _JOURNAL, _TABLE = "weights.f32", "rows.jsonl", "table.json"


class Spool:
    """The rows that were added so far.

    Attributes:
        rows: columns of each row, as `encoded` makes them.
        checksums: checksum of the weights of each row.
    """

    def __init__(self, folder: Path, width: int) -> None:
        """Open the spool of a folder; rows that were half written are cut off.

        Args:
            folder: made if it is not there.
            width: D.

        Raises:
            BuildError: if the journal is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._width = width
        self._paths = folder / _WEIGHTS, folder / _JOURNAL
        self.rows, self.checksums, size = _read(*self._paths, 4 * width)
        flags = os.O_RDWR | os.O_CREAT
        self._weights, self._journal = (os.open(path, flags, 0o666) for path in self._paths)
        os.ftruncate(self._weights, len(self.rows) * 4 * width)
        os.ftruncate(self._journal, size)
        self._end, self._unsynced = size, 0

    def append(self, weights: np.ndarray, columns: dict[str, Any]) -> int:
        """Add a row; return its number.

        Args:
            weights: (D,), float32.
            columns: columns of the row, in the form of `encoded`.
        """
        data = np.ascontiguousarray(weights, "<f4").data
        checksum = zlib.crc32(data)
        write_all(self._weights, data, len(self.rows) * 4 * self._width)
        line = (json_text({"crc": checksum, "columns": columns}) + "\n").encode()
        self._end += write_all(self._journal, line, self._end)
        self.rows.append(columns)
        self.checksums.append(checksum)
        self._unsynced += data.nbytes
        if self._unsynced >= SYNC_BYTES:
            self.sync()
        return len(self.rows) - 1

    def holds(self, row: int, weights: np.ndarray, columns: dict[str, Any]) -> bool:
        """Whether a stored row has these weights and columns.

        Args:
            row: number of the stored row.
            weights: (D,), float32.
            columns: columns of the row, in the form of `encoded`.
        """
        data = np.ascontiguousarray(weights, "<f4").data
        return self.rows[row] == columns and self.checksums[row] == zlib.crc32(data)

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        os.fsync(self._weights)
        os.fsync(self._journal)
        self._unsynced = 0

    def weights(self) -> np.ndarray:
        """All rows, mapped: (N, D), float32, read-only."""
        return np.memmap(self._paths[0], np.dtype("<f4"), "r", 0, (len(self.rows), self._width))

    def close(self) -> None:
        """Sync and close the files."""
        self.sync()
        os.close(self._weights)
        os.close(self._journal)


def encoded(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by name as JSON holds them: a float that is not finite as a list with its name.

    What is encoded is compared by ==, also where a value is NaN.
    """
    return {
        name: [str(value)] if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in columns.items()
    }


def decoded(value: Any) -> Any:
    """The value that `encoded` made this of."""
    return float(value[0]) if isinstance(value, list) else value


def read_table(folder: Path) -> Any:
    """What `write_table` noted, or None."""
    path = folder / _TABLE
    return json.loads(path.read_text()) if path.exists() else None


def write_table(folder: Path, data: Any) -> None:
    """Note how the first model was understood, so that a resumed run understands it alike.

    Args:
        folder: folder of the spool; it is made if it does not exist.
        data: plain data, which `read_table` returns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _TABLE, json_text(data).encode())


def _read(
    weights: Path, journal: Path, row_bytes: int
) -> tuple[list[dict[str, Any]], list[int], int]:
    """Columns and checksums of the rows whose weights are there, and the bytes of their lines."""
    rows: list[dict[str, Any]] = []
    checksums: list[int] = []
    size = 0
    if not (weights.exists() and journal.exists()):
        return rows, checksums, size
    with weights.open("rb") as stored, journal.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                columns, checksum = dict(row["columns"]), int(row["crc"])
            except (ValueError, KeyError, TypeError) as error:
                raise BuildError(
                    f"{journal} is damaged in the line {line[:80]!r}: delete "
                    f"{journal.parent.parent}, or pass overwrite=True to start anew"
                ) from error
            if zlib.crc32(stored.read(row_bytes)) != checksum:
                break
            rows.append(columns)
            checksums.append(checksum)
            size += len(line)
    return rows, checksums, size
