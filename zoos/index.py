"""The zoo folder: `zoo.json`, which lists the files of one zoo with sizes and checksums.

A zoo of one architecture is a folder with one or more files per split, `zoo.json`, and a card
`README.md` from which stock `datasets` finds the files. A collection is a folder of such
folders, one per (zoo, architecture).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ZooFormatError, ZooNotFoundError
from .format import FORMAT_VERSION, SPLITS, ZooFile, check_format_version, open_zoo_file
from .strict_json import json_text

INDEX_NAME = "zoo.json"
FILE_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # the Hub's word for val


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a zoo folder.

    Attributes:
        path: its name relative to the folder.
        split: the split of all its rows, one of `SPLITS`.
        rows: number of checkpoints.
        models: number of models.
        size_bytes: size of the file.
        sha256: hex digest of the file.
    """

    path: str
    split: str
    rows: int
    models: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ZooIndex:
    """What `zoo.json` holds: the zoo's name and its shards, train first."""

    name: str
    shards: tuple[Shard, ...]

    def write(self, folder: Path) -> None:
        """Write `zoo.json` into `folder`, whole or not at all."""
        data = {"format_version": FORMAT_VERSION, "name": self.name}
        data["shards"] = [asdict(shard) for shard in self.shards]  # type: ignore[assignment]
        partial = folder / f"{INDEX_NAME}.tmp"
        partial.write_text(json_text(data, indent=2) + "\n")
        os.replace(partial, folder / INDEX_NAME)

    @classmethod
    def read(cls, folder: Path) -> "ZooIndex":
        """Read `zoo.json` of `folder`.

        Raises:
            ZooNotFoundError: if there is none.
            ZooFormatError: if it is damaged, of another format version, or names a file outside
                the folder.
        """
        path = folder / INDEX_NAME
        if not path.is_file():
            raise ZooNotFoundError(
                f"no zoo folder at {folder}: it holds no {INDEX_NAME}; build one with `weightzoo "
                "build RECIPE --out FOLDER`"
            )
        try:
            data = json.loads(path.read_text())
            version, name = str(data["format_version"]), str(data["name"])
            check_format_version(path, version)
            shards = tuple(_shard(path, row) for row in data["shards"])
        except ZooFormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ZooFormatError(f"{path} is damaged: {error}") from error
        if not shards:
            raise ZooFormatError(f"{path} lists no files: a zoo has at least one")
        return cls(name=name, shards=shards)

    def open(self, folder: Path, split: str | None = None) -> list[ZooFile]:
        """Check and open the files of one split, or of all, in index order.

        Raises:
            ZooNotFoundError: if a listed file is missing.
            ZooFormatError: if a file has another size or number of rows than listed, or the
                files differ in layer table or columns.
        """
        files = []
        for shard in self.shards:
            if split is None or shard.split == split:
                file = open_zoo_file(folder / shard.path)
                if (file.rows, file.size_bytes) != (shard.rows, shard.size_bytes):
                    raise ZooFormatError(
                        f"{file.path} has {file.rows} rows in {file.size_bytes} bytes, "
                        f"{INDEX_NAME} says {shard.rows} in {shard.size_bytes}: "
                        "copy or build the zoo again"
                    )
                files.append(file)
        check_same_columns(files)
        return files


def describe_shard(folder: Path, name: str, split: str, models: int) -> Shard:
    """Measure a finished file for the index."""
    path = folder / name
    digest = file_sha256(path)
    size = path.stat().st_size
    rows = open_zoo_file(path).rows
    return Shard(path=name, split=split, rows=rows, models=models, size_bytes=size, sha256=digest)


def file_sha256(path: Path) -> str:
    """Hex digest of a file, as a shard lists it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of a shard, as the Hub's conventions have it."""
    return f"{FILE_SPLITS[split]}-{index:05d}-of-{count:05d}.h5"


def check_same_columns(files: list[ZooFile]) -> None:
    """Refuse files that cannot be read as one table.

    Raises:
        ZooFormatError: naming the two files and what differs.
    """
    for file in files[1:]:
        if file.header.layer_table != files[0].header.layer_table:
            raise ZooFormatError(f"{file.path} and {files[0].path} differ in their layer table")
        if file.columns != files[0].columns:
            odd = sorted(set(file.columns.items()) ^ set(files[0].columns.items()), key=str)
            raise ZooFormatError(f"{file.path} and {files[0].path} differ in the columns {odd}")


def _shard(path: Path, row: Mapping[str, Any]) -> Shard:
    names = [field.name for field in fields(Shard)]
    if sorted(row) != sorted(names) or row["split"] not in SPLITS:
        raise ZooFormatError(f"{path}: {row!r} must have the fields {names}, split in {SPLITS}")
    for field in fields(Shard):
        value = row[field.name]
        if type(value) is not field.type or (field.type is int and value < 0):
            raise ZooFormatError(f"{path}: {field.name} must not be {value!r}")
    name = PurePosixPath(row["path"])
    if name.is_absolute() or ".." in name.parts:
        raise ZooFormatError(f"{path} names a file outside its folder: {row['path']!r}")
    return Shard(**row)
