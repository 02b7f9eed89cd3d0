"""Scalar columns of files in memory, packed row by row, so that a batch needs one gather.

Reading 22 columns one by one costs 22 calls and 22 cache misses per row; one record per row costs
one. Within a record, fields of one type lie side by side, so one transposed copy per type turns a
batch of records into columns. A text is stored as its index in the list of all distinct texts of
the table.

Shape letters: N rows of the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ...zoos.errors import ZooFormatError, did_you_mean
from ...zoos.format import SPLITS, ZooFile
from .shards import Shards

CODE = np.dtype(np.int32)  # type of the code of a text
ROWS_AT_ONCE = 65_536  # rows of text; a million str objects take more memory than the table


@dataclass(frozen=True)
class CodedText:
    """A text column as codes, so that a text is compared once and not in every row.

    Attributes:
        codes: index of each text in `texts`, (n,).
        texts: distinct texts, str objects.
    """

    codes: np.ndarray
    texts: np.ndarray

    def where(self, holds: np.ndarray) -> np.ndarray:
        """Rows whose text is one for which `holds`, booleans by text, is true: (n,), bool."""
        return holds[self.codes]

    def decoded(self) -> np.ndarray:
        """The column as str objects, (n,)."""
        return self.texts[self.codes]


class ColumnTable:
    """Scalar columns of files, read when they are first needed.

    Attributes:
        files: files that hold the rows.
        names: names of the columns, in the order they are shown.
        kinds: type of every column in the files, `object` for text; `split` is always read.
        dtype: type of a record.
        aliases: present name of each column of the files that was renamed, None if it was removed.
    """

    def __init__(self, files: Shards, names: Sequence[str], split: str | None = None) -> None:
        """Plan the table; nothing is read.

        Args:
            files: files of the rows.
            names: names of the columns to read.
            split: the only split allowed in the files; None allows all.

        Raises:
            ZooFormatError: if a name is not a column of the first file.
        """
        kinds = files[0].columns
        if unknown := [name for name in names if name not in kinds]:
            raise ZooFormatError(
                f"{files[0].path} has no column {unknown}, its columns are {list(kinds)}"
                + did_you_mean(unknown, kinds)
            )
        self.names = tuple(names)
        self.kinds = {name: kinds[name] for name in dict.fromkeys([*names, "split"])}
        self.dtype = _record_dtype(self.kinds)
        self.aliases: dict[str, str | None] = {}
        self.files, self._split = files, split
        self._content: tuple[np.ndarray, np.ndarray] | None = None

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the columns from the files, unless they were read before.

        Returns:
            Records, (N,), and the distinct texts by code, str objects.

        Raises:
            ZooFormatError: if a file holds rows of another split, contradicts the first file, or
                changed since it was opened.
        """
        if self._content is None:  # two threads may both read; their results are equal
            self._content = self._read_files()
        return self._content

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        return self.kinds[name].kind == "O"

    def column(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return one column of the given rows.

        Args:
            name: name of the column.
            rows: row numbers, (n,).

        Returns:
            Numbers or str objects, (n,).
        """
        column = self.coded(name, rows)
        return column.decoded() if isinstance(column, CodedText) else column

    def coded(self, name: str, rows: np.ndarray) -> np.ndarray | CodedText:
        """Return one column of the given rows, text as codes.

        Args:
            name: name of the column.
            rows: row numbers, (n,).
        """
        records, texts = self.read()
        values = records[name][rows]
        return CodedText(values, texts) if self.is_text(name) else values

    @classmethod
    def joined(cls, tables: "Sequence[ColumnTable]") -> "ColumnTable":
        """Join the rows of several tables with equal columns, one table after the other."""
        whole = copy(tables[0])
        whole.files = whole.files.joined(table.files for table in tables[1:])
        whole._split = None
        codes: dict[str, int] = {}
        parts = []
        for table in tables:
            records, texts = table.read()
            records, new_code = records.copy(), _encode(texts, codes)
            for name in filter(table.is_text, table.kinds):
                records[name] = new_code[records[name]]
            parts.append(records)
        whole._content = np.concatenate(parts), _by_code(codes)
        return whole

    @classmethod
    def of_columns(
        cls,
        files: Shards,
        columns: Mapping[str, np.ndarray],
        names: Sequence[str],
        aliases: Mapping[str, str | None] | None = None,
    ) -> "ColumnTable":
        """A table of columns in memory, which stand for those of the files.

        Args:
            files: files of the rows.
            columns: (N,) by name, numbers or str objects; "split" is one of them.
            names: columns of the table, in the order they are shown.
            aliases: present name of each renamed column of the files, None for a removed one.
        """
        table = cls.__new__(cls)
        table.names, table.files, table._split = tuple(names), files, None
        table.aliases = dict(aliases or {})
        table.kinds = {name: columns[name].dtype for name in dict.fromkeys([*names, "split"])}
        table.dtype = _record_dtype(table.kinds)
        records = np.zeros(int(files.counts.sum()), table.dtype)
        codes: dict[str, int] = {}
        for name in table.kinds:
            column = columns[name]
            records[name] = _encode(column, codes) if table.is_text(name) else column
        table._content = records, _by_code(codes)
        return table

    def _read_files(self) -> tuple[np.ndarray, np.ndarray]:
        """Read every column of every file; text is encoded at once, so no str stays in memory."""
        records = np.zeros(int(self.files.counts.sum()), self.dtype)
        codes: dict[str, int] = {}
        start = 0
        for file in self.files:
            part = records[start : start + file.rows]
            for name, first, column in _read_blocks(file, list(self.kinds)):
                values = _encode(column, codes) if self.is_text(name) else column
                part[name][first : first + len(column)] = values
            file.check_unchanged()
            self._check_split(file, _by_code(codes)[np.unique(part["split"])].tolist())
            start += file.rows
        return records, _by_code(codes)

    def _check_split(self, file: ZooFile, found: list[str]) -> None:
        allowed = list(SPLITS) if self._split is None else [self._split]
        if set(found) - set(allowed):
            raise ZooFormatError(
                f"{file.path}: the rows are of split {found}, allowed are {allowed} by "
                f"{'the format' if self._split is None else 'the index of the zoo'}: build the zoo "
                "again"
            )


def _read_blocks(file: ZooFile, names: list[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Blocks of the columns of a file: name, first row and values of each block."""
    if file.rows <= ROWS_AT_ONCE:
        for name, column in file.read_columns(names).items():
            yield name, 0, column
        return
    for name in names:
        if file.columns[name].kind != "O":
            yield name, 0, file.read_columns([name])[name]
            continue
        try:
            with h5py.File(file.path, "r") as opened:
                texts = opened[name].asstr()
                for first in range(0, file.rows, ROWS_AT_ONCE):
                    yield name, first, texts[first : first + ROWS_AT_ONCE]
        except (OSError, KeyError, RuntimeError) as error:
            raise ZooFormatError(f"{file.path} cannot be read: copy it again ({error})") from error


def _encode(texts: Any, codes: dict[str, int]) -> np.ndarray:
    """The code of every text; new texts are added to `codes`."""
    numbers = (codes.setdefault(text, len(codes)) for text in texts)
    return np.fromiter(numbers, CODE, len(texts))


def _by_code(codes: Mapping[str, int]) -> np.ndarray:
    """The texts in the order of their codes."""
    return np.array([*codes], object)


def _record_dtype(kinds: Mapping[str, np.dtype]) -> np.dtype:
    """Fields by type, wide types first, so that all are aligned without gaps; texts together."""
    fields = [(kind.kind == "O", name, kind) for name, kind in kinds.items()]
    coded = [(is_text, name, CODE if is_text else kind) for is_text, name, kind in fields]
    coded.sort(key=lambda field: (-field[2].itemsize, field[0], field[2].str))
    return np.dtype([(name, kind) for _, name, kind in coded])
