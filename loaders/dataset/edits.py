"""What changes a dataset: columns added, renamed, removed and computed; rows sorted and shuffled.

All of it returns a new dataset that shares the mapped files; `save_zoo` writes one as a folder.

Shape letters: N rows of the dataset, n rows of a batch, D length of the flat weight vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from torch import Tensor

from ...zoos.column_values import column_array
from ...zoos.format import WEIGHTS, open_zoo_file
from ...zoos.splits import draw_splits
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows
from .row_protocol import ZooRows
from .saving import save_rows
from .table_edits import check_columns, with_columns, with_names

if TYPE_CHECKING:
    import pandas


class Batch(dict[str, Any]):
    """Columns of some rows by name, with "weights" if they were asked for."""

    def __missing__(self, name: str) -> Any:
        """Say which columns there are.

        Raises:
            KeyError: always.
        """
        hint = ": give map(..., weights=True)" if name == WEIGHTS else ""
        raise KeyError(f"no column {name!r}, the columns are {list(self)}{hint}")


class Editable:
    """The edits of `ZooDataset`, which has these attributes."""

    name: str
    source: WeightRows
    table: ColumnTable
    rows: np.ndarray
    shown: tuple[str, ...]

    def add_column(self, name: str, values: Any) -> Self:
        """The same rows with one column more.

        Args:
            name: name of the new column.
            values: (N,) text, numbers or booleans, in the order of the rows.

        Raises:
            TypeError: if the name is no text, or the values are of other types.
            ValueError: if there is such a column, or the values are not one per row.

        Example:
            >>> from weightzoo import load_zoo
            >>> zoo = load_zoo(ZOO, split="train")
            >>> zoo.add_column("rank", range(len(zoo))).columns["rank"][:3]
            array([0, 1, 2])
        """
        if not isinstance(name, str):
            raise TypeError(
                f"add_column takes the name of the column first, got {type(name).__name__}: "
                "add_column('NAME', values)"
            )
        if name in self._own.table.kinds or name == WEIGHTS or not name.isidentifier():
            raise ValueError(
                f"a column cannot be named {name!r}: the name is taken or no name; replace a "
                "column with map"
            )
        return self._edited({name: column_array(name, values)})

    def rename_columns(self, names: Mapping[str, str]) -> Self:
        """The same rows with columns under other names.

        Args:
            names: new name by present name.

        Raises:
            TypeError: if the names are no dict.
            KeyError: if there is no such column.
            ValueError: if every zoo needs the column under its name, or a new name is taken.

        Example:
            >>> from weightzoo import load_zoo
            >>> zoo = load_zoo(ZOO, split="train")
            >>> "step_size" in zoo.rename_columns({"lr": "step_size"}).columns
            True
        """
        if not isinstance(names, Mapping):
            raise TypeError(
                f"rename_columns takes a dict of new names by present name, got {names!r}: "
                "rename_columns({'OLD': 'NEW'})"
            )
        table = with_names(self._own, dict(names))
        shown = tuple(names.get(name, name) for name in self.shown)
        return self._changed(table=table, shown=shown)

    def remove_columns(self, names: str | Sequence[str]) -> Self:
        """The same rows without some columns, also where they are saved.

        Args:
            names: names of the columns; those that every zoo has stay.

        Raises:
            KeyError: if there is no such column.
            ValueError: if every zoo has the column.
        """
        names = [names] if isinstance(names, str) else list(names)
        table = with_names(self._own, dict.fromkeys(names))
        return self._changed(table=table, shown=tuple(n for n in self.shown if n not in names))

    def map(
        self,
        function: Callable[[Batch], Mapping[str, Any]],
        *,
        weights: bool = False,
        batch_rows: int = 1024,
        save_to: str | Path | None = None,
    ) -> Self:
        """The same rows with columns, or weights, that a function computes batch by batch.

        Args:
            function: takes a dict of (n,) arrays by column, with the weights (n, D), float32, under
                "weights" if asked for; returns new or replaced columns, (n,) each.
            weights: whether the function reads the weights.
            batch_rows: n.
            save_to: zoo file for weights that the function returns under "weights".

        Raises:
            TypeError: if the function returns no mapping.
            ValueError: if a column has not one value per row, every batch has not the same
                columns, or weights are returned without a file for them.

        Example:
            >>> from weightzoo import load_zoo
            >>> zoo = load_zoo(ZOO, split="train")
            >>> norms = zoo.map(lambda batch: {"norm": batch["weights"].norm(dim=1)}, weights=True)
            >>> norms.columns["norm"].shape == (len(zoo),)
            True
        """
        if batch_rows < 1:
            raise ValueError(f"batch_rows must be a whole number from 1, got {batch_rows!r}")
        parts: list[dict[str, Any]] = []

        def run(rows: slice) -> dict[str, Any]:
            parts.append(self._run(function, rows, weights or save_to is not None))
            return parts[-1]

        if save_to is not None:
            return self._mapped_weights(run, parts, Path(save_to), batch_rows)
        for start in range(0, len(self.rows), batch_rows):
            if WEIGHTS in run(slice(start, start + batch_rows)):
                raise ValueError(
                    "the function returns weights: give save_to=FILE.h5, a zoo file to write"
                )
        return self._edited(_joined(parts))

    def sort(self, by: str | Sequence[str], descending: bool = False) -> Self:
        """The same rows in the order of one or more columns; equal rows keep their order.

        Args:
            by: name of the column, or names, the most important first.
            descending: largest first; missing numbers come last either way.

        Raises:
            KeyError: if there is no such column.
        """
        names = [by] if isinstance(by, str) else list(by)
        check_columns(self.table, names)
        keys = [_ranks(self.table.column(name, self.rows), descending) for name in names]
        return self._changed(rows=self.rows[np.lexsort(keys[::-1])])

    def shuffle(self, seed: int = 0) -> Self:
        """The same rows in a random order, fixed by a seed.

        Args:
            seed: seed of the order.
        """
        return self._changed(rows=np.random.default_rng(seed).permutation(self.rows))

    def train_test_split(self, test_size: float = 0.2, seed: int = 0) -> dict[str, Self]:
        """Two datasets that share no model; their column `split` says which is which.

        Args:
            test_size: share of the models in the test split, above 0 and below 1.
            seed: seed of the draw.

        Returns:
            Datasets under "train" and "test", rows in their order.

        Raises:
            ValueError: if the share is out of range, or one of them would have no model.

        Example:
            >>> from weightzoo import load_zoo
            >>> parts = load_zoo(ZOO, split="train").train_test_split(0.5)
            >>> set(parts["train"].columns["model_id"]) & set(parts["test"].columns["model_id"])
            set()
        """
        if not isinstance(test_size, float) or not 0 < test_size < 1:
            raise ValueError(f"test_size must be a share above 0 and below 1, got {test_size!r}")
        ids = self._own.table.column("model_id", self.rows)
        models = np.unique(ids)
        shares = {"train": 1 - test_size, "test": test_size}
        drawn = draw_splits(len(models), shares, np.random.default_rng(seed))
        split = np.array(drawn, object)[np.searchsorted(models, ids)]
        if len(set(drawn)) < 2:
            raise ValueError(
                f"{len(models)} models leave a split empty with test_size={test_size!r}"
            )
        whole = self._edited({"split": split})
        return {part: whole._changed(rows=self.rows[split == part]) for part in ("train", "test")}

    def to_pandas(self) -> "pandas.DataFrame":
        """The shown columns as a pandas frame, without the weights.

        Raises:
            ImportError: if pandas is not installed.
        """
        import pandas

        columns = self._own.columns
        return pandas.DataFrame({name: columns[name] for name in self.shown})

    @property
    def _own(self) -> ZooRows:
        return cast(ZooRows, self)

    def _changed(self, **changes: Any) -> Self:
        return cast(Self, replace(cast(Any, self), **changes))

    def _edited(self, columns: Mapping[str, np.ndarray]) -> Self:
        """With new or replaced columns, which are shown; new splits are those of no protocol."""
        table = with_columns(self._own, columns)
        changes = {"split_rule": {"by": "given"}} if "split" in columns else {}
        shown = tuple(dict.fromkeys([*self.shown, *columns]))
        return self._changed(table=table, shown=shown, **changes)

    def _run(
        self, function: Callable[[Batch], Mapping[str, Any]], rows: slice, weights: bool
    ) -> dict[str, Any]:
        """What a function makes of one batch, checked."""
        columns = self._own.columns
        batch = Batch({name: columns[name][rows] for name in columns})
        count = len(self.rows[rows])
        if weights:
            batch[WEIGHTS] = cast(Any, self).weights(rows)
        made = function(batch)
        if not isinstance(made, Mapping):
            raise TypeError(
                f"the function must return a dict of columns, got {type(made).__name__}"
            )
        for name, values in made.items():
            if not hasattr(values, "__len__") or isinstance(values, str) or len(values) != count:
                raise ValueError(f"the function must return {count} values as {name!r}, one a row")
        return {k: v if k == WEIGHTS else column_array(k, v) for k, v in made.items()}

    def _mapped_weights(
        self,
        run: Callable[[slice], dict[str, Any]],
        parts: list[dict[str, Any]],
        path: Path,
        batch_rows: int,
    ) -> Self:
        """Write the returned weights to a file, and read the dataset from there."""

        def weights_of(rows: slice) -> np.ndarray:
            found = [
                _weights(run(slice(start, min(start + batch_rows, rows.stop))), self.source.width)
                for start in range(rows.start, min(rows.stop, len(self.rows)), batch_rows)
            ]
            return np.concatenate(found)

        save_rows(self._own, path, weights_of)
        columns = {name: self.table.column(name, self.rows) for name in self.table.kinds}
        source = WeightRows([open_zoo_file(path)])
        names, aliases = self.table.names, self.table.aliases
        table = ColumnTable.of_columns(source.files, columns, names, aliases)
        whole = self._changed(source=source, table=table, rows=np.arange(len(source)))
        made = [{k: v for k, v in part.items() if k != WEIGHTS} for part in parts]
        return whole._edited(_joined(made))


def _weights(made: Mapping[str, Any], width: int) -> np.ndarray:
    """The weights that a function returned."""
    if WEIGHTS not in made:
        raise ValueError("with save_to the function must return weights (n, D) under 'weights'")
    values = made[WEIGHTS]
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(f"weights must be (n, {width}), got shape {values.shape}")
    return values.astype(np.float32, copy=False)


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of all batches."""
    for part in parts:
        if set(part) != set(parts[0]):
            odd = sorted(set(part) ^ set(parts[0]))
            raise ValueError(f"the function must return the same columns for every batch: {odd}")
    names = parts[0] if parts else ()
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _ranks(column: np.ndarray, descending: bool) -> np.ndarray:
    """Whole numbers that sort as the values do; missing numbers are largest."""
    _, ranks = np.unique(column, return_inverse=True)
    if not descending:
        return ranks
    missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)
    return np.where(missing, 1, -ranks)
