"""Facts of a zoo for its card, read from its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..format import Column, ZooHeader, open_zoo_file, read_columns_file
from ..index import Shard, ZooIndex
from ..mixed_format import MixedHeader, MixedIndex
from ..networks.layer_table import LayerTable


@dataclass(frozen=True, kw_only=True)
class CardZoo:
    """Facts of one zoo for its card.

    Attributes:
        name: name of the config under which users load it.
        index: index of its files; a `MixedIndex` of a zoo of many architectures.
        header: root attributes of any of its files.
        columns: numpy dtype of each scalar column, `object` for text, in file order.
        num_bytes: size of the rows of each split in Arrow's memory layout.
        has_plot: whether `PLOT_NAME` is beside its files.
    """

    name: str
    index: ZooIndex | MixedIndex
    header: ZooHeader | MixedHeader
    columns: dict[str, np.dtype]
    num_bytes: dict[str, int]
    has_plot: bool = False

    @property
    def tables(self) -> tuple[Shard, ...]:
        """The files that stock `datasets` reads."""
        return self.index.column_shards if isinstance(self.index, MixedIndex) else self.index.shards

    @property
    def models(self) -> int:
        """Number of models."""
        return sum(shard.models for shard in self.tables)

    @property
    def rows(self) -> int:
        """Number of checkpoints."""
        return sum(shard.rows for shard in self.tables)

    @property
    def networks(self) -> str:
        """Size of the networks, in words."""
        if isinstance(self.index, MixedIndex):
            sizes = [part.layer_table.parameters for part in self.index.parts]
            count = f"{len(sizes):,} architectures" if len(sizes) > 1 else "1 architecture"
            return f"{count} with {min(sizes):,} to {max(sizes):,} parameters"
        table = self.layer_table
        assert table is not None
        return f"{table.parameters:,} parameters each (rows of {table.width:,} values with buffers)"

    @property
    def layer_table(self) -> LayerTable | None:
        """Layer table of all rows; None in a zoo of many architectures."""
        return self.header.layer_table if isinstance(self.header, ZooHeader) else None


def read_card_zoo(
    folder: Path, index: ZooIndex | MixedIndex, name: str | None = None, has_plot: bool = False
) -> CardZoo:
    """Read the facts of a zoo for its card.

    Args:
        folder: zoo folder.
        index: index of the zoo.
        name: name of the config; None takes the zoo's name.
        has_plot: whether `PLOT_NAME` is beside the files.

    Raises:
        ZooNotFoundError: if a file of the index is missing.
        ZooFormatError: if one of them is not a zoo file.
    """
    if isinstance(index, MixedIndex):
        return _read_mixed(folder, index, name or index.name, has_plot)
    files = [open_zoo_file(folder / shard.path) for shard in index.shards]
    sizes = dict.fromkeys((shard.split for shard in index.shards), 0)
    for shard, file in zip(index.shards, files, strict=True):
        texts = file.read_columns([name for name in file.columns if file.columns[name].kind == "O"])
        row_bytes = _row_bytes(file.columns) + 4 * file.width
        sizes[shard.split] += file.rows * row_bytes + _text_bytes(texts)
    return CardZoo(
        name=name or index.name,
        index=index,
        header=files[0].header,
        columns=files[0].columns,
        num_bytes=sizes,
        has_plot=has_plot,
    )


def _read_mixed(folder: Path, index: MixedIndex, name: str, has_plot: bool) -> CardZoo:
    """Facts of a zoo of many architectures."""
    kinds: dict[str, np.dtype] = {}
    sizes = {}
    for shard in index.column_shards:
        columns = read_columns_file(folder / shard.path)
        kinds = {column: values.dtype for column, values in columns.items()}
        sizes[shard.split] = shard.rows * _row_bytes(kinds) + _text_bytes(columns)
    header = MixedHeader(
        hyper_parameters=tuple(index.header["hyper_parameters"]),
        recipe=index.header["recipe"],
        provenance=index.header["provenance"],
    )
    return CardZoo(
        name=name, index=index, header=header, columns=kinds, num_bytes=sizes, has_plot=has_plot
    )


def split_rows(shards: Sequence[Shard], split: str) -> int:
    """Number of rows of a split.

    Args:
        shards: files of a zoo.
        split: "train", "val" or "test".
    """
    return sum(shard.rows for shard in shards if shard.split == split)


def _row_bytes(kinds: Mapping[str, np.dtype]) -> int:
    """Size of a row's scalars in Arrow's memory layout: values, and the int32 offset of a text."""
    return sum(4 if kind.kind == "O" else kind.itemsize for kind in kinds.values())


def _text_bytes(columns: Mapping[str, Column]) -> int:
    """Size of all texts of columns."""
    texts = [column for column in columns.values() if column.dtype.kind == "O"]
    return sum(len(text.encode()) for column in texts for text in column)
