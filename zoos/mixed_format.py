"""Mixed zoos: models of many architectures in one folder, format 1.2.

    zoo.json                    name, header, files, architectures
    train-00000-of-00001.h5     scalar columns, one value per row; stock `datasets` reads it
    train-00000-of-00001.f32    float32 values of the rows, one row after the other
    ...                         the same for validation and test
    README.md                   card

Rows are sorted by architecture, so the rows of one architecture in one file are a table (N, D)
within the values. `zoo.json` lists these tables. Readers of format 1.1 refuse the folder.

Shape letters: N rows, D length of the flat vector of one architecture.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ZooFormatError, ZooNotFoundError
from .format import SPLITS, ZooFile, ZooHeader, check_format_version, read_columns_file
from .index import INDEX_NAME, Shard, ZooIndex, read_shard
from .networks.architectures import Architecture
from .networks.layer_table import LayerTable
from .strict_json import json_text

MIXED_VERSION = "1.2"
VALUE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class MixedFiles:
    """Files of one split.

    Attributes:
        split: split of the rows, one of `SPLITS`.
        columns: name of the file of scalar columns.
        weights: name of the file of values.
        rows: number of rows.
        models: number of models.
        size_bytes: size of both files, in bytes.
        sha256: SHA-256 of the columns and of the values, in hexadecimal digits.
    """

    split: str
    columns: str
    weights: str
    rows: int
    models: int
    size_bytes: tuple[int, int]
    sha256: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows of one architecture in one split: first row, number of rows, first value."""

    split: str
    first_row: int
    rows: int
    first_value: int


@dataclass(frozen=True, kw_only=True)
class MixedPart:
    """One architecture of a mixed zoo.

    Attributes:
        name: name, unique in the zoo.
        architecture: architecture, or None if only the layer table is known.
        layer_table: layer table of its rows.
        segments: its rows, at most one segment per split.
    """

    name: str
    architecture: Architecture | None
    layer_table: LayerTable
    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class MixedHeader:
    """Facts of a mixed zoo that do not depend on an architecture, as in `ZooHeader`."""

    hyper_parameters: tuple[str, ...]
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class MixedIndex:
    """The contents of `zoo.json` of a mixed zoo.

    Attributes:
        name: name of the zoo.
        header: hyper_parameters, recipe, split and provenance, as in `ZooHeader`.
        files: files by split, train first.
        parts: architectures.
    """

    name: str
    header: Mapping[str, Any]
    files: tuple[MixedFiles, ...]
    parts: tuple[MixedPart, ...]

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every file of the folder, as the index of a zoo of one architecture lists them."""
        return tuple(Shard(**row) for files in self.files for row in _shard_rows(files))

    @property
    def column_shards(self) -> tuple[Shard, ...]:
        """The files of scalar columns, which stock `datasets` reads."""
        return tuple(Shard(**_shard_rows(files)[0]) for files in self.files)

    def of_splits(self, splits: Collection[str]) -> "MixedIndex":
        """The rows of some splits alone; the files of others need not be there.

        Args:
            splits: splits to keep, of `SPLITS`.

        Raises:
            ValueError: if a split has no rows.
        """
        there = [files.split for files in self.files]
        if missing := [split for split in splits if split not in there]:
            raise ValueError(f"{self.name} has no rows of split {missing[0]!r}, it has {there}")
        parts = [
            replace(part, segments=tuple(one for one in part.segments if one.split in splits))
            for part in self.parts
        ]
        return replace(
            self,
            files=tuple(files for files in self.files if files.split in splits),
            parts=tuple(part for part in parts if part.segments),
        )

    def write(self, folder: Path) -> None:
        """Write `zoo.json` into `folder`, completely or not at all."""
        data = {
            "format_version": MIXED_VERSION,
            "name": self.name,
            "header": dict(self.header),
            "files": [asdict(one) for one in self.files],
            "architectures": [_part_json(part) for part in self.parts],
        }
        partial = folder / f"{INDEX_NAME}.tmp"
        partial.write_text(json_text(data) + "\n")
        os.replace(partial, folder / INDEX_NAME)

    @classmethod
    def read(cls, folder: Path) -> "MixedIndex":
        """Read and check `zoo.json` of `folder`.

        Raises:
            ZooFormatError: if it is damaged, has another format version, names a file outside the
                folder, or its segments do not fill its files.
        """
        path = folder / INDEX_NAME
        try:
            data = json.loads(path.read_text())
            check_format_version(path, str(data["format_version"]))
            index = cls(
                name=str(data["name"]),
                header={key: data["header"][key] for key in _HEADER},
                files=tuple(_files(path, row) for row in data["files"]),
                parts=tuple(_part(row) for row in data["architectures"]),
            )
        except ZooFormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ZooFormatError(f"{path} is damaged: {error}") from error
        index._check(path)
        return index

    def read_columns(self, folder: Path) -> dict[str, np.ndarray]:
        """Read the scalar columns of all files, one after the other: (N,) by name.

        Raises:
            ZooFormatError: if a file contradicts the index, or files differ in their columns.
        """
        parts = []
        for files in self.files:
            columns = read_columns_file(folder / files.columns)
            if len(columns["split"]) != files.rows or set(columns["split"]) != {files.split}:
                raise ZooFormatError(
                    f"{folder / files.columns} does not hold the {files.rows} rows of split "
                    f"{files.split} that {INDEX_NAME} lists: copy the zoo again"
                )
            parts.append(columns)
        if len({tuple((n, c.dtype) for n, c in part.items()) for part in parts}) > 1:
            raise ZooFormatError(f"the files of {folder} differ in their columns")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def zoo_files(self, folder: Path, part: MixedPart) -> list[ZooFile]:
        """The rows of one architecture as zoo files, one per split; columns are not among them.

        Args:
            folder: folder of the zoo.
            part: one of `parts`.

        Raises:
            ZooNotFoundError: if a file is missing.
            ZooFormatError: if a file has another size than listed.
        """
        header = ZooHeader(
            architecture=part.architecture, layer_table=part.layer_table, **_typed(self.header)
        )
        named = {files.split: files for files in self.files}
        found = []
        for segment in part.segments:
            files = named[segment.split]
            path = folder / files.weights
            if not path.is_file():
                raise ZooNotFoundError(f"no file at {path}: copy the zoo again")
            stat = path.stat()
            if stat.st_size != files.size_bytes[1]:
                raise ZooFormatError(
                    f"{path} has {stat.st_size} bytes, {INDEX_NAME} lists {files.size_bytes[1]}: "
                    "copy the zoo again"
                )
            found.append(
                ZooFile(
                    path=path,
                    header=header,
                    rows=segment.rows,
                    columns={},
                    weights_offset=segment.first_value * VALUE_BYTES,
                    size_bytes=stat.st_size,
                    mtime_ns=stat.st_mtime_ns,
                )
            )
        return found

    def _check(self, path: Path) -> None:
        """Check that the segments of each split lie one after the other and fill its files."""
        splits = [files.split for files in self.files]
        if not splits or len(set(splits)) != len(splits) or not set(splits) <= set(SPLITS):
            raise ZooFormatError(f"{path} is damaged: its files have the splits {splits}")
        if len({part.name for part in self.parts}) != len(self.parts):
            raise ZooFormatError(f"{path} is damaged: two architectures have the same name")
        for files in self.files:
            row = value = 0
            for part in self.parts:
                for one in part.segments:
                    if one.split != files.split:
                        continue
                    if (one.first_row, one.first_value) != (row, value) or one.rows < 1:
                        raise ZooFormatError(f"{path} is damaged: {part.name} has a wrong segment")
                    row, value = row + one.rows, value + one.rows * part.layer_table.width
            if (row, value * VALUE_BYTES) != (files.rows, files.size_bytes[1]):
                raise ZooFormatError(
                    f"{path} is damaged: the segments of {files.split} hold {row} rows and {value} "
                    f"values, its files {files.rows} and {files.size_bytes[1] // VALUE_BYTES}"
                )


_HEADER = ("hyper_parameters", "recipe", "split", "provenance")


def read_index(folder: Path) -> ZooIndex | MixedIndex:
    """Read `zoo.json` of a zoo of one architecture or of many.

    Raises:
        ZooNotFoundError: if there is none.
        ZooFormatError: if it is damaged or has another format version.
    """
    return MixedIndex.read(folder) if is_mixed_folder(folder) else ZooIndex.read(folder)


def is_mixed_folder(folder: Path) -> bool:
    """Whether a folder is a mixed zoo."""
    path = folder / INDEX_NAME
    if not path.is_file():
        return False
    text = path.read_bytes()
    if b'"architectures"' not in text:  # an index of many files is not parsed twice
        return False
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "architectures" in data


def _part_json(part: MixedPart) -> dict[str, Any]:
    made = part.architecture
    return {
        "name": part.name,
        "architecture": None if made is None else made.to_json(),
        "layer_table": part.layer_table.to_json(),
        "segments": [asdict(segment) for segment in part.segments],
    }


def _part(row: Mapping[str, Any]) -> MixedPart:
    spec = row["architecture"]
    segments = tuple(Segment(**segment) for segment in row["segments"])
    for segment in segments:
        numbers = [getattr(segment, field.name) for field in fields(Segment)][1:]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"segment {numbers} is not of whole numbers")
    return MixedPart(
        name=str(row["name"]),
        architecture=None if spec is None else Architecture.from_json(spec),
        layer_table=LayerTable.from_json(row["layer_table"]),
        segments=segments,
    )


def _files(path: Path, row: Mapping[str, Any]) -> MixedFiles:
    files = MixedFiles(
        **{**row, "size_bytes": tuple(row["size_bytes"]), "sha256": tuple(row["sha256"])}
    )
    for one in (read_shard(path, shard) for shard in _shard_rows(files)):
        if "/" in one.path or one.path.startswith("."):
            raise ZooFormatError(f"{path}: the file {one.path!r} must lie in the folder itself")
    return files


def _shard_rows(files: MixedFiles) -> list[dict[str, Any]]:
    """Fields of the `Shard`s of the columns and of the values."""
    shared = {"split": files.split, "rows": files.rows, "models": files.models}
    named = zip((files.columns, files.weights), files.size_bytes, files.sha256, strict=True)
    return [shared | {"path": path, "size_bytes": n, "sha256": sha} for path, n, sha in named]


def _typed(header: Mapping[str, Any]) -> dict[str, Any]:
    return {**header, "hyper_parameters": tuple(header["hyper_parameters"])}
