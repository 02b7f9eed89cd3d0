"""Files of splits: CSV by model name, JSON of paths by split, or one number per line.

Shape letters: N rows.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ZooFormatError
from ..format import SPLITS

GENERIC_PARTS = ("model_final", "checkpoints")  # folders and files that name no model


@dataclass(frozen=True, kw_only=True)
class SplitFile:
    """Contents of a file of splits; one of the three kinds is not None.

    Attributes:
        name: name of the file.
        sha256: checksum of the file.
        numbers: numbers, one per line: of rows in a published shuffle, or of images.
        paths: paths by split, as published; "validation" is "val".
        names: split by model name.
    """

    name: str
    sha256: str
    numbers: tuple[int, ...] | None = None
    paths: Mapping[str, Sequence[str]] | None = None
    names: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        """Contents in words."""
        if self.numbers is not None:
            return "numbers, one per line"
        return "JSON of paths by split" if self.paths is not None else "CSV by model name"


def read_split_file(path: Path) -> SplitFile:
    """Read a file of splits of any kind.

    Raises:
        ZooFormatError: if the file cannot be read, or is of no known kind.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
        about: dict[str, Any] = {
            "name": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        if path.suffix == ".json":
            return SplitFile(**about, paths=_paths(json.loads(text), path))
        if text.split("\n", 1)[0].strip().isdecimal():
            return SplitFile(**about, numbers=tuple(int(line) for line in text.split()))
        return SplitFile(**about, names=_names(list(csv.DictReader(io.StringIO(text))), path))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        if isinstance(error, ZooFormatError):
            raise
        raise ZooFormatError(f"cannot read the split file {path}: {error}") from error


def splits_by_path(paths: Sequence[str], file: SplitFile) -> tuple[list[str | None], list[str]]:
    """Find the split of each path in a JSON file of paths.

    Paths in the file are those of its authors' machine. As many of their last parts are compared
    as tell all paths apart, the given and the listed ones: with fewer, part of a published zoo
    would match the paths of other models. Endings and folders that name no model are ignored.

    Args:
        paths: published path of each row or model, (N,); equal paths get equal splits.
        file: file with paths.

    Returns:
        Split of each path, None if the file does not list it, (N,); and the listed paths that no
        given path matches.

    Raises:
        ZooFormatError: if one path is in two splits.
    """
    own = [_bare(path) for path in paths]
    different = set(own)
    listed_paths = {_bare(path) for listed in (file.paths or {}).values() for path in listed}
    parts = max(_parts_needed(different), _parts_needed(listed_paths))
    found: dict[tuple[str, ...], str] = {}
    unknown, tails = list[str](), {path[-parts:] for path in different}
    for split, listed in (file.paths or {}).items():
        for path in listed:
            tail = _bare(path)[-parts:]
            if tail not in tails:
                unknown.append(path)
            elif found.setdefault(tail, split) != split:
                raise ZooFormatError(f"{file.name}: {path!r} is in two splits")
    return [found.get(path[-parts:]) for path in own], unknown


def _parts_needed(paths: set[tuple[str, ...]]) -> int:
    """Least number of last parts that tells paths apart, at most 9."""
    return next((n for n in range(1, 9) if len({p[-n:] for p in paths}) == len(paths)), 9)


def _bare(path: str) -> tuple[str, ...]:
    """Parts of a path that name the model or checkpoint."""
    parts = path.replace("\\", "/").removesuffix(".pth").split("/")
    return tuple(part for part in parts if part not in GENERIC_PARTS) or tuple(parts)


def _paths(data: Any, path: Path) -> dict[str, list[str]]:
    """Paths by split, from lists of paths or {"path": list} by split."""
    if not isinstance(data, dict) or not {*data} <= {*SPLITS, "validation"}:
        raise ZooFormatError(
            f"split file {path} must have paths under {SPLITS}, it has {list(data)}"
        )
    return {
        "val" if key == "validation" else key: [
            str(one) for one in (entry["path"] if isinstance(entry, dict) else entry)
        ]
        for key, entry in data.items()
    }


def _names(rows: Sequence[dict[str, str]], path: Path) -> dict[str, str]:
    """Split by model name, from a CSV file with the columns model_name and split."""
    if not rows or not {"model_name", "split"} <= set(rows[0]):
        raise ZooFormatError(
            f"split file {path} must have the columns model_name and split, and rows"
        )
    splits: dict[str, str] = {}
    for row in rows:
        name, split = row["model_name"], row["split"]
        if split not in SPLITS:
            raise ZooFormatError(
                f"{path}: split of {name!r} must be one of {SPLITS}, got {split!r}"
            )
        if splits.setdefault(name, split) != split:
            raise ZooFormatError(f"{path}: {name!r} is in two splits")
    return splits
