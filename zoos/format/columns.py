"""Columns of a zoo file: their names, types and checksums.

Shape letters: N rows.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ZooFormatError

WEIGHTS = "weights"
SPLITS = ("train", "val", "test")
IDENTITY: dict[str, type] = {
    "model_id": int,
    "epoch": int,
    "split": str,
    "seed": int,
    "status": str,
}
METRICS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "generalization_gap",
)
STATUSES = ("ok", "diverged")

Column = np.ndarray


def checksum(column: Column) -> str:
    """SHA-256 of a column: little-endian bytes in C order, or texts in UTF-8 with a zero byte."""
    return checksum_parts([column])


def checksum_parts(parts: Iterable[Column]) -> str:
    """The checksum of a column that is given in consecutive parts."""
    digest = hashlib.sha256()
    for part in parts:
        if part.dtype.kind == "O":
            for text in part:
                digest.update(text.encode() + b"\0")
            continue
        step = max(1, 2**24 // max(1, part[:1].nbytes))
        for start in range(0, len(part), step):
            block = part[start : start + step]
            digest.update(block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes())
    return f"sha256:{digest.hexdigest()}"


def common_length(path: Path, lengths: Mapping[str, int]) -> int:
    """The length that all columns have, N.

    Args:
        path: path of the file, for the message.
        lengths: length of each column.

    Raises:
        ZooFormatError: if the lengths differ, or are 0.
    """
    if len(set(lengths.values())) != 1:
        raise ZooFormatError(f"{path}: columns differ in length: {dict(lengths)}")
    if (rows := next(iter(lengths.values()))) == 0:
        raise ZooFormatError(f"{path} has no rows: a zoo holds at least one model")
    return rows


def read_column(dataset: h5py.Dataset) -> Column:
    """All values of a scalar column, (N,); text becomes an object array of str."""
    return dataset.asstr()[...] if is_text(dataset) else dataset[...]


def is_text(dataset: Any) -> bool:
    """Whether a dataset holds text of any length."""
    info = h5py.check_string_dtype(dataset.dtype)
    return info is not None and info.length is None
