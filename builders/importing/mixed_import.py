"""Writes models of many architectures as one mixed zoo, so that a killed import can resume.

The values of a split lie in one file, row after row. A block of rows is written and synced before
its line in the journal. Unreadable checkpoints leave their values empty; they are left out when
the files are finished.

Shape letters: N rows of one split.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.cards.card import write_card
from ...zoos.disk import check_room, copy_range, sync
from ...zoos.errors import BuildError
from ...zoos.format import SPLITS, read_columns_file, write_columns_file
from ...zoos.index import file_sha256, shard_name
from ...zoos.mixed_format import (
    VALUE_BYTES,
    MixedFiles,
    MixedIndex,
    MixedPart,
    Segment,
)
from .columns import ColumnPlan
from .groups import Group
from .models import FoundModel, Reader, Remark
from .partial_import import BLOCK_BYTES, BlockNotes, Journal, read_row
from .report import ImportedZoo

_ROW_BYTES = 1000  # estimate of the scalar columns of one row


@dataclass(frozen=True)
class MixedRow:
    """One checkpoint: its model, its number there, its group, and where its values start."""

    model: int
    row: int
    group: int
    first_value: int


@dataclass(frozen=True)
class MixedImport:
    """A mixed zoo of an import in progress.

    Attributes:
        folder: folder of its unfinished files.
        finished: folder of its finished files.
        target: path of the zoo folder after the import.
        groups: its architectures.
        names: name of each architecture.
        models: its models, sorted by name; `model_id` is the position.
        header: recipe and split, plain data.
        columns: plan of its scalar columns.
        plans: rows by split, sorted by architecture, model and epoch.
    """

    folder: Path
    finished: Path
    target: Path
    groups: tuple[Group, ...]
    names: tuple[str, ...]
    models: tuple[FoundModel, ...]
    header: dict[str, Any]
    columns: ColumnPlan
    plans: dict[str, list[MixedRow]]

    @classmethod
    def plan(
        cls,
        folder: Path,
        finished: Path,
        target: Path,
        groups: Sequence[Group],
        names: Sequence[str],
        header: Mapping[str, Any],
    ) -> "MixedImport":
        """Plan the files of a mixed zoo.

        Args:
            folder: folder of its unfinished files.
            finished: folder of its finished files.
            target: path of the zoo folder after the import.
            groups: its architectures.
            names: name of each architecture.
            header: recipe and split, plain data.
        """
        models = sorted((m for group in groups for m in group.models), key=lambda m: m.name)
        ids = {(model.name, model.split): number for number, model in enumerate(models)}
        plans: dict[str, list[MixedRow]] = {}
        for split in SPLITS:
            rows, value = [], 0
            for number, group in enumerate(groups):
                for model in (one for one in group.models if one.split == split):
                    for row in range(len(model.locations)):
                        rows.append(MixedRow(ids[model.name, model.split], row, number, value))
                        value += group.table.width
            if rows:
                plans[split] = rows
        columns = ColumnPlan.of(models)
        own = tuple(models)
        return cls(
            folder, finished, target, tuple(groups), tuple(names), own, dict(header), columns, plans
        )

    @property
    def name(self) -> str:
        """Name of the zoo."""
        return self.target.name

    @property
    def rows(self) -> int:
        """Number of planned rows."""
        return sum(map(len, self.plans.values()))

    def create(self) -> None:
        """Make the files of values with room for every row.

        Raises:
            BuildError: if the disk has no room.
        """
        self.folder.mkdir(exist_ok=True)
        sizes = {split: self._values(split) * VALUE_BYTES for split in self.plans}
        needed = sum(sizes.values()) + max(sizes.values()) + self.rows * _ROW_BYTES
        check_room(self.folder, needed, "the zoo, with a second copy of its largest file,")
        for split, size in sizes.items():
            with self._path(split).open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
            sync(self._path(split))
        sync(self.folder)

    def mend(self, journal: Journal) -> None:
        """Check the files of an earlier run.

        Raises:
            BuildError: if one is missing or has another size.
        """
        for split in self.plans:
            path, done = self._path(split), self._is_finished(split)
            size = path.stat().st_size if path.exists() else -1
            if not done and size != self._values(split) * VALUE_BYTES:
                raise BuildError(f"{path} is missing or cut: pass --overwrite to start anew")

    def rows_done(self, journal: Journal) -> int:
        """Number of rows that are already written."""
        return sum(journal.done(self._key(split)) for split in self.plans)

    def write(self, reader: Reader, journal: Journal, bar: Any) -> None:
        """Read and write all rows that are not written yet.

        Args:
            reader: reader of the published format.
            journal: journal of the import.
            bar: progress bar that counts rows.
        """
        for split in self.plans:
            if self._is_finished(split):
                continue
            with self._path(split).open("r+b") as file:
                for rows, values, notes in self._blocks(split, reader, journal):
                    file.seek(rows[0].first_value * VALUE_BYTES)
                    file.write(values.data)
                    file.flush()
                    os.fsync(file.fileno())
                    done = journal.done(self._key(split)) + len(rows)
                    journal.write(self._key(split), done, notes.refused, notes.rounded)
                    bar.update(len(rows))

    def finish(self, journal: Journal, provenance: Mapping[str, Any]) -> ImportedZoo | None:
        """Remove unreadable rows and write columns, values, index and card.

        Args:
            journal: journal of the import.
            provenance: versions, times and fingerprint of the import, plain data.

        Returns:
            The imported zoo, or None if no row could be read.
        """
        self.finished.mkdir(exist_ok=True)
        kept = {
            split: [r for i, r in enumerate(rows) if i not in journal.refused(self._key(split))]
            for split, rows in self.plans.items()
        }
        kept = {split: rows for split, rows in kept.items() if rows}
        if not kept:
            self.finished.rmdir()
            return None
        files = tuple(self._finish(split, rows) for split, rows in kept.items())
        index = MixedIndex(
            name=self.name,
            header=self.header
            | {"hyper_parameters": [*self.columns.hyper_parameters], "provenance": {**provenance}},
            files=files,
            parts=tuple(self._parts(kept)),
        )
        index.write(self.finished)
        write_card(self.finished, index)
        return self._imported(index)

    def unreadable(self, journal: Journal) -> Iterator[Remark]:
        """Checkpoints that could not be read, with the reasons."""
        for split in self.plans:
            yield from journal.refused(self._key(split)).values()

    def rounded(self, journal: Journal) -> Iterator[Remark]:
        """Checkpoints with rounded whole numbers."""
        for split in self.plans:
            yield from journal.rounded(self._key(split))

    def _key(self, split: str) -> str:
        return f"{self.name}/{split}"

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.values"

    def _values(self, split: str) -> int:
        last = self.plans[split][-1]
        return last.first_value + self.groups[last.group].table.width

    def _is_finished(self, split: str) -> bool:
        return (self.finished / shard_name(split, 0, 1)).exists()

    def _blocks(
        self, split: str, reader: Reader, journal: Journal
    ) -> Iterator[tuple[list[MixedRow], np.ndarray, BlockNotes]]:
        """(rows, their values, notes) for every block that is not written yet."""
        plan, start = self.plans[split], journal.done(self._key(split))
        while start < len(plan):
            stop, first = start + 1, plan[start].first_value
            while stop < len(plan) and (plan[stop].first_value - first) * VALUE_BYTES < BLOCK_BYTES:
                stop += 1
            rows, notes = plan[start:stop], BlockNotes()
            end = rows[-1].first_value + self.groups[rows[-1].group].table.width
            values = np.empty(end - first, "<f4")
            for number, row in enumerate(rows, start):
                table, model = self.groups[row.group].table, self.models[row.model]
                own = values[row.first_value - first :][: table.width]
                read_row(reader, model, row.row, table, own, notes, number)
            yield rows, values, notes
            start = stop

    def _finish(self, split: str, rows: Sequence[MixedRow]) -> MixedFiles:
        """Write columns and values of one split, without the unreadable rows."""
        columns_path = self.finished / shard_name(split, 0, 1)
        weights_path = columns_path.with_suffix(".f32")
        if not self._is_finished(split):
            finite = self._copy_values(split, rows, weights_path)
            write_columns_file(columns_path, self._columns(rows, finite))
            sync(columns_path)
            sync(self.finished)
        self._path(split).unlink(missing_ok=True)
        paths = (columns_path, weights_path)
        return MixedFiles(
            split=split,
            columns=columns_path.name,
            weights=weights_path.name,
            rows=len(rows),
            models=len({row.model for row in rows}),
            size_bytes=(paths[0].stat().st_size, paths[1].stat().st_size),
            sha256=(file_sha256(paths[0]), file_sha256(paths[1])),
        )

    def _copy_values(self, split: str, rows: Sequence[MixedRow], target: Path) -> np.ndarray:
        """Copy the values of readable rows; whether each row is finite, (N,)."""
        path, at = self._path(split), 0
        with path.open("rb"), target.open("wb") as file:
            file.truncate(sum(self._width(row) for row in rows) * VALUE_BYTES)
        finite = np.zeros(len(rows), bool)
        values = np.memmap(path, "<f4", "r")
        start = length = 0
        for number, row in enumerate(rows):
            own = values[row.first_value : row.first_value + self._width(row)]
            finite[number] = np.isfinite(own).all()
            if length and row.first_value == start + length:
                length += self._width(row)
                continue
            _copy(path, target, start, at, length)
            at, start, length = at + length, row.first_value, self._width(row)
        _copy(path, target, start, at, length)
        sync(target)
        return finite

    def _width(self, row: MixedRow) -> int:
        return self.groups[row.group].table.width

    def _columns(self, rows: Sequence[MixedRow], finite: np.ndarray) -> dict[str, np.ndarray]:
        """All scalar columns of the rows, (N,) each."""
        ids = list(dict.fromkeys(row.model for row in rows))
        every = self.columns.columns([self.models[i] for i in ids], ids)
        place: dict[tuple[int, int], int] = {}
        for model in ids:
            for row in range(len(self.models[model].locations)):
                place[model, row] = len(place)
        keep = np.array([place[row.model, row.row] for row in rows])
        columns = {name: column[keep] for name, column in every.items()}
        columns["status"] = np.where(finite, columns["status"], "diverged").astype(object)
        return columns

    def _parts(self, kept: Mapping[str, Sequence[MixedRow]]) -> Iterator[MixedPart]:
        found: dict[int, list[Segment]] = {}
        for split, rows in kept.items():
            value = 0
            for number, row in enumerate(rows):
                segments = found.setdefault(row.group, [])
                if not segments or segments[-1].split != split:
                    one = Segment(split=split, first_row=number, rows=0, first_value=value)
                    segments.append(one)
                last = segments[-1]
                segments[-1] = Segment(**{**last.__dict__, "rows": last.rows + 1})
                value += self._width(row)
        for group in sorted(found):
            yield MixedPart(
                name=self.names[group],
                architecture=self.groups[group].architecture,
                layer_table=self.groups[group].table,
                segments=tuple(found[group]),
            )

    def _imported(self, index: MixedIndex) -> ImportedZoo:
        splits = {
            split: sum(files.models for files in index.files if files.split == split)
            for split in SPLITS
        }
        diverged = sum(
            int((read_columns_file(self.finished / files.columns)["status"] == "diverged").sum())
            for files in index.files
        )
        return ImportedZoo(
            path=str(self.target),
            architecture=f"{len(index.parts)} architectures",
            parameters=max(group.table.parameters for group in self.groups),
            models=sum(splits.values()),
            rows=sum(files.rows for files in index.files),
            splits=splits,
            diverged_rows=diverged,
            size_bytes=sum(sum(files.size_bytes) for files in index.files),
        )


def _copy(source: Path, target: Path, start: int, at: int, count: int) -> None:
    if count:
        copy_range(source, target, start * VALUE_BYTES, at * VALUE_BYTES, count * VALUE_BYTES)
