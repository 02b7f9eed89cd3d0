"""Column tables of edited datasets: columns added, replaced, renamed or removed.

An edited table is in memory; the files stay as they are.

Shape letters: N rows of the dataset.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...zoos.errors import did_you_mean
from ...zoos.format import IDENTITY, WEIGHTS
from ...zoos.lineage import LINEAGE
from ..storage.columns import ColumnTable
from .row_protocol import ZooRows

ACTIVATION = "activation"  # column, and kind of layer


def with_columns(dataset: ZooRows, columns: Mapping[str, np.ndarray]) -> ColumnTable:
    """A table with some columns new or replaced.

    Args:
        dataset: N rows.
        columns: (N,) by name, as `column_array` makes them.

    Raises:
        ValueError: if a column has another length, or a row that the dataset holds twice gets two
            values.
    """
    content = _content(dataset.table)
    for name, values in columns.items():
        if values.shape != (len(dataset),):
            raise ValueError(
                f"column {name!r} has {len(values)} values, and the dataset {len(dataset)} rows"
            )
        content[name] = _spread(name, values, dataset.rows, _rows_in(dataset.table))
    names = dict.fromkeys([*dataset.table.names, *columns])
    return _table(dataset.table, content, list(names), {})


def check_columns(table: ColumnTable, names: Sequence[str]) -> None:
    """Refuse names that no column has.

    Args:
        table: columns of a dataset.
        names: names that must be there.

    Raises:
        KeyError: if one is missing; the message lists the columns.
    """
    if unknown := [name for name in names if name not in table.names]:
        known = list(table.names)
        raise KeyError(f"no columns {unknown}, there are {known}{did_you_mean(unknown, known)}")


def with_names(dataset: ZooRows, names: Mapping[str, str | None]) -> ColumnTable:
    """A table with columns under other names, or without them.

    Args:
        dataset: N rows.
        names: new name by present name; None removes the column.

    Raises:
        KeyError: if there is no such column.
        ValueError: if every zoo needs the column, or a new name is taken or none.
    """
    table = dataset.table
    check_columns(table, list(names))
    _check_may_go(list(names))
    _check_rebuilt(dataset, names)
    new = [names.get(name, name) for name in table.names]
    kept = [name for name in new if name is not None]
    for name in names.values():
        if name is not None and (
            kept.count(name) > 1 or not name.isidentifier() or name == WEIGHTS
        ):
            raise ValueError(f"a column cannot be named {name!r}: the name is taken or no name")
    content = {
        present: column
        for name, column in _content(table).items()
        if (present := names.get(name, name)) is not None
    }
    return _table(table, content, kept, names)


def _check_may_go(names: Sequence[str]) -> None:
    if fixed := [name for name in names if name in IDENTITY]:
        raise ValueError(
            f"every zoo has the columns {fixed} under these names: use select_columns to hide them"
        )
    some = [name for name in LINEAGE if name in names]
    if some and len(some) < len(LINEAGE):
        raise ValueError(f"lineage takes the columns {list(LINEAGE)}: remove all of them, or none")


def _check_rebuilt(dataset: ZooRows, names: Mapping[str, str | None]) -> None:
    """Refuse to take the column away without which no network of the zoo is rebuilt."""
    architecture = dataset.header.architecture
    if ACTIVATION in names and architecture is not None and ACTIVATION in architecture.kinds():
        raise ValueError(
            f"networks are rebuilt with the column {ACTIVATION!r}: keep it, or hide it with "
            "select_columns"
        )


def _table(
    before: ColumnTable,
    content: Mapping[str, np.ndarray],
    names: Sequence[str],
    renamed: Mapping[str, str | None],
) -> ColumnTable:
    """A table in memory that remembers what the columns of the files are called now."""
    aliases = {old: renamed.get(new, new) if new else None for old, new in before.aliases.items()}
    aliases |= {old: new for old, new in renamed.items() if old not in before.aliases.values()}
    return ColumnTable.of_columns(before.files, content, names, aliases)


def _rows_in(table: ColumnTable) -> int:
    return int(table.files.counts.sum())


def _content(table: ColumnTable) -> dict[str, np.ndarray]:
    """Every column of all rows of the files."""
    rows = np.arange(_rows_in(table))
    return {name: table.column(name, rows) for name in table.kinds}


def _spread(name: str, values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Values of some rows in a column of all rows of the files."""
    full = np.full(count, "", object) if values.dtype.kind == "O" else np.zeros(count, values.dtype)
    full[rows] = values
    differs = full[rows] != values
    if values.dtype.kind == "f":
        differs &= ~(np.isnan(full[rows]) & np.isnan(values))
    if np.any(differs):
        raise ValueError(
            f"column {name!r}: a row that the dataset holds twice has two values: save the dataset "
            "first, or add the column before rows are repeated"
        )
    return full
