"""`MixedZoo`: rows of many architectures as one dataset.

Shape letters: N rows of the dataset, n rows of one architecture.
"""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...zoos.errors import ZooError, did_you_mean
from ...zoos.format import SPLITS
from ...zoos.mixed_format import MixedIndex
from ...zoos.networks.wild_park import wild_park_cnn
from ..dataset.batch import Row
from ..dataset.conditions import rows_where
from ..dataset.zoo_dataset import ZooDataset
from ..protocols import Resplit
from ..splits import SplitPart
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows, positions
from ..storage.shards import Shards
from ..zoo_dict import ZooDict

ARCHITECTURE = "architecture_name"
WILD_PARK = "wildpark"  # import format whose networks are rebuilt from their columns


class OneArchitectureError(ZooError, AttributeError):
    """Something needs rows of one architecture, and a mixed zoo has many."""


class MixedFolder:
    """An open mixed zoo: all columns in memory, weights in mapped files.

    Attributes:
        folder: folder of the zoo.
        index: its `zoo.json`.
        columns: all scalar columns by name, (N,) each, and the column "architecture_name".
        part_of_row: number of the architecture of each row, (N,).
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] | None,
        in_memory: bool,
        verify: bool,
        splits: Collection[str] | None = None,
    ) -> None:
        """Read the index and the columns.

        Args:
            folder: folder of the zoo.
            names: scalar columns to keep; None keeps all.
            in_memory: copy the weights of an architecture to memory when it is first read.
            verify: read without a memory map, see `load_zoo`.
            splits: splits to open, whose files alone are read; None opens all.

        Raises:
            ValueError: if a split has no rows.
            ZooFormatError: if a file contradicts the index.
            KeyError: if a name is no column.
        """
        index = MixedIndex.read(folder)
        self.folder, self.index = folder, index if splits is None else index.of_splits(splits)
        self._in_memory, self._verify = in_memory, verify
        columns = self.index.read_columns(folder)
        self.part_of_row = np.zeros(len(columns["split"]), np.int64)
        self._rows: list[np.ndarray] = []
        starts, start = {}, 0
        for files in self.index.files:
            starts[files.split], start = start, start + files.rows
        for number, part in enumerate(self.index.parts):
            spans = [(starts[s.split] + s.first_row, s.rows) for s in part.segments]
            self._rows.append(np.concatenate([np.arange(a, a + n) for a, n in spans]))
            self.part_of_row[self._rows[-1]] = number
        titles = np.array([part.name for part in self.index.parts], object)
        columns[ARCHITECTURE] = titles[self.part_of_row]
        kept = list(columns) if names is None else [*names, "split", ARCHITECTURE]
        if unknown := [name for name in kept if name not in columns]:
            raise KeyError(f"no columns {unknown}, there are {list(columns)}")
        self.columns = {name: columns[name] for name in dict.fromkeys(kept)}
        self._open: dict[int, ZooDataset] = {}

    def rows_of_part(self, number: int) -> np.ndarray:
        """Row numbers of one architecture, (n,)."""
        return self._rows[number]

    def dataset(self, number: int) -> ZooDataset:
        """All rows of one architecture, opened when first needed."""
        if number not in self._open:
            part, rows = self.index.parts[number], self._rows[number]
            files = Shards(self.index.zoo_files(self.folder, part))
            own = {name: column[rows] for name, column in self.columns.items()}
            table = ColumnTable.of_columns(files, own, list(own))
            source = WeightRows(files, self._in_memory, verify_on_read=self._verify)
            every = np.arange(len(rows))
            self._open[number] = ZooDataset(part.name, source, table, every, tuple(own))
        return self._open[number]


@dataclass(frozen=True, eq=False, repr=False)
class MixedZoo:
    """Rows (checkpoints) of many architectures; `load_zoo` returns it for a mixed zoo.

    Rows are numbered through and share their columns. The column "architecture_name" tells which
    architecture a row is of. Batches are of one architecture each.

    Attributes:
        name: name of the zoo.
        source: open folder of the zoo.
        rows: row numbers in `source`, (N,).
        split_rule: description of the splits, if they are not those of the files.

    Example:
        >>> from weightzoo.loaders import MixedZoo
        >>> def count_batches(zoo: MixedZoo) -> int:
        ...     return sum(1 for architecture, batch in zoo.batches(32, seed=0))
    """

    name: str
    source: MixedFolder
    rows: np.ndarray
    split_rule: Mapping[str, Any] | None = None

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Scalar columns by name, (N,) each, numbers or str objects."""
        return {name: column[self.rows] for name, column in self.source.columns.items()}

    @property
    def splitting(self) -> Mapping[str, Any]:
        """How the splits were made, as plain data: "by" names the kind, "protocol" a protocol."""
        return self.source.index.header["split"] if self.split_rule is None else self.split_rule

    @property
    def architectures(self) -> dict[str, ZooDataset]:
        """The rows of each architecture as a `ZooDataset`, in row order, by name."""
        parts = self.source.part_of_row[self.rows]
        return {
            self.source.index.parts[number].name: self._part(number, parts)
            for number in np.unique(parts).tolist()
        }

    def __getattr__(self, name: str) -> Any:
        """Say what to do instead of what only a `ZooDataset` has.

        Raises:
            OneArchitectureError: if a `ZooDataset` has the name.
            AttributeError: for any other name.
        """
        if name.startswith("_") or not hasattr(ZooDataset, name):
            raise AttributeError(f"'MixedZoo' object has no attribute {name!r}")
        known = [part.name for part in self.source.index.parts]
        raise OneArchitectureError(
            f"{self.name} is a mixed zoo of many architectures, and {name!r} needs rows of one: "
            f"take one of zoo['train'].architectures, such as {known[0]!r}"
        )

    def __len__(self) -> int:
        """N, number of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Show name, rows and number of architectures."""
        count = len(np.unique(self.source.part_of_row[self.rows]))
        return f"MixedZoo({self.name!r}, {len(self)} rows, {count} architectures)"

    def __getitem__(self, key: Any) -> Any:
        """Return one row by its number, or one column by its name.

        Raises:
            IndexError: if the row number is out of range.
            KeyError: if there is no such column.
        """
        if isinstance(key, str):
            if key not in self.columns:
                known = list(self.columns)
                raise KeyError(f"no column {key!r}, there are {known}" + did_you_mean(key, known))
            return self.columns[key]
        dataset, index = self._place(operator.index(key))
        return dataset[index]

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows in order."""
        return (self[index] for index in range(len(self)))

    def state_dict(self, index: int) -> dict[str, Tensor]:
        """Read the weights of one row by tensor name, in the shapes and types of the tensors."""
        dataset, own = self._place(index)
        return dataset.state_dict(own)

    def module(self, index: int) -> nn.Module:
        """Rebuild the network of one row, in eval mode.

        Raises:
            ZooFormatError: if only the layer table of its architecture is known, or a column that
                is needed was not loaded.
        """
        dataset, own = self._place(index)
        is_park = self.source.index.header["recipe"].get("format") == WILD_PARK
        if dataset.header.architecture is None and is_park:
            row = {name: column[index] for name, column in self.columns.items()}
            return wild_park_cnn(dataset.state_dict(own), row)
        return dataset.module(own)

    def select(self, indices: Any) -> "MixedZoo":
        """Select rows, in the given order.

        Raises:
            IndexError: if a row number is out of range.
        """
        return replace(self, rows=self.rows[positions(indices, len(self))])

    def filter(self, condition: str | Callable[[Mapping[str, np.ndarray]], Any]) -> "MixedZoo":
        """Select the rows of all architectures that fulfil a condition on the columns.

        Args:
            condition: a comparison such as `"test_accuracy >= 0.5 and epoch == 12"`, or a function
                of `columns` that returns (N,) booleans.

        Raises:
            ValueError: if the text is no comparison, or the function returns no (N,) booleans.
        """
        found = (
            rows_where(condition, self.columns)
            if isinstance(condition, str)
            else np.asarray(condition(self.columns))
        )
        if found.dtype != np.bool_ or found.shape != (len(self),):
            raise ValueError(
                f"condition must return {len(self)} booleans, one per row, got {found.dtype} of "
                f"shape {found.shape}"
            )
        return self.select(found)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Iterate once over all rows in batches of one architecture each.

        Args:
            batch_size: largest number of rows of a batch; the last one of each architecture may
                be smaller.
            seed: seed of the order of rows and batches; None keeps the order of the rows.
            epoch: number of the pass, which changes the order.

        Yields:
            Name of the architecture, and the batch as `ZooDataset.__getitem__` returns it.

        Raises:
            ValueError: if the batch size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        parts = self.source.part_of_row[self.rows]
        random = None if seed is None else np.random.default_rng((seed, epoch))
        turns: list[tuple[int, np.ndarray]] = []
        for number in np.unique(parts).tolist():
            own = np.flatnonzero(parts == number)
            own = own if random is None else random.permutation(own)
            turns += [(number, own[i : i + batch_size]) for i in range(0, len(own), batch_size)]
        order = range(len(turns)) if random is None else random.permutation(len(turns)).tolist()
        for turn in order:
            number, chosen = turns[turn]
            own_rows = self.source.rows_of_part(number)
            index = np.searchsorted(own_rows, self.rows[chosen])
            yield self.source.index.parts[number].name, self.source.dataset(number)[index]

    def _part(self, number: int, parts: np.ndarray) -> ZooDataset:
        own = self.rows[parts == number]
        return self.source.dataset(number).select(
            np.searchsorted(self.source.rows_of_part(number), own)
        )

    def _place(self, index: int) -> tuple[ZooDataset, int]:
        """The architecture's dataset of a row, and its number there."""
        row = int(self.rows[positions([index], len(self))[0]])
        number = int(self.source.part_of_row[row])
        own = int(np.searchsorted(self.source.rows_of_part(number), row))
        return self.source.dataset(number), own


class MixedZooDict(ZooDict):
    """Splits of a mixed zoo, as `load_zoo` returns them; every value is a `MixedZoo`."""

    def __repr__(self) -> str:
        """Show the rows of each split."""
        rows = ", ".join(f"{split}: {len(part)} rows" for split, part in self.items())
        return f"MixedZooDict({rows})"

    def _repr_html_(self) -> str:
        return repr(self)

    def save(self, *given: Any, **options: Any) -> Any:
        """Reject to save: a mixed zoo is copied as a folder, its architectures one by one.

        Args:
            *given: arguments of `ZooDict.save`, which are ignored.
            **options: options of `ZooDict.save`, which are ignored.

        Raises:
            ValueError: always; the message says what to do instead.
        """
        raise ValueError(
            "a mixed zoo cannot be saved as one: copy its folder, or save one of its "
            "architectures, such as zoo['train'].architectures[NAME].save(FILE)"
        )


def open_mixed_zoo(
    folder: Path,
    parts: Sequence[SplitPart] | None,
    columns: Sequence[str] | None,
    in_memory: bool,
    verify: bool,
    resplit: Resplit | None = None,
) -> Any:
    """Open a mixed zoo as `load_zoo` does.

    Args:
        folder: folder of the zoo.
        parts: split expression; None takes all splits.
        columns: scalar columns to read; None reads all.
        in_memory: copy the weights to memory.
        verify: read without a memory map.
        resplit: function of all columns that returns the split of each row, "" for rows that are
            left out, and a description; None keeps the stored splits.

    Raises:
        ValueError: if a split has no rows.
    """
    named = columns if resplit is None else None
    wanted = None if parts is None or resplit else {part.split for part in parts}
    source = MixedFolder(folder, named, in_memory, verify, wanted)
    rule = None
    if resplit is not None:
        source.columns["split"], rule = resplit(source.columns, source.index.header["split"])
        kept = source.columns if columns is None else [*columns, "split", ARCHITECTURE]
        source.columns = {name: source.columns[name] for name in dict.fromkeys(kept)}
    splits = source.columns["split"]
    found = {
        split: MixedZoo(source.index.name, source, np.flatnonzero(splits == split), rule)
        for split in SPLITS
        if (splits == split).any()
    }
    if parts is None:
        return MixedZooDict(found)  # type: ignore[arg-type]
    rows = []
    for part in parts:
        if part.split not in found:
            raise ValueError(f"{folder} has no rows of split {part.split!r}, it has {list(found)}")
        whole = found[part.split]
        chosen = whole if part.whole else whole.select(part.rows(whole["model_id"]))
        rows.append(chosen.rows)
    return MixedZoo(source.index.name, source, np.concatenate(rows), rule)
