"""`ZooDataset`: rows of a zoo by number, in the format one asks for.

Shape letters: N rows of the dataset, n rows asked for, D length of the flat weight vector, K
checkpoints of one model.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...zoos.format import WEIGHTS, ZooHeader
from ...zoos.networks.layer_table import LayerTable
from ..storage.column_batches import Columns
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows, positions
from ..tokens.chunks import LayerSets
from ..tokens.layer_windows import cut_table, find_layer
from .arrow import to_hf
from .batch import Batch, Row, as_torch
from .conditions import rows_where
from .edits import Editable
from .formats import FORMATS, item_contents, networks
from .row_protocol import WeightTokenizer
from .saving import save_rows
from .trajectories import Trajectories

if TYPE_CHECKING:
    import datasets

BLOCK_ROWS = 1024  # of weights read at a time
_COLUMN_WISE = (
    "a condition is called once, with whole columns; join comparisons by & and |, as in "
    "lambda c: (c['epoch'] == 12) & (c['test_accuracy'] >= 0.5), or write it as a text, "
    "'epoch == 12 and test_accuracy >= 0.5'"
)


@dataclass(frozen=True, eq=False, repr=False)
class ZooDataset(Editable, Dataset[Row]):
    """Rows (checkpoints) of one architecture; made by `load_zoo`.

    What `select`, `filter`, `layer`, `with_format` and the like return shares the mapped files
    and the columns. A plain `DataLoader` reads it batch by batch: leave `num_workers=0`, since a
    worker process costs more time for passing a batch on than the batch takes to read.

    Attributes:
        name: of the zoo.
        source: the weights of the files.
        table: the scalar columns of the files.
        rows: (N,) row numbers in `source` and `table`.
        shown: names of the columns that items have.
        format: how items look, one of `FORMATS`.
        tokenizer: cuts the weights of every item, in format "layer_sets".
    """

    name: str
    source: WeightRows
    table: ColumnTable
    rows: np.ndarray
    shown: tuple[str, ...]
    format: str = "torch"
    tokenizer: WeightTokenizer | None = None

    @cached_property
    def columns(self) -> Columns:
        """Every scalar column by name, (N,), numbers, or str objects. Read-only."""
        return Columns(self.table, self.rows, self.shown)

    @property
    def header(self) -> ZooHeader:
        """The root attributes of the first file."""
        return self.source.files[0].header

    @cached_property
    def layer_table(self) -> LayerTable:
        """Where each tensor lies in the flat vector, of `layer` and `window` only their part."""
        return cut_table(self.header.layer_table, *self.source.window)

    @property
    def features(self) -> dict[str, str]:
        """The type of every column and of the weights, in words."""
        kinds = self.table.kinds
        words = {
            name: "text" if self.table.is_text(name) else str(kinds[name]) for name in self.shown
        }
        return words | {WEIGHTS: f"float32[{self.source.width}]"}

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Name, size and columns."""
        return (
            f"ZooDataset({self.name!r}, {len(self)} rows, D={self.source.width}, "
            f"format={self.format!r}, columns={list(self.shown)})"
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
            place of `weights` stand, in format "state_dict", `state_dict`, tensors (n, *shape)
            by name; in format "module", `module`, a network or a list of them; in format
            "layer_sets" the keys of the tokenizer.

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
        rows = self.rows[positions(indices, len(self))]
        contents, shared = item_contents(self, rows)
        return Batch(len(rows), self.columns.take(rows), contents, shared)

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

    def weight_blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Tensor]:
        """Flat weights of all rows in order, at most so many rows at a time."""
        return (self.weights(slice(start, start + rows)) for start in range(0, len(self), rows))

    def state_dict(self, index: int) -> dict[str, Tensor]:
        """The weights of one row by tensor name, in the tensors' own shapes and types."""
        return self.layer_table.state_dict(self.weights([index])[0])

    def module(self, index: int) -> nn.Module:
        """The network of one row, with its weights, activation and dropout, in eval mode.

        Raises:
            ZooFormatError: if the file holds a layer table only, and no architecture.
            ValueError: if the columns it needs were not loaded, or this is a `layer` or `window`.
        """
        rows = self.rows[positions([index], len(self))]
        return networks(self, rows, self.weights([index]))[0]

    def select(self, indices: Any) -> "ZooDataset":
        """The dataset of some rows, in the order given.

        Raises:
            IndexError: if a row number is out of range.
        """
        return replace(self, rows=self.rows[positions(indices, len(self))])

    def filter(self, condition: str | Callable[[Mapping[str, np.ndarray]], Any]) -> "ZooDataset":
        """The dataset of the rows for which a condition on the columns holds; reads no weights.

        Args:
            condition: a comparison such as `"test_accuracy >= 0.5 and epoch == 12"`, see
                `rows_where`, or a function that takes `columns`, is called once, and returns
                (N,) booleans.

        Raises:
            TypeError: if it is neither a text nor a function.
            ValueError: if the text is no comparison, or the function returns anything else.
        """
        if isinstance(condition, str):
            return self.select(rows_where(condition, self.columns))
        if not callable(condition):
            raise TypeError(f"condition must be a text or a function, got {condition!r}")
        keep = _called(condition, self.columns)
        if keep.dtype != np.bool_ or keep.shape != (len(self),):
            raise ValueError(
                f"condition must return {len(self)} booleans, one per row, "
                f"got {keep.dtype} of shape {keep.shape}: {_COLUMN_WISE}"
            )
        return self.select(keep)

    def select_columns(self, names: str | Sequence[str]) -> "ZooDataset":
        """The same rows with some of the columns only; the weights are always there.

        Raises:
            KeyError: if a name is not one of the columns.
        """
        names = [names] if isinstance(names, str) else names
        if unknown := [name for name in names if name not in (*self.shown, WEIGHTS)]:
            raise KeyError(f"no columns {unknown}, there are {[*self.shown, WEIGHTS]}")
        return replace(self, shown=tuple(name for name in names if name != WEIGHTS))

    def layer(self, name: str) -> "ZooDataset":
        """The same rows with the weights of one layer or tensor only; reads only their bytes.

        Args:
            name: of a layer ("conv2"), of a block of layers ("layer1" for "layer1.0.conv1"), or
                of a tensor ("conv2.weight").

        Raises:
            KeyError: if there is no such layer; the layers are listed.
        """
        return self.window(*find_layer(self.layer_table, name))

    def window(self, start: int, stop: int) -> "ZooDataset":
        """The same rows with the weights from start to stop only; reads only their bytes.

        Tensors that are cut become flat pieces named after the values they hold,
        "conv2.weight[4:9]".

        Raises:
            IndexError: if the range is empty or does not lie within 0 and D.
        """
        if not 0 <= start < stop <= self.source.width:
            raise IndexError(
                f"window must lie within 0 and {self.source.width}, got {start}:{stop}"
            )
        cut = replace(self, source=self.source.part(start, stop))
        return cut if self.format in ("torch", "numpy", "state_dict") else cut.with_format("torch")

    def trajectory(self, model_id: int) -> "ZooDataset":
        """The dataset of one model's checkpoints.

        Raises:
            ValueError: if no row has this model_id, or the column was not loaded.
        """
        ids = self.hidden_column("model_id", "trajectory")
        chosen = np.flatnonzero(ids == model_id)
        if len(chosen) == 0:
            known = np.unique(ids).tolist()
            raise ValueError(
                f"no model {model_id!r} among these {len(known)}, the first ids are {known[:5]}"
            )
        return self.select(chosen)

    def trajectories(self) -> Trajectories:
        """The dataset of which one item is a whole model: its K checkpoints in order of epoch.

        Raises:
            ValueError: if the columns `model_id` and `epoch` were not loaded.
        """
        ids, epochs = (self.hidden_column(name, "trajectories") for name in ("model_id", "epoch"))
        return Trajectories(self, ids, epochs)

    def with_format(
        self, format: str, tokenizer: WeightTokenizer | None = None, *, chunk_size: int = 32
    ) -> "ZooDataset":
        """The same rows, handed out in another format.

        Args:
            format: one of `FORMATS`, see `__getitem__`.
            tokenizer: for "layer_sets", takes (n, D) weights and returns tensors by name; those
                named in its attribute `shared` hold for all rows alike, others are (n, ...). By
                default `LayerSets` with that chunk size.
            chunk_size: values per chunk, of the default tokenizer only.

        Raises:
            ValueError: if the format is unknown, or a column has a name that layer sets use.
        """
        if format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {format!r}")
        if format != "layer_sets":
            return replace(self, format=format, tokenizer=None)
        if tokenizer is None:
            tokenizer = LayerSets(self.layer_table, chunk_size)
        if clash := sorted({"values", *getattr(tokenizer, "shared", ())} & set(self.shown)):
            raise ValueError(f"layer sets use the names {clash}: load the zoo without them")
        return replace(self, format=format, tokenizer=tokenizer)

    def to_hf(self) -> "datasets.Dataset":
        """A stock `datasets.Dataset` of the same rows and columns, all copied to memory."""
        return to_hf(self)

    def save(self, path: str | Path) -> Path:
        """Write the rows as a zoo file, with all loaded columns; an existing file is replaced.

        Raises:
            ValueError: if there is no row, or a column that every zoo file has was not loaded.
        """
        return save_rows(self, path)

    def hidden_column(self, name: str, purpose: str) -> np.ndarray:
        """A column of all rows, (N,), which need not be one that items have.

        Raises:
            ValueError: naming the purpose, if the column was not loaded.
        """
        if name not in self.table.names:
            raise ValueError(f"{purpose} needs the column {name!r}: load the zoo with it")
        return self.table.column(name, self.rows)

    def _column(self, name: str) -> Any:
        """All rows of one column, in the dataset's format."""
        if name == WEIGHTS:
            return self.weights().numpy() if self.format == "numpy" else self.weights()
        if name not in self.shown:
            raise KeyError(f"no column {name!r}, there are {[*self.shown, WEIGHTS]}")
        column = self.columns[name].copy()
        return column if self.format == "numpy" else as_torch(column)


def _called(
    condition: Callable[[Mapping[str, np.ndarray]], Any], columns: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What a condition returns; one that was written for single rows is explained."""
    try:
        return np.asarray(condition(columns))
    except ValueError as error:
        if "truth value of an array" not in str(error):
            raise
        raise ValueError(f"the condition takes one row at a time: {_COLUMN_WISE}") from error
