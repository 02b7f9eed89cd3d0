"""Load a zoo as a dataset: columns in memory, weights mapped, one gather per batch.

`ZooDataset` feeds a plain `torch.utils.data.DataLoader`: leave `num_workers=0`, since a worker
process costs more time for passing a batch on than the batch takes to read.

Shape letters: N rows of the dataset, n rows asked for, D length of the flat weight vector.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..zoos.errors import ZooFormatError, ZooNotFoundError
from ..zoos.format import SPLITS, WEIGHTS, ZooFile, ZooHeader, open_zoo_file
from ..zoos.index import FILE_SPLITS, INDEX_NAME, ZooIndex
from ..zoos.layer_table import LayerTable
from .batch import Batch, Row, as_torch
from .layer_sets import SHARED_KEYS, LayerSets
from .rows import WeightRows, positions

FORMATS = ("torch", "numpy", "layer_sets")


@overload
def load_zoo(
    path: str | Path,
    name: str | None = None,
    split: None = None,
    *,
    columns: Sequence[str] | None = None,
    in_memory: bool = False,
) -> "dict[str, ZooDataset]": ...
@overload
def load_zoo(
    path: str | Path,
    name: str | None = None,
    split: str = ...,
    *,
    columns: Sequence[str] | None = None,
    in_memory: bool = False,
) -> "ZooDataset": ...
def load_zoo(
    path: str | Path,
    name: str | None = None,
    split: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    in_memory: bool = False,
) -> "ZooDataset | dict[str, ZooDataset]":
    """Open a zoo; no weights are read until they are asked for.

    Args:
        path: a zoo file, a zoo folder (one with `zoo.json`), or a folder of zoo folders.
        name: which zoo of a folder of zoo folders; may be left out if it holds only one.
        split: "train", "val" (or "validation", the Hub's word) or "test"; None takes all.
        columns: scalar columns to read; None reads all. The weights are always there.
        in_memory: copy the weights of the opened files to memory at once, for slow disks.

    Returns:
        The split's dataset, or with split None a dict of every split that has rows.

    Raises:
        ZooNotFoundError: if there is no zoo at the path.
        ZooFormatError: if a file is no zoo file, contradicts its index, or lacks a column.
        ValueError: if name or split is not one of those there are, which are listed.
    """
    split, path = _checked_split(split), _find_zoo(Path(path), name)
    load = _load_file if path.is_file() else _load_folder
    datasets = load(path, split, columns, in_memory)
    return datasets if split is None else datasets[split]


@dataclass(frozen=True, eq=False, repr=False)
class ZooDataset(Dataset[Row]):
    """Rows (checkpoints) of one architecture and one split; made by `load_zoo`.

    Datasets made by `select`, `filter`, `trajectory` and `with_format` share the mapped files.

    Attributes:
        name: of the zoo.
        columns: every scalar column, (N,), numbers, or str objects. Read-only.
        source: the weights of the files.
        rows: (N,) row numbers in `source`.
        format: how items look, one of `FORMATS`.
        layer_sets: cuts the weights of every item, in format "layer_sets".
    """

    name: str
    columns: Mapping[str, np.ndarray]
    source: WeightRows
    rows: np.ndarray
    format: str = "torch"
    layer_sets: LayerSets | None = None

    @property
    def header(self) -> ZooHeader:
        """The root attributes of the first file."""
        return self.source.files[0].header

    @property
    def layer_table(self) -> LayerTable:
        """Where each tensor lies in the flat vector."""
        return self.header.layer_table

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Name, size and columns."""
        return (
            f"ZooDataset({self.name!r}, {len(self)} rows, D={self.layer_table.width}, "
            f"format={self.format!r}, columns={list(self.columns)})"
        )

    def __getitem__(self, key: Any) -> Any:
        """One row, one column, or many rows.

        Args:
            key: a whole number for a `Row`; a column's name, or "weights", for that column of
                all rows; a slice, list, array or tensor of row numbers, or N booleans, for a
                dict of columns.

        Returns:
            In format "torch" text is str and a text column is a list; numbers and `weights`
            (n, D) are tensors (numpy scalars in a `Row`). In format "numpy" all are arrays. In
            format "layer_sets" the keys of `LayerSets` stand in place of `weights`.

        Raises:
            IndexError: if a row number is out of range.
            KeyError: if there is no such column.
        """
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, int | np.integer) or isinstance(key, Tensor) and key.ndim == 0:
            row = self.__getitems__([operator.index(key)])[0]
            return Row(row, weights=row[WEIGHTS].numpy()) if self.format == "numpy" else row
        batch = self.__getitems__(key)
        return batch.as_numpy() if self.format == "numpy" else batch.as_torch()

    def __getitems__(self, indices: Any) -> Batch:
        """Rows read together: what a `DataLoader` asks for and `default_collate` takes whole.

        Raises:
            IndexError: if a row number is out of range.
        """
        index = positions(indices, len(self))
        columns = {name: column.take(index) for name, column in self.columns.items()}
        weights = torch.from_numpy(self.source.take(self.rows[index]))
        if self.layer_sets is None:
            return Batch(columns, {WEIGHTS: weights}, {})
        tokens = self.layer_sets(weights)
        return Batch(columns, {"values": tokens.pop("values")}, tokens)

    def __iter__(self) -> Iterator[Row]:
        """Rows in order."""
        return (self[index] for index in range(len(self)))

    def weights(self, indices: Any = None) -> Tensor:
        """Flat weights of some rows, or of all.

        Returns:
            (n, D), float32; never written again while anything refers to it.
        """
        index = slice(None) if indices is None else positions(indices, len(self))
        return torch.from_numpy(self.source.take(self.rows[index]))

    def state_dict(self, index: int) -> dict[str, Tensor]:
        """The weights of one row by tensor name, in the tensors' own shapes and types."""
        return self.layer_table.state_dict(self.weights([index])[0])

    def module(self, index: int) -> nn.Module:
        """The network of one row, with its weights, activation and dropout, in eval mode.

        Raises:
            ZooFormatError: if the file holds a layer table only, and no architecture.
            ValueError: if the columns it needs were not loaded.
        """
        architecture = self.header.architecture
        if architecture is None:
            raise ZooFormatError(
                f"zoo {self.name!r} holds no architecture to rebuild a module from: "
                "use state_dict(i) with a module of your own"
            )
        if missing := [name for name in ("activation", "dropout") if name not in self.columns]:
            raise ValueError(f"module needs the columns {missing}: load the zoo with them")
        [place] = positions([index], len(self))
        activation, dropout = self.columns["activation"][place], self.columns["dropout"][place]
        module = architecture.module(activation, float(dropout))
        module.load_state_dict(self.state_dict(index))
        return module.eval()

    def select(self, indices: Any) -> "ZooDataset":
        """The dataset of some rows, in the order given.

        Raises:
            IndexError: if a row number is out of range.
        """
        index = positions(indices, len(self))
        columns = {name: _frozen(column[index]) for name, column in self.columns.items()}
        return replace(self, columns=columns, rows=self.rows[index])

    def filter(self, condition: Callable[[Mapping[str, np.ndarray]], Any]) -> "ZooDataset":
        """The dataset of the rows for which a condition on the columns holds.

        Args:
            condition: takes `columns`, returns (N,) booleans; it is called once.

        Raises:
            ValueError: if it returns anything else.
        """
        keep = np.asarray(condition(self.columns))
        if keep.dtype != np.bool_ or keep.shape != (len(self),):
            raise ValueError(
                f"condition must return {len(self)} booleans, one per row, "
                f"got {keep.dtype} of shape {keep.shape}"
            )
        return self.select(keep)

    def trajectory(self, model_id: int) -> "ZooDataset":
        """The dataset of one model's checkpoints.

        Raises:
            ValueError: if no row has this model_id, or the column was not loaded.
        """
        if "model_id" not in self.columns:
            raise ValueError("trajectory needs the column 'model_id': load the zoo with it")
        chosen = self.filter(lambda columns: columns["model_id"] == model_id)
        if len(chosen) == 0:
            ids = np.unique(self.columns["model_id"]).tolist()
            raise ValueError(
                f"no model {model_id!r} among these {len(ids)}, the first ids are {ids[:5]}"
            )
        return chosen

    def with_format(self, format: str, *, chunk_size: int = 32) -> "ZooDataset":
        """The same rows, handed out in another format.

        Args:
            format: "torch", "numpy" or "layer_sets", see `__getitem__`.
            chunk_size: values per chunk, of layer sets only.

        Raises:
            ValueError: if the format is unknown, or a column has a name that layer sets use.
        """
        if format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {format!r}")
        if format != "layer_sets":
            return replace(self, format=format, layer_sets=None)
        if clash := sorted({"values", *SHARED_KEYS} & set(self.columns)):
            raise ValueError(f"layer sets use the names {clash}: load the zoo without them")
        return replace(self, format=format, layer_sets=LayerSets(self.layer_table, chunk_size))

    def _column(self, name: str) -> Any:
        """All rows of one column, in the dataset's format."""
        if name == WEIGHTS:
            return self.weights().numpy() if self.format == "numpy" else self.weights()
        if name not in self.columns:
            raise KeyError(f"no column {name!r}, there are {[*self.columns, WEIGHTS]}")
        column = self.columns[name].copy()
        return column if self.format == "numpy" else as_torch(column)


def _checked_split(split: str | None) -> str | None:
    """Our word for a split."""
    words = {hub: ours for ours, hub in FILE_SPLITS.items()} | {ours: ours for ours in SPLITS}
    if split is not None and split not in words:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    return None if split is None else words[split]


def _find_zoo(path: Path, name: str | None) -> Path:
    """The zoo file or folder that path and name stand for."""
    if path.is_file() or (path / INDEX_NAME).is_file():
        if name is not None:
            raise ValueError(f"{path} is one zoo, not a folder of zoos: leave out name={name!r}")
        return path
    folders = path.iterdir() if path.is_dir() else ()
    zoos = sorted(folder.name for folder in folders if (folder / INDEX_NAME).is_file())
    if not zoos:
        raise ZooNotFoundError(
            f"no zoo at {path}: neither a file, nor a folder with {INDEX_NAME} in it or in its "
            "folders; build one with `weightzoo build RECIPE --out FOLDER`"
        )
    if name is None and len(zoos) == 1:
        return path / zoos[0]
    if name not in zoos:
        raise ValueError(f"{path} holds several zoos: name must be one of {zoos}, got {name!r}")
    return path / name


def _load_file(
    path: Path, split: str | None, columns: Sequence[str] | None, in_memory: bool
) -> dict[str, ZooDataset]:
    """The splits of one file, by its column `split`."""
    file = open_zoo_file(path)
    datasets = _by_split(str(file.header.recipe.get("name", path.stem)), [file], columns, in_memory)
    _check_has_rows(path, split, datasets)
    return datasets


def _load_folder(
    folder: Path, split: str | None, columns: Sequence[str] | None, in_memory: bool
) -> dict[str, ZooDataset]:
    """One split of a zoo folder, or all."""
    index = ZooIndex.read(folder)
    files_of: dict[str, list[ZooFile]] = {shard.split: [] for shard in index.shards}
    _check_has_rows(folder, split, files_of)
    shards = [shard for shard in index.shards if split in (None, shard.split)]
    for shard, file in zip(shards, index.open(folder, split), strict=True):
        files_of[shard.split].append(file)
    datasets: dict[str, ZooDataset] = {}
    for part, files in files_of.items():
        if files:
            found = _by_split(index.name, files, columns, in_memory)
            if list(found) != [part]:
                raise ZooFormatError(
                    f"{folder}: {INDEX_NAME} lists {[str(file.path.name) for file in files]} as "
                    f"split {part!r}, but their rows are of {list(found)}"
                )
            datasets |= found
    return datasets


def _by_split(
    name: str, files: Sequence[ZooFile], names: Sequence[str] | None, in_memory: bool
) -> dict[str, ZooDataset]:
    """One dataset for every split that has rows in the files."""
    if names is None:
        names = list(files[0].columns)
    names = [column for column in names if column != WEIGHTS]
    parts = [file.read_columns([*names, "split"]) for file in files]
    columns = {key: _interned(np.concatenate([part[key] for part in parts])) for key in parts[0]}
    split = columns["split"]
    if odd := set(split) - set(SPLITS):
        raise ZooFormatError(f"{files[0].path}:split must be one of {SPLITS}, got {sorted(odd)}")
    shown = {key: _frozen(columns[key]) for key in names}
    source = WeightRows(files, in_memory)
    everything = ZooDataset(name, shown, source, np.arange(len(source)))
    return {part: everything.select(split == part) for part in SPLITS if part in split}


def _check_has_rows(path: Path, split: str | None, there: Mapping[str, Any]) -> None:
    if split is not None and split not in there:
        raise ValueError(f"{path} has no rows of split {split!r}, it has {list(there)}")


def _interned(column: np.ndarray) -> np.ndarray:
    """A text column with one object per distinct text, which is small and stays in cache."""
    if column.dtype.kind != "O":
        return column
    return np.array([sys.intern(text) for text in column], dtype=object)


def _frozen(column: np.ndarray) -> np.ndarray:
    """The same column, protected from being written."""
    column.flags.writeable = False
    return column
