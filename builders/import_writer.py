"""Writes an imported zoo in place, block by block, so that a killed import can go on.

As in a build, the files are made with room for every row before the first weight is written. A
block of rows is written and synced before its line in the journal, so a journal vouches for its
rows. A checkpoint that proves unreadable leaves its row empty; such rows are taken out when all
others are there, which means writing the few files that have one a second time.

Shape letters: N rows, D length of the flat vector.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..zoos.architectures import Architecture
from ..zoos.card import write_card
from ..zoos.format import (
    SPLITS,
    ZooFile,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
)
from ..zoos.index import Shard, ZooIndex, describe_shard, shard_name
from ..zoos.layer_table import LayerTable
from ..zoos.strict_json import json_text
from .import_columns import ColumnPlan
from .import_layers import signature
from .import_models import FoundModel, OpenState, Reader, Remark
from .import_report import ImportedZoo
from .unpickling import UnreadableFileError

SHARD_BYTES = 64_000_000  # stock `datasets` reads a file as one batch
BLOCK_BYTES = 8_000_000  # written and synced at once


@dataclass(frozen=True)
class ShardPlan:
    """A file to write and the models (positions in the zoo) in it, in row order."""

    name: str
    split: str
    positions: tuple[int, ...]


class Journal:
    """The lines that say which rows are written, across all zoos of an import."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run wrote; a line torn by a kill does not count."""
        self._path = path
        self._done: dict[str, int] = {}
        self._refused: dict[str, dict[int, Remark]] = {}
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            refused = {int(key): Remark(**value) for key, value in row["refused"].items()}
            self._note(row["file"], row["rows"], refused)

    def done(self, file: str) -> int:
        """Rows of a file that are written, from its first on."""
        return self._done.get(file, 0)

    def refused(self, file: str) -> dict[int, Remark]:
        """The rows of a file that could not be read, and why."""
        return self._refused.get(file, {})

    def write(self, file: str, rows: int, refused: Mapping[int, Remark]) -> None:
        """Vouch for the first `rows` rows of a file."""
        line = {"file": file, "rows": rows, "refused": {k: asdict(v) for k, v in refused.items()}}
        with self._path.open("a") as journal:
            journal.write(json_text(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self._note(file, rows, refused)

    def _note(self, file: str, rows: int, refused: Mapping[int, Remark]) -> None:
        self._done[file] = rows
        self._refused.setdefault(file, {}).update(refused)


@dataclass(frozen=True)
class PartialImport:
    """One zoo of an import that is under way.

    Attributes:
        folder: where its files are written.
        target: where they will lie in the end.
        name: the zoo's name.
        models: its models, sorted by name; `model_id` is the position.
        header: of its files, without checksums.
        columns: its scalar columns.
        plans: its files.
    """

    folder: Path
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
        target: Path,
        models: Sequence[FoundModel],
        architecture: Architecture | None,
        table: LayerTable,
        header: Mapping[str, Any],
    ) -> "PartialImport":
        """Plan the files of a zoo of these models, which share a layer table."""
        columns = ColumnPlan.of(models)
        whole = ZooHeader(
            architecture=architecture,
            layer_table=table,
            hyper_parameters=tuple(columns.hyper_parameters),
            **header,
        )
        plans = tuple(_plan_shards(models, table.width * 4))
        return cls(folder, target, target.name, tuple(models), whole, columns, plans)

    @property
    def rows(self) -> int:
        """Rows planned."""
        return sum(len(model.places) for model in self.models)

    def create(self) -> None:
        """Make the files, with room for every row.

        Raises:
            OSError: if the disk has no room.
        """
        self.folder.mkdir(exist_ok=True)
        for plan in self.plans:
            models = [self.models[position] for position in plan.positions]
            columns = self.columns.columns(models, plan.positions)
            create_zoo_file(self.folder / plan.name, self.header, columns)

    def rows_done(self, journal: Journal) -> int:
        """Rows that are written already."""
        return sum(journal.done(self._key(plan)) for plan in self.plans)

    def write(self, reader: Reader, journal: Journal, bar: Any) -> None:
        """Read and write all rows that are not written yet."""
        for plan in self.plans:
            if journal.done(self._key(plan)) == len(self._owners(plan)):
                continue  # its file may have its final name already
            file = open_zoo_file(self.folder / plan.name)
            with file.path.open("r+b") as handle:
                for start, block, refused in self._blocks(plan, reader, journal):
                    handle.seek(file.weights_offset + start * file.width * 4)
                    handle.write(block.data)
                    handle.flush()
                    os.fsync(handle.fileno())
                    journal.write(self._key(plan), start + len(block), refused)
                    bar.update(len(block))

    def finish(self, journal: Journal, provenance: Mapping[str, Any]) -> ImportedZoo | None:
        """Take out unreadable rows, fill in status, checksums, index and card.

        Returns:
            What was made, or None if no row could be read.
        """
        header = replace(self.header, provenance=dict(provenance))
        shards, diverged = [], 0
        for plan, name, models in self._kept(journal):
            self._settle(plan, name, set(journal.refused(self._key(plan))))
            diverged += _finish_file(self.folder / name, header)
            shards.append(describe_shard(self.folder, name, plan.split, models))
        for name in {plan.name for plan in self.plans} - {shard.path for shard in shards}:
            (self.folder / name).unlink(missing_ok=True)  # it has no row that could be read
        if not shards:
            return None
        index = ZooIndex(name=self.name, shards=tuple(shards))
        index.write(self.folder)
        write_card(self.folder, index, header)
        return self._imported(shards, diverged)

    def unreadable(self, journal: Journal) -> Iterator[Remark]:
        """The checkpoints that could not be read."""
        for plan in self.plans:
            yield from journal.refused(self._key(plan)).values()

    def _key(self, plan: ShardPlan) -> str:
        return f"{self.name}/{plan.name}"

    def _blocks(
        self, plan: ShardPlan, reader: Reader, journal: Journal
    ) -> Iterator[tuple[int, np.ndarray, dict[int, Remark]]]:
        """(first row, (rows, D), refused) for every block that is not written yet."""
        places = [
            (self.models[position], row)
            for position in plan.positions
            for row in range(len(self.models[position].places))
        ]
        table = self.header.layer_table
        size = max(1, BLOCK_BYTES // (table.width * 4))
        buffer = np.empty((min(size, len(places)), table.width), np.float32)
        for start in range(journal.done(self._key(plan)), len(places), size):
            block, refused = buffer[: len(places[start : start + size])], {}
            for index, (model, row) in enumerate(places[start : start + size]):
                try:
                    _flatten(reader.open(model, row), table, block[index])
                except (UnreadableFileError, OSError) as error:
                    block[index] = np.nan
                    epoch = int(model.epochs[row])
                    refused[start + index] = Remark(model.name, str(error), epoch)
            yield start, block, refused

    def _kept(self, journal: Journal) -> Iterator[tuple[ShardPlan, str, int]]:
        """(plan, final name, models) of the files that keep a row, numbered anew."""
        for split in SPLITS:
            own = [(plan, self._readable(plan, journal)) for plan in self.plans]
            own = [(plan, models) for plan, models in own if plan.split == split and models]
            for index, (plan, models) in enumerate(own):
                yield plan, shard_name(split, index, len(own)), models

    def _readable(self, plan: ShardPlan, journal: Journal) -> int:
        """How many models of a file have a row that could be read."""
        refused = journal.refused(self._key(plan))
        owners = self._owners(plan)
        return len({owner for row, owner in enumerate(owners) if row not in refused})

    def _owners(self, plan: ShardPlan) -> list[int]:
        """The position of the model of each row of a file."""
        return [p for p in plan.positions for _ in self.models[p].places]

    def _settle(self, plan: ShardPlan, name: str, refused: set[int]) -> None:
        """Give a file its final name and rows; does nothing where that is done already."""
        path, target = self.folder / plan.name, self.folder / name
        planned = len(self._owners(plan))
        if refused and path.exists() and (file := open_zoo_file(path)).rows == planned:
            keep = np.setdiff1d(np.arange(planned), list(refused))
            partial = path.with_name(path.name + ".tmp")
            _copy_rows(file, partial, keep)
            os.replace(partial, target)
            if target != path:
                path.unlink()
        elif path.exists():
            os.replace(path, target)

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


def _plan_shards(models: Sequence[FoundModel], row_bytes: int) -> Iterator[ShardPlan]:
    """Cut each split into files of about `SHARD_BYTES`, never cutting through a model."""
    for split in SPLITS:
        parts: list[list[int]] = []
        room = 0
        for position, model in enumerate(models):
            if model.split != split:
                continue
            size = len(model.places) * row_bytes
            if not parts or size > room:
                parts.append([])
                room = SHARD_BYTES
            parts[-1].append(position)
            room -= size
        for index, part in enumerate(parts):
            yield ShardPlan(shard_name(split, index, len(parts)), split, tuple(part))


def _flatten(state: OpenState, table: LayerTable, row: np.ndarray) -> None:
    """Write one checkpoint's tensors into a row (D,).

    Raises:
        UnreadableFileError: if they are not those of the layer table.
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in state.tensors.items()}
    if shapes != {tensor.name: tensor.shape for tensor in table}:
        raise UnreadableFileError(_difference(state, table))
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is flagged
        for tensor in table:
            values = state.read(state.tensors[tensor.name])
            row[tensor.offset : tensor.offset + tensor.size] = values.reshape(-1)


def _difference(state: OpenState, table: LayerTable) -> str:
    found = {(name, shape) for name, shape, _ in signature(state.tensors)}
    wanted = {(tensor.name, tensor.shape) for tensor in table}
    return (
        f"other tensors than the model's first checkpoint: lacks {sorted(wanted - found)[:3]}, "
        f"has {sorted(found - wanted)[:3]}"
    )


def _copy_rows(file: ZooFile, path: Path, keep: np.ndarray) -> None:
    """Write a file like `file` with some of its rows."""
    columns = {name: column[keep] for name, column in file.read_columns().items()}
    create_zoo_file(path, file.header, columns)
    weights, rows = file.map_weights(), open_zoo_file(path).map_weights("r+")
    step = max(1, BLOCK_BYTES // (file.width * 4))
    for start in range(0, len(keep), step):
        rows[start : start + step] = weights[keep[start : start + step]]
    rows.flush()


def _finish_file(path: Path, header: ZooHeader) -> int:
    """Fill in status and checksums; return the number of diverged rows."""
    file = open_zoo_file(path)
    diverged = file.read_columns(["status"])["status"] == "diverged"
    diverged |= np.array([not np.isfinite(row).all() for row in file.map_weights()])
    status = np.where(diverged, "diverged", "ok").astype(object)
    finish_zoo_file(path, header, {"status": status})
    return int(diverged.sum())
