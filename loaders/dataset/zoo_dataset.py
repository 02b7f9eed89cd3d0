"""`ZooDataset`: rows of a zoo by row number, in one of several formats.

Shape letters: N rows of the dataset, n rows read, D length of the flat weight vector, K
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

from ...zoos.errors import did_you_mean
from ...zoos.format import WEIGHTS, ZooHeader
from ...zoos.networks.layer_table import LayerTable
from ...zoos.tokens.chunks import LayerSets
from ...zoos.tokens.layer_windows import cut_table, find_layer
from ..html import html_table
from ..storage.column_batches import Columns
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows, positions
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

BLOCK_ROWS, BLOCK_BYTES = 1024, 2**26  # most rows and bytes of weights read at once
_COLUMN_WISE = (
    "a condition is called once, with whole columns; join comparisons by & and |, as in "
    "lambda c: (c['epoch'] == 12) & (c['test_accuracy'] >= 0.5), or write it as a text, "
    "'epoch == 12 and test_accuracy >= 0.5'"
)
# Numpy's errors where a function for one value is called with a column: float(column), attributes.
_SIGNS_OF_ROWS = ("'numpy.ndarray' object", "'Columns' object", "0-dimensional", "only length-1")


@dataclass(frozen=True, eq=False, repr=False)
class ZooDataset(Editable, Dataset[Row]):
    """Rows (checkpoints) of one architecture; made by `load_zoo`.

    Datasets that `select`, `filter`, `layer`, `with_format` and similar methods return share the
    mapped files and the columns. A plain `DataLoader` reads the dataset batch by batch. Keep
    `num_workers=0`: passing a batch on from a worker process takes longer than reading it.

    Attributes:
        name: name of the zoo.
        source: weights of the files.
        table: scalar columns of the files.
        rows: row numbers in `source` and `table`, (N,).
        shown: names of the columns in the items.
        format: format of the items, one of `FORMATS`.
        tokenizer: tokenizer of the weights, in format "layer_sets".
        split_rule: description of the splits, if they are not those of the files.

    Example:
        >>> from weightzoo import load_zoo
        >>> train = load_zoo(ZOO, split="train").filter("epoch == 2")
        >>> train.weights().shape, train.columns["model_id"].tolist()
        (torch.Size([2, 71]), [0, 1])
        >>> train.with_format("numpy")[0]["weights"].shape
        (71,)
    """

    name: str
    source: WeightRows
    table: ColumnTable
    rows: np.ndarray
    shown: tuple[str, ...]
    format: str = "torch"
    tokenizer: WeightTokenizer | None = None
    split_rule: Mapping[str, Any] | None = None

    @cached_property
    def columns(self) -> Columns:
        """Scalar columns by name, (N,) each, numbers or str objects; read-only."""
        return Columns(self.table, self.rows, self.shown)

    @property
    def header(self) -> ZooHeader:
        """Root attributes of the first file."""
        return self.source.files[0].header

    @property
    def splitting(self) -> Mapping[str, Any]:
        """How the splits were made, as plain data: "by" names the kind, "protocol" a protocol."""
        return self.header.split if self.split_rule is None else self.split_rule

    @cached_property
    def layer_table(self) -> LayerTable:
        """Offset and shape of each tensor in the flat vector, within the `layer` or `window`."""
        return cut_table(self.header.layer_table, *self.source.window)

    @property
    def features(self) -> dict[str, str]:
        """Type of every column and of the weights, in words."""
        kinds = self.table.kinds
        words = {
            name: "text" if self.table.is_text(name) else str(kinds[name]) for name in self.shown
        }
        return words | {WEIGHTS: f"float32[{self.source.width}]"}

    def __len__(self) -> int:
        """N, number of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Describe name, size, format and columns."""
        return (
            f"ZooDataset({self.name!r}, {len(self)} rows, D={self.source.width}, "
            f"format={self.format!r}, columns={list(self.shown)})"
        )

    def _repr_html_(self) -> str:
        """Show the columns and their first values as a table in a notebook."""
        title = f"{self.name}: {len(self):,} rows, format {self.format!r}"
        firsts = {name: self.table.column(name, self.rows[:3]) for name in self.shown}
        cells = [
            (name, kind, ", ".join(map(str, firsts[name].tolist())) if name in firsts else "")
            for name, kind in self.features.items()
        ]
        return html_table(title, ("column", "type", "first values"), cells)

    def __getitem__(self, key: Any) -> Any:
        """Return one row, one column, or several rows.

        Args:
            key: a whole number gives a `Row`. The name of a column, or "weights", gives that column
                of all rows. A slice, list, array or tensor of row numbers, or N booleans, gives a
                dict of columns.

        Returns:
            The data in the format of the dataset. In format "torch" numbers and `weights` (n, D)
            are tensors (numpy scalars in a `Row`); text is a str, a text column a list. In format
            "numpy" all are arrays. Other formats replace `weights`: "state_dict" by `state_dict`,
            tensors (n, *shape) by name; "module" by `module`, a network or a list of networks;
            "layer_sets" by the entries that the tokenizer returns.

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
        """Read rows together, for a `DataLoader`; `default_collate` takes the batch as a whole.

        Raises:
            IndexError: if a row number is out of range.
        """
        rows = self.rows[positions(indices, len(self))]
        contents, shared = item_contents(self, rows)
        return Batch(len(rows), self.columns.take(rows), contents, shared)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows in order."""
        return (self[index] for index in range(len(self)))

    def weights(self, indices: Any = None) -> Tensor:
        """Read the flat weights of the given rows, by default of all rows.

        Returns:
            Weights, (n, D), float32; never overwritten while anything refers to them.
        """
        index = slice(None) if indices is None else positions(indices, len(self))
        return torch.from_numpy(self.source.take(self.rows[index]))

    def weight_blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Tensor]:
        """Read the flat weights of all rows in order, in blocks of at most `rows` rows and 64 MB.

        A block holds at least one row.
        """
        rows = min(rows, max(1, BLOCK_BYTES // (4 * self.source.width)))
        return (self.weights(slice(start, start + rows)) for start in range(0, len(self), rows))

    def state_dict(self, index: int) -> dict[str, Tensor]:
        """Read the weights of one row by tensor name, in the shapes and types of the tensors."""
        return self.layer_table.state_dict(self.weights([index])[0])

    def module(self, index: int) -> nn.Module:
        """Rebuild the network of one row, with its weights, activation and dropout, in eval mode.

        Raises:
            ZooFormatError: if the file holds a layer table but no architecture.
            ValueError: if a needed column was not loaded, or this is a `layer` or `window`.
        """
        rows = self.rows[positions([index], len(self))]
        return networks(self, rows, self.weights([index]))[0]

    def select(self, indices: Any) -> "ZooDataset":
        """Select rows, in the given order.

        Raises:
            IndexError: if a row number is out of range.
        """
        return replace(self, rows=self.rows[positions(indices, len(self))])

    def filter(self, condition: str | Callable[[Mapping[str, np.ndarray]], Any]) -> "ZooDataset":
        """Select the rows that fulfil a condition on the columns; no weights are read.

        Args:
            condition: a comparison such as `"test_accuracy >= 0.5 and epoch == 12"`, see
                `rows_where`, or a function of `columns` that returns (N,) booleans and is called
                once.

        Raises:
            TypeError: if the condition is neither a text nor a function.
            ValueError: if the text is no comparison, or the function returns no (N,) booleans.
        """
        if isinstance(condition, str):
            return self.select(rows_where(condition, self.columns))
        if not callable(condition):
            raise TypeError(
                f"condition must be a text or a function, got {type(condition).__name__}: rows are "
                "chosen by their numbers or by booleans with select"
            )
        keep = _called(condition, self.columns)
        if keep.dtype != np.bool_ or keep.shape != (len(self),):
            raise ValueError(
                f"condition must return {len(self)} booleans, one per row, "
                f"got {keep.dtype} of shape {keep.shape}: {_COLUMN_WISE}"
            )
        return self.select(keep)

    def select_columns(self, names: str | Sequence[str]) -> "ZooDataset":
        """Keep the named columns only; the weights are always kept.

        Raises:
            KeyError: if there is no such column.
        """
        names = [names] if isinstance(names, str) else names
        if unknown := [name for name in names if name not in (*self.shown, WEIGHTS)]:
            raise KeyError(
                f"no columns {unknown}, there are {[*self.shown, WEIGHTS]}"
                + did_you_mean(unknown, self.shown)
            )
        return replace(self, shown=tuple(name for name in names if name != WEIGHTS))

    def layer(self, name: str) -> "ZooDataset":
        """Keep the weights of one layer or tensor only; only their bytes are read.

        Args:
            name: name of a layer ("conv2"), a block of layers ("layer1" for "layer1.0.conv1"), or a
                tensor ("conv2.weight").

        Raises:
            KeyError: if there is no such layer; the message lists the layers.
        """
        return self.window(*find_layer(self.layer_table, name))

    def window(self, start: int, stop: int) -> "ZooDataset":
        """Keep the weights in a range only; only their bytes are read.

        Tensors that are cut become flat pieces, named after the values that they hold:
        "conv2.weight[4:9]".

        Args:
            start: first value, within the flat weights of this dataset.
            stop: one past the last value.

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
        """Select the checkpoints of one model.

        Raises:
            ValueError: if no row has this model_id, or the column was not loaded.
        """
        ids = self.hidden_column("model_id", "trajectory")
        chosen = np.flatnonzero(ids == model_id)
        if len(chosen) == 0:
            known = np.unique(ids).tolist()
            raise ValueError(
                f"no model {model_id!r} among {len(known)} models, the first ids are {known[:5]}"
            )
        return self.select(chosen)

    def trajectories(self) -> Trajectories:
        """Group the rows by model: an item is a model with its K checkpoints in order of epoch.

        Raises:
            ValueError: if the columns `model_id` and `epoch` were not loaded.
        """
        ids, epochs = (self.hidden_column(name, "trajectories") for name in ("model_id", "epoch"))
        return Trajectories(self, ids, epochs)

    def with_format(
        self, format: str, tokenizer: WeightTokenizer | None = None, *, chunk_size: int = 32
    ) -> "ZooDataset":
        """Set the format of the items.

        Args:
            format: one of `FORMATS`, see `__getitem__`.
            tokenizer: tokenizer for "layer_sets", a function of weights (n, D) that returns tensors
                by name. Tensors named in its attribute `shared` are equal for all rows; others are
                (n, ...). None takes `LayerSets`.
            chunk_size: number of values per chunk; default tokenizer only.

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
            raise ValueError(
                f"layer sets use the names {clash}: load the zoo without these columns"
            )
        return replace(self, format=format, tokenizer=tokenizer)

    def to_hf(self) -> "datasets.Dataset":
        """Copy the rows and columns to memory as a stock `datasets.Dataset`."""
        return to_hf(self)

    def save(self, path: str | Path) -> Path:
        """Write the rows as a zoo file with all loaded columns; an existing file is replaced.

        Raises:
            ValueError: if there is no row, or a column that every zoo file has was not loaded.
        """
        return save_rows(self, path)

    def hidden_column(self, name: str, purpose: str) -> np.ndarray:
        """Return a loaded column, also one that the items do not show.

        Args:
            name: name of the column.
            purpose: reason for reading it, for the error message.

        Returns:
            Values of all rows, (N,).

        Raises:
            ValueError: if the column was not loaded.
        """
        if name not in self.table.names:
            raise ValueError(f"{purpose} needs the column {name!r}: load the zoo with it")
        return self.table.column(name, self.rows)

    def _column(self, name: str) -> Any:
        """One column of all rows, in the format of the dataset."""
        if name == WEIGHTS:
            return self.weights().numpy() if self.format == "numpy" else self.weights()
        if name not in self.shown:
            raise KeyError(
                f"no column {name!r}, there are {[*self.shown, WEIGHTS]}"
                + did_you_mean(name, self.shown)
            )
        column = self.columns[name].copy()
        return column if self.format == "numpy" else as_torch(column)


def _called(
    condition: Callable[[Mapping[str, np.ndarray]], Any], columns: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What a condition returns; one that was written for single rows is explained."""
    try:
        return np.asarray(condition(columns))
    except ValueError as error:  # `and`, `or`, `in`, `if` on a column
        if "truth value of an array" not in str(error):
            raise
        raise ValueError(f"the condition takes one row at a time: {_COLUMN_WISE}") from error
    except (AttributeError, TypeError) as error:
        if not any(sign in str(error) for sign in _SIGNS_OF_ROWS):
            raise
        raise ValueError(
            f"the condition fails on whole columns ({error}): {_COLUMN_WISE}"
        ) from error
