"""Find and open the files of a zoo on disk: one file, a zoo folder, a folder of zoo folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import ZooNotFoundError
from ...zoos.format import SPLITS, WEIGHTS, open_zoo_file
from ...zoos.index import FILE_SPLITS, INDEX_NAME, ZooIndex
from .columns import ColumnTable
from .mounts import is_on_network
from .rows import WeightRows
from .shards import Shards

OPENED_AT_ONCE = 16  # shards of a split; of a larger split each is opened when first read


@dataclass(frozen=True)
class OpenSplit:
    """The rows of one split, as `ZooDataset` takes them.

    Attributes:
        name: name of the zoo.
        source: weights of the files.
        table: scalar columns of the files.
        rows: row numbers of the split in the files, (N,).
    """

    name: str
    source: WeightRows
    table: ColumnTable
    rows: np.ndarray


def find_zoo(path: Path, name: str | None) -> Path:
    """Find a zoo file or zoo folder.

    Args:
        path: a zoo file, a zoo folder, or a folder of zoo folders.
        name: name of the zoo in a folder of zoo folders; None if there is only one.

    Returns:
        Path of the zoo file or zoo folder.

    Raises:
        ZooNotFoundError: if there is none.
        ValueError: if there is no zoo of that name; the message lists the names.
    """
    if path.is_file() or (path / INDEX_NAME).is_file():
        if name is not None:
            raise ValueError(
                f"{path} is one zoo, not a folder of zoos: leave out name={name!r}{_meant(name)}"
            )
        return path
    folders = path.iterdir() if path.is_dir() else ()
    zoos = sorted(folder.name for folder in folders if (folder / INDEX_NAME).is_file())
    if not zoos:
        raise ZooNotFoundError(
            f"no zoo at {path}: neither a file, nor a folder with {INDEX_NAME} in it or in its "
            "sub-folders; build one with `weightzoo build RECIPE --out FOLDER`"
        )
    if name is None and len(zoos) == 1:
        return path / zoos[0]
    if name not in zoos:
        given = "and none is given (--name NAME)" if name is None else f"got {name!r}{_meant(name)}"
        raise ValueError(f"{path} holds several zoos: name must be one of {zoos}, {given}")
    return path / name


def _meant(name: str | None) -> str:
    """What to write if a split was given in the place of a name."""
    is_split = name is not None and name.partition("[")[0] in {*SPLITS, *FILE_SPLITS.values()}
    return f"; for that split write split={name!r}" if is_split else ""


def open_splits(
    path: Path,
    splits: Sequence[str] | None,
    columns: Sequence[str] | None,
    in_memory: bool,
    verify_on_read: bool | None = None,
) -> dict[str, OpenSplit]:
    """Open splits of a zoo file or folder.

    Args:
        path: path of a zoo file, or of a folder with `zoo.json`.
        splits: names of the splits; None takes all that have rows.
        columns: scalar columns to read; None reads all.
        in_memory: copy the weights to memory at once.
        verify_on_read: read without a memory map, see `load_zoo`; None does so on network mounts.

    Returns:
        The opened splits by name.

    Raises:
        ZooNotFoundError: if a file is missing.
        ZooFormatError: if a file is no zoo file, contradicts its index, or lacks a column.
        ValueError: if a split has no rows; the message lists the splits that have.
    """
    open_them = _open_file if path.is_file() else _open_folder
    verify = is_on_network(path) if verify_on_read is None else verify_on_read
    return open_them(path, splits, columns, in_memory, verify)


def _open_file(
    path: Path,
    splits: Sequence[str] | None,
    names: Sequence[str] | None,
    in_memory: bool,
    verify: bool,
) -> dict[str, OpenSplit]:
    """The splits of one file, from its column `split`."""
    files = Shards([open_zoo_file(path)])
    table = ColumnTable(files, _names(files, names))
    split = table.column("split", np.arange(files[0].rows))
    found = {part: np.flatnonzero(split == part) for part in SPLITS}
    found = {part: rows for part, rows in found.items() if len(rows) > 0}
    _check_has_rows(path, splits, found)
    source = WeightRows(files, in_memory, verify_on_read=verify)
    name = str(files[0].header.recipe.get("name", path.stem))
    wanted = found if splits is None else splits
    return {part: OpenSplit(name, source, table, found[part]) for part in wanted}


def _open_folder(
    folder: Path,
    splits: Sequence[str] | None,
    names: Sequence[str] | None,
    in_memory: bool,
    verify: bool,
) -> dict[str, OpenSplit]:
    """The splits of a zoo folder, from its index."""
    index = ZooIndex.read(folder)
    there = [part for part in SPLITS if any(shard.split == part for shard in index.shards)]
    _check_has_rows(folder, splits, dict.fromkeys(there))
    found = {}
    for part in there if splits is None else splits:
        files = Shards.listed(folder, [shard for shard in index.shards if shard.split == part])
        table = ColumnTable(files, _names(files, names), split=part)
        if len(files) <= OPENED_AT_ONCE:
            files.open_all()
            table.read()
        rows = np.arange(int(files.counts.sum()))
        source = WeightRows(files, in_memory, verify_on_read=verify)
        found[part] = OpenSplit(index.name, source, table, rows)
    return found


def _names(files: Shards, names: Sequence[str] | None) -> list[str]:
    chosen = list(files[0].columns) if names is None else names
    return [name for name in chosen if name != WEIGHTS]


def _check_has_rows(path: Path, splits: Sequence[str] | None, there: Mapping[str, Any]) -> None:
    for split in splits or ():
        if split not in there:
            raise ValueError(f"{path} has no rows of split {split!r}, it has {list(there)}")
