"""Writes the rows of an imported zoo in blocks, so that a killed import can resume.

A block of rows is written and synced before its line in the journal, so the journal lists only
rows that are on the disk. An unreadable checkpoint leaves its row empty; such rows are left out
when the files are finished.

Shape letters: N rows, D length of the flat vector.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ...zoos.format import SPLITS, ZooHeader, open_zoo_file
from ...zoos.index import Shard, describe_shard, shard_name
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import LayerTable
from ...zoos.strict_json import json_text
from ...zoos.zoo_folder import (
    ShardPlan,
    create_files,
    finish_file,
    finish_folder,
    mend_files,
    plan_shards,
    status_column,
    write_rows,
)
from ..checkpoints.unreadable import UnreadableFileError, reading
from .columns import ColumnPlan
from .layers import signature
from .models import FoundModel, OpenState, Reader, Remark
from .report import ImportedZoo
from .variances import zero_share

BLOCK_BYTES = 8_000_000  # bytes written and synced together


@dataclass(frozen=True)
class BlockNotes:
    """Lines for the report on a block of rows.

    Attributes:
        refused: reason by number of an unreadable row.
        rounded: lines on rows whose whole numbers are rounded.
    """

    refused: dict[int, Remark] = field(default_factory=dict)
    rounded: list[Remark] = field(default_factory=list)


class Journal:
    """List of the rows that are written, over all zoos of an import."""

    def __init__(self, path: Path) -> None:
        """Read the journal of an earlier run; an incomplete last line is dropped.

        Raises:
            BuildError: if another line is damaged.
        """
        self._path = path
        self._done: dict[str, int] = {}
        self._refused: dict[str, dict[int, Remark]] = {}
        self._rounded: dict[str, list[Remark]] = {}
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                refused = {int(key): Remark(**value) for key, value in row["refused"].items()}
                rounded = [Remark(**value) for value in row.get("rounded", [])]
                self._note(row["file"], row["rows"], refused, rounded)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BuildError(
                    f"{path} is damaged in the line {line[:80]!r}: delete {path.parent}, or pass "
                    "--overwrite to start anew"
                ) from error

    def done(self, file: str) -> int:
        """Number of rows of a file that are written, from its first row on."""
        return self._done.get(file, 0)

    def refused(self, file: str) -> dict[int, Remark]:
        """Rows of a file that could not be read, with the reasons."""
        return self._refused.get(file, {})

    def rounded(self, file: str) -> list[Remark]:
        """Lines for the report on rows of a file whose whole numbers are rounded."""
        return self._rounded.get(file, [])

    def write(
        self,
        file: str,
        rows: int,
        refused: Mapping[int, Remark],
        rounded: Sequence[Remark] = (),
    ) -> None:
        """Record that the first rows of a file are written.

        Args:
            file: key of the file.
            rows: number of written rows, from the first row on.
            refused: reason by number of an unreadable row.
            rounded: lines for the report on newly written rows with rounded values.
        """
        line: dict[str, Any] = {"file": file, "rows": rows}
        line["refused"] = {k: asdict(v) for k, v in refused.items()}
        if rounded:
            line["rounded"] = [asdict(remark) for remark in rounded]
        with self._path.open("a") as journal:
            journal.write(json_text(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self._note(file, rows, refused, rounded)

    def _note(
        self, file: str, rows: int, refused: Mapping[int, Remark], rounded: Sequence[Remark]
    ) -> None:
        self._done[file] = rows
        self._refused.setdefault(file, {}).update(refused)
        self._rounded.setdefault(file, []).extend(rounded)


@dataclass(frozen=True)
class PartialImport:
    """One zoo of an import in progress.

    Attributes:
        folder: folder of its unfinished files.
        finished: folder of its finished files.
        target: path of the zoo folder after the import.
        name: the zoo's name.
        models: its models, sorted by name; `model_id` is the position.
        header: root attributes of its files, without checksums.
        columns: plan of its scalar columns.
        plans: plans of its files.
    """

    folder: Path
    finished: Path
    target: Path
    name: str
    models: tuple[FoundModel, ...]
    header: ZooHeader
    columns: ColumnPlan
    plans: tuple[ShardPlan, ...]

    @classmethod
    def plan(
        cls,
        folder: Path,
        finished: Path,
        target: Path,
        models: Sequence[FoundModel],
        architecture: Architecture | None,
        table: LayerTable,
        header: Mapping[str, Any],
    ) -> "PartialImport":
        """Plan the files of a zoo of models that share a layer table.

        Args:
            folder: folder of its unfinished files.
            finished: folder of its finished files.
            target: path of the zoo folder after the import.
            models: its models, sorted by name.
            architecture: architecture of the models, or None if it is unknown.
            table: layer table of the models.
            header: further fields of the `ZooHeader`.
        """
        columns = ColumnPlan.of(models)
        whole = ZooHeader(
            architecture=architecture,
            layer_table=table,
            hyper_parameters=tuple(columns.hyper_parameters),
            **header,
        )
        splits = [model.split or "" for model in models]
        plans = plan_shards(splits, [len(model.locations) for model in models], table.width * 4)
        own = tuple(models)
        return cls(folder, finished, target, target.name, own, whole, columns, tuple(plans))

    @property
    def rows(self) -> int:
        """Number of planned rows."""
        return sum(len(model.locations) for model in self.models)

    def create(self) -> None:
        """Make the files with room for every row.

        Raises:
            BuildError: if the disk has no room.
        """
        create_files(self.folder, self.plans, self.header, self._columns)

    def mend(self, journal: Journal) -> None:
        """Prepare the files of an earlier run so that the import can resume.

        Raises:
            BuildError: if rows that the journal lists are lost.
        """
        left = list(self.plans)
        if self.finished.exists():
            kept = self._kept(journal)
            left = [plan for plan, name, _ in kept if not (self.finished / name).exists()]
        mend_files(self.folder, left, self.header, self._columns)

    def rows_done(self, journal: Journal) -> int:
        """Number of rows that are already written."""
        return sum(journal.done(self._key(plan)) for plan in self.plans)

    def write(self, reader: Reader, journal: Journal, bar: Any) -> None:
        """Read and write all rows that are not written yet.

        Args:
            reader: reader of the published format.
            journal: journal of the import.
            bar: progress bar that counts rows.
        """
        for plan in self.plans:
            file = None
            for start, block, notes in self._blocks(plan, reader, journal):
                file = file or open_zoo_file(self.folder / plan.name)
                write_rows(file, [start], [block])
                rows = start + len(block)
                journal.write(self._key(plan), rows, notes.refused, notes.rounded)
                bar.update(len(block))

    def finish(self, journal: Journal, provenance: Mapping[str, Any]) -> ImportedZoo | None:
        """Remove unreadable rows and write status, checksums, index and card.

        Args:
            journal: journal of the import.
            provenance: versions, times and fingerprint of the import, plain data.

        Returns:
            The imported zoo, or None if no row could be read.
        """
        header = replace(self.header, provenance=dict(provenance))
        self.finished.mkdir(exist_ok=True)
        shards, diverged = [], 0
        for plan, name, models in self._kept(journal):
            self._finish(plan, name, header, set(journal.refused(self._key(plan))))
            status = open_zoo_file(self.finished / name).read_columns(["status"])["status"]
            diverged += int((status == "diverged").sum())
            shards.append(describe_shard(self.finished, name, plan.split, models))
        if not shards:
            self.finished.rmdir()
            return None
        finish_folder(self.finished, self.name, shards, header)
        return self._imported(shards, diverged)

    def unreadable(self, journal: Journal) -> Iterator[Remark]:
        """Checkpoints that could not be read, with the reasons."""
        for plan in self.plans:
            yield from journal.refused(self._key(plan)).values()

    def rounded(self, journal: Journal) -> Iterator[Remark]:
        """Checkpoints with rounded whole numbers."""
        for plan in self.plans:
            yield from journal.rounded(self._key(plan))

    def _key(self, plan: ShardPlan) -> str:
        return f"{self.name}/{plan.name}"

    def _blocks(
        self, plan: ShardPlan, reader: Reader, journal: Journal
    ) -> Iterator[tuple[int, np.ndarray, BlockNotes]]:
        """(first row, (rows, D), notes) for every block that is not written yet."""
        checkpoints = [
            (self.models[position], row)
            for position in plan.positions
            for row in range(len(self.models[position].locations))
        ]
        table = self.header.layer_table
        size = max(1, BLOCK_BYTES // (table.width * 4))
        buffer = np.empty((min(size, len(checkpoints)), table.width), np.float32)
        for start in range(journal.done(self._key(plan)), len(checkpoints), size):
            block, notes = buffer[: len(checkpoints[start : start + size])], BlockNotes()
            for index, (model, row) in enumerate(checkpoints[start : start + size]):
                read_row(reader, model, row, table, block[index], notes, start + index)
            yield start, block, notes

    def _kept(self, journal: Journal) -> Iterator[tuple[ShardPlan, str, int]]:
        """(plan, final name, number of models) of the files with a readable row, renumbered."""
        for split in SPLITS:
            own = [(plan, self._readable(plan, journal)) for plan in self.plans]
            own = [(plan, models) for plan, models in own if plan.split == split and models]
            for index, (plan, models) in enumerate(own):
                yield plan, shard_name(split, index, len(own)), models

    def _readable(self, plan: ShardPlan, journal: Journal) -> int:
        """Number of models of a file with a readable row."""
        refused = journal.refused(self._key(plan))
        owners = self._owners(plan)
        return len({owner for row, owner in enumerate(owners) if row not in refused})

    def _owners(self, plan: ShardPlan) -> list[int]:
        """Position of the model of each row of a file."""
        return [p for p in plan.positions for _ in self.models[p].locations]

    def _finish(self, plan: ShardPlan, name: str, header: ZooHeader, refused: set[int]) -> None:
        """Finish a file under its final name, without the unreadable rows."""

        def columns(weights: np.ndarray) -> dict[str, np.ndarray]:
            known = self._columns(plan)
            if any(model.measures_sparsity for model in self.models):
                known["sparsity"] = zero_share(weights, header.layer_table)
            return known | {"status": status_column(weights, known["status"] == "diverged")}

        keep = np.setdiff1d(np.arange(plan.rows), list(refused)) if refused else None
        finish_file(self.folder / plan.name, self.finished / name, header, columns, keep)

    def _columns(self, plan: ShardPlan) -> dict[str, np.ndarray]:
        """All scalar columns of one file, before its weights are known."""
        models = [self.models[position] for position in plan.positions]
        return self.columns.columns(models, plan.positions)

    def _imported(self, shards: Sequence[Shard], diverged: int) -> ImportedZoo:
        architecture = self.header.architecture
        splits = {
            split: sum(shard.models for shard in shards if shard.split == split) for split in SPLITS
        }
        return ImportedZoo(
            path=str(self.target),
            architecture=architecture.name if architecture else "unknown",
            parameters=self.header.layer_table.parameters,
            models=sum(splits.values()),
            rows=sum(shard.rows for shard in shards),
            splits=splits,
            diverged_rows=diverged,
            size_bytes=sum(shard.size_bytes for shard in shards),
        )


def read_row(
    reader: Reader,
    model: FoundModel,
    row: int,
    table: LayerTable,
    values: np.ndarray,
    notes: BlockNotes,
    number: int,
) -> None:
    """Read one checkpoint; an unreadable one leaves NaN. A full disk passes and ends the import.

    Args:
        reader: reader of the published format.
        model: model of the checkpoint.
        row: number of the checkpoint in the model.
        table: layer table of its architecture.
        values: memory to fill, (D,), float32.
        notes: notes of the block, to which the reason is added if the checkpoint cannot be read,
            or a line for the report if whole numbers are rounded.
        number: number of the row in its file.
    """
    epoch = int(model.epochs[row])
    try:
        with reading():
            if rounded := flatten(reader.open(model, row), table, values):
                notes.rounded.append(Remark(model.name, rounded, epoch))
    except UnreadableFileError as error:
        values[:] = np.nan
        notes.refused[number] = Remark(model.name, str(error), epoch)


def flatten(state: OpenState, table: LayerTable, row: np.ndarray) -> str:
    """Write one checkpoint's tensors into a row.

    Args:
        state: open checkpoint.
        table: layer table of its architecture.
        row: memory to fill, (D,), float32.

    Returns:
        What was rounded, if float32 cannot represent a whole number, else "".

    Raises:
        UnreadableFileError: if they differ from the layer table.
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in state.tensors.items()}
    if shapes != {tensor.name: tensor.shape for tensor in table}:
        raise UnreadableFileError(_difference(state, table))
    rounded = []
    with np.errstate(
        over="ignore"
    ):  # a float64 beyond float32 becomes infinite, and its row diverged
        for tensor in table:
            values = state.read(state.tensors[tensor.name]).reshape(-1)
            own = row[tensor.offset : tensor.offset + tensor.size]
            own[:] = values
            if values.dtype.kind in "iu" and values.itemsize >= 4:
                rounded += _rounded(values, own, tensor.name)
    return "; ".join(rounded)


def _rounded(values: np.ndarray, own: np.ndarray, name: str) -> list[str]:
    """Say which whole numbers were rounded, and keep them within the range of their type."""
    beyond = own >= float(int(np.iinfo(values.dtype).max) + 1)  # 2**63 is no int64
    own[beyond] = np.nextafter(own[beyond], np.float32(0))
    odd = np.flatnonzero(own.astype(values.dtype) != values)
    if not odd.size:
        return []
    before, after = int(values[odd[0]]), int(own[odd[0]])
    return [
        f"{odd.size} whole numbers of {name!r} are rounded to float32, such as {before} to {after}"
    ]


def _difference(state: OpenState, table: LayerTable) -> str:
    found = {(name, shape) for name, shape, _ in signature(state.tensors)}
    wanted = {(tensor.name, tensor.shape) for tensor in table}
    return (
        f"tensors differ from the model's first checkpoint: lacks {sorted(wanted - found)[:3]}, "
        f"has {sorted(found - wanted)[:3]}"
    )
