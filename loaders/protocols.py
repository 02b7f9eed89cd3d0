"""Opens a zoo with the rows and splits of a published protocol.

Shape letters: N rows of all files.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..zoos.protocols.definitions import find_protocol

Resplit = Callable[
    [Mapping[str, np.ndarray], Mapping[str, Any]], tuple[np.ndarray, Mapping[str, Any]]
]
"""Function of all columns (N,) and the stored description of the splits.

It returns the split of each row, "" for rows that are left out, and the new description."""


def protocol_splits(name: str, split_file: str | Path | None) -> Resplit:
    """A function that gives every row its split of a protocol.

    Args:
        name: name of the protocol.
        split_file: published file of splits, or None.

    Raises:
        ValueError: if there is no such protocol.
    """
    protocol = find_protocol(name)

    def resplit(
        columns: Mapping[str, np.ndarray], stored: Mapping[str, Any]
    ) -> tuple[np.ndarray, Mapping[str, Any]]:
        if stored.get("by") == "protocol":
            return _stored(name, columns["split"], stored)
        found = protocol.apply(columns, None if split_file is None else Path(split_file))
        return found.split, found.description

    return resplit


def _stored(
    name: str, split: np.ndarray, stored: Mapping[str, Any]
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The splits of a zoo that was imported by the same protocol.

    Raises:
        ValueError: if it was another one, which left out rows of this one.
    """
    if stored["protocol"] != name:
        raise ValueError(
            f"the zoo holds only the rows of protocol {stored['protocol']!r}: for {name!r} import "
            "it again, without a protocol or with that one"
        )
    return split, stored
