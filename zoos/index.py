"""The index of a zoo folder: `zoo.json`, which lists its files with sizes and checksums.

A zoo of one architecture is a folder with one or more files per split, `zoo.json`, and a card
`README.md` in which stock `datasets` finds the files. A collection is a folder of such folders, one
per zoo and architecture.
"""

import hashlib
import json
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ZooFormatError, ZooNotFoundError
from .format import FORMAT_VERSION, SPLITS, ZooFile, check_format_version, open_zoo_file
from .strict_json import json_text

INDEX_NAME = "zoo.json"
LONGEST_NAME = 200  # characters; file systems allow 255 bytes, and suffixes are appended
LONGEST_PATH = 1000  # characters of a path in a zoo folder
FILE_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # the Hub says "validation"
SPLIT_WORDS = {hub: ours for ours, hub in FILE_SPLITS.items()} | {ours: ours for ours in SPLITS}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a zoo folder.

    Attributes:
        path: path relative to the folder.
        split: split of all its rows, one of `SPLITS`.
        rows: number of checkpoints.
        models: number of models.
        size_bytes: size of the file, in bytes.
        sha256: SHA-256 of the file, in hexadecimal digits.
    """

    path: str
    split: str
    rows: int
    models: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ZooIndex:
    """The contents of `zoo.json`: the zoo's name and its files, train first."""

    name: str
    shards: tuple[Shard, ...]

    def write(self, folder: Path) -> None:
        """Write `zoo.json` into `folder`, completely or not at all."""
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
            ZooFormatError: if it is damaged, has another format version, names a file outside the
                folder or a file twice, or holds counts that no file can have.
        """
        path = folder / INDEX_NAME
        if not path.is_file():
            raise ZooNotFoundError(
                f"no zoo folder at {folder}: it holds no {INDEX_NAME}; {_where_instead(folder)}"
            )
        try:
            data = json.loads(path.read_text())
            check_format_version(path, str(data["format_version"]))
            if "architectures" in data:
                raise ZooFormatError(
                    f"{folder} is a mixed zoo of many architectures, which is not read here: open "
                    "it with `load_zoo`, and take one of its architectures, such as "
                    "zoo['train'].architectures[NAME]"
                )
            name = _checked_name(path, data["name"])
            shards = tuple(read_shard(path, row) for row in data["shards"])
        except ZooFormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ZooFormatError(f"{path} is damaged: {error}") from error
        if not shards:
            raise ZooFormatError(f"{path} lists no files: a zoo has at least one")
        _check_no_file_twice(path, shards)
        return cls(name=name, shards=shards)

    def open(self, folder: Path, split: str | None = None) -> list[ZooFile]:
        """Check and open the files of one split or of all splits, in the order of the index.

        Args:
            folder: zoo folder.
            split: split of the files; None takes all splits.

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
                        f"{INDEX_NAME} lists {shard.rows} in {shard.size_bytes}: "
                        "copy or build the zoo again"
                    )
                files.append(file)
        check_same_columns(files)
        return files


def _where_instead(folder: Path) -> str:
    """A hint where the data of a missing zoo is if the command that writes it was stopped."""
    beside = Path(os.path.abspath(folder))
    for suffix, what in {".partial": "an unfinished zoo", ".old": "the zoo that was there"}.items():
        path = beside.with_name(beside.name + suffix) if beside.name else beside
        if path != beside and path.is_dir():
            return f"{path} holds {what}: run the command again that writes {folder}"
    return "build one with `weightzoo build RECIPE --out FOLDER`"


def describe_shard(folder: Path, name: str, split: str, models: int) -> Shard:
    """Describe a finished file for the index.

    Args:
        folder: zoo folder.
        name: name of the file.
        split: split of its rows.
        models: number of its models.
    """
    path = folder / name
    digest = file_sha256(path)
    size = path.stat().st_size
    rows = open_zoo_file(path).rows
    return Shard(path=name, split=split, rows=rows, models=models, size_bytes=size, sha256=digest)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_name(split: str, index: int, count: int) -> str:
    """File name of a shard in the Hub's conventions.

    Args:
        split: split of its rows, one of `SPLITS`.
        index: number of the shard in its split, from 0.
        count: number of shards of the split.
    """
    return f"{FILE_SPLITS[split]}-{index:05d}-of-{count:05d}.h5"


def check_same_columns(files: list[ZooFile]) -> None:
    """Reject files that cannot be read as one table.

    Raises:
        ZooFormatError: if two files differ in layer table or columns; both are named.
    """
    for file in files[1:]:
        if file.header.layer_table != files[0].header.layer_table:
            raise ZooFormatError(f"{file.path} and {files[0].path} differ in their layer table")
        if file.columns != files[0].columns:
            odd = sorted(set(file.columns.items()) ^ set(files[0].columns.items()), key=str)
            raise ZooFormatError(f"{file.path} and {files[0].path} differ in the columns {odd}")


def read_shard(path: Path, row: Mapping[str, Any]) -> Shard:
    """Check an entry of `zoo.json`.

    Args:
        path: path of `zoo.json`, for messages.
        row: fields of a `Shard`.

    Raises:
        ZooFormatError: if it is none, names a file outside the folder, or holds counts that no
            file can have.
    """
    names = [field.name for field in fields(Shard)]
    if sorted(row) != sorted(names) or row["split"] not in SPLITS:
        raise ZooFormatError(
            f"{path}: {_short(row)} must have the fields {names}, split in {SPLITS}"
        )
    for field in fields(Shard):
        value = row[field.name]
        if type(value) is not field.type or (field.type is int and value < 1):
            allowed = "a text" if field.type is str else "a whole number from 1"
            raise ZooFormatError(f"{path}: {field.name} must be {allowed}, got {_short(value)}")
    shard = Shard(**row)
    _check_path(path, shard.path)
    _check_counts(path, shard)
    return shard


def _check_path(path: Path, name: str) -> None:
    """Reject a path that is too long, leaves the folder, or could be spelled in another way."""
    if len(name) > LONGEST_PATH or max(map(len, name.split("/"))) > LONGEST_NAME:
        raise ZooFormatError(
            f"{path}: path must have at most {LONGEST_NAME} characters in each of its parts and "
            f"{LONGEST_PATH} in all, got {_short(name)}"
        )
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise ZooFormatError(f"{path} names a file outside its folder: {_short(name)}")
    if not pure.parts or str(pure) != name or not name.isprintable() or "\\" in name:
        raise ZooFormatError(
            f"{path}: path must be plain and relative, such as 'train-00000-of-00001.h5', got "
            f"{_short(name)}"
        )


def _check_counts(path: Path, shard: Shard) -> None:
    """Reject counts that no file can have: a row holds at least one value of 4 bytes."""
    if not shard.models <= shard.rows <= shard.size_bytes // 4:
        raise ZooFormatError(
            f"{path}: {shard.path} cannot hold {shard.models} models in {shard.rows} rows in "
            f"{shard.size_bytes} bytes"
        )
    if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
        raise ZooFormatError(
            f"{path}: sha256 must be 64 hexadecimal digits, got {_short(shard.sha256)}"
        )


def _check_no_file_twice(path: Path, shards: Sequence[Shard]) -> None:
    """Reject a file that is listed twice, also under another name: its rows would count twice."""
    paths, by_checksum = set[str](), dict[str, str]()
    for shard in shards:
        if shard.path in paths:
            raise ZooFormatError(f"{path} lists {shard.path!r} twice: list each file once")
        if twin := by_checksum.get(shard.sha256):
            raise ZooFormatError(
                f"{path}: {shard.path!r} has the checksum of {twin!r}: list each file once"
            )
        paths.add(shard.path)
        by_checksum[shard.sha256] = shard.path


def _checked_name(path: Path, name: Any) -> str:
    """Check the name of a zoo, which also becomes the name of files and folders."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= LONGEST_NAME
        or not name.isprintable()
        or set(name) & {"/", "\\"}
        or name in (".", "..")
    ):
        raise ZooFormatError(
            f"{path}: name must be a text of at most {LONGEST_NAME} characters without slashes "
            f"and line breaks, got {_short(name)}"
        )
    return name


def _short(value: Any) -> str:
    """A value from a file for a message, cut to 200 characters."""
    return f"{reprlib.repr(value):.200}"
