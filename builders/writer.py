"""Writes a zoo folder in place while it is trained, so that a killed build can go on.

A build lives in `<out>.partial`: the zoo files with room for every row, `build.json` with the
settings, and one journal per finished cohort with its metrics. A cohort's weights are written
and synced before its journal is renamed into place, so a journal vouches for its rows. When all
journals are there the columns are filled in and the folder is renamed to its final name.
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..zoos.card import write_card
from ..zoos.errors import BuildError
from ..zoos.format import (
    METRICS,
    SPLITS,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
)
from ..zoos.index import INDEX_NAME, ZooIndex, describe_shard, shard_name
from ..zoos.lineage import Lineage, lineage_columns
from ..zoos.recipe import Model, hyper_parameter_columns
from ..zoos.strict_json import json_text
from .import_report import REPORT_NAME

SHARD_BYTES = 64_000_000  # stock `datasets` reads a file as one batch
SETTINGS_NAME, LOCK_NAME, TOKEN_NAME = "build.json", "lock", "token"


@dataclass(frozen=True)
class ShardPlan:
    """A file to write and the models (positions in the population) in it, in row order."""

    name: str
    split: str
    positions: tuple[int, ...]


def plan_shards(models: Sequence[Model], row_bytes: int, checkpoints: int) -> list[ShardPlan]:
    """Cut each split into files of at most `SHARD_BYTES`, never cutting through a model."""
    per_shard = max(1, SHARD_BYTES // (row_bytes * checkpoints))
    plans = []
    for split in SPLITS:
        positions = [index for index, model in enumerate(models) if model.split == split]
        starts = range(0, len(positions), per_shard)
        parts = [tuple(positions[start : start + per_shard]) for start in starts]
        for index, part in enumerate(parts):
            plans.append(ShardPlan(shard_name(split, index, len(parts)), split, part))
    return plans


@dataclass(frozen=True)
class PartialZoo:
    """The folder of an unfinished build; pickles, so that worker processes write through it.

    Attributes:
        folder: `<out>.partial`.
        models: the population.
        checkpoints: the stored epochs, K of them.
        plans: its files.
        header: the header of its files, without checksums.
        lineage: of each model; empty for a zoo that says nothing of it.
        properties: (M,) by column, of each model: what signal it was fitted to.
        measures: float32 columns that training gives beside `METRICS`.
    """

    folder: Path
    models: tuple[Model, ...]
    checkpoints: tuple[int, ...]
    plans: tuple[ShardPlan, ...]
    header: ZooHeader
    lineage: tuple[Lineage, ...] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    measures: tuple[str, ...] = ()

    def create(self, settings: Mapping[str, Any]) -> None:
        """Make the files, or check that those of an earlier run belong to the same build.

        Raises:
            BuildError: if an earlier build with other settings is in the way.
            OSError: if the disk has no room for all rows.
        """
        path = self.folder / SETTINGS_NAME
        if path.exists():
            _check_settings(path, settings)
            return
        for journal in self.folder.glob("cohort-*.npz"):  # of a build that was half discarded
            journal.unlink()
        for plan in self.plans:
            create_zoo_file(self.folder / plan.name, self.header, self._columns(plan))
        _write_whole(path, json_text(dict(settings), indent=1).encode())

    def done(self) -> set[int]:
        """Positions of the models whose rows are written."""
        return {int(position) for journal in self._journals() for position in journal["positions"]}

    def write(
        self, positions: Sequence[int], weights: np.ndarray, metrics: Mapping[str, np.ndarray]
    ) -> None:
        """Write the rows of some models and vouch for them.

        Args:
            positions: M models of the population.
            weights: (M, K, D), float32.
            metrics: (M, K) by metric name.
        """
        for plan in self.plans:
            mine = [index for index, position in enumerate(positions) if position in plan.positions]
            if mine:
                firsts = [plan.positions.index(positions[i]) * len(self.checkpoints) for i in mine]
                _write_rows(self.folder / plan.name, firsts, [weights[i] for i in mine])
        path = self._journal(positions)
        partial = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}.tmp")
        with partial.open("wb") as journal:
            np.savez(journal, **{"positions": np.array(positions), **metrics})  # type: ignore[arg-type]
            journal.flush()
            os.fsync(journal.fileno())
        os.replace(partial, path)

    def holds(self, positions: Sequence[int]) -> bool:
        """Whether the rows of a cohort are written."""
        return self._journal(positions).exists()

    def sign(self) -> str:
        """Leave a new random text in the folder, by which other machines know this very build."""
        token = secrets.token_hex(16)
        _write_whole(self.folder / TOKEN_NAME, token.encode())
        return token

    def signature(self) -> str | None:
        """What `sign` left last, or None where this machine does not see the folder."""
        try:
            return (self.folder / TOKEN_NAME).read_text()
        except OSError:
            return None

    def finish(self, name: str, provenance: Mapping[str, Any]) -> ZooIndex:
        """Fill in metrics and status, checksums, index and card; leave nothing else behind.

        Raises:
            BuildError: if the rows of a model are missing.
        """
        self._check_whole()
        metrics = self._metrics()
        header = replace(self.header, provenance=dict(provenance))
        shards = []
        for plan in self.plans:
            path = self.folder / plan.name
            columns = {key: values[list(plan.positions)].ravel() for key, values in metrics.items()}
            weights = open_zoo_file(path).map_weights()
            columns["status"] = _status(weights, columns)
            finish_zoo_file(path, header, columns)
            shards.append(describe_shard(self.folder, plan.name, plan.split, len(plan.positions)))
        index = ZooIndex(name=name, shards=tuple(shards))
        index.write(self.folder)
        write_card(self.folder, index, header)
        keep = {plan.name for plan in self.plans} | {INDEX_NAME, "README.md"}
        for path in self.folder.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)
        return index

    def _check_whole(self) -> None:
        if missing := sorted(set(range(len(self.models))) - self.done()):
            raise BuildError(
                f"{self.folder} lacks the rows of {len(missing)} models, the first at position "
                f"{missing[0]}: run the same command to go on"
            )

    def _columns(self, plan: ShardPlan) -> dict[str, np.ndarray]:
        """All scalar columns of one file; metrics are NaN until they are known."""
        models = [self.models[position] for position in plan.positions]
        repeat = len(self.checkpoints)
        columns: dict[str, np.ndarray] = {
            "model_id": np.repeat(np.array([model.model_id for model in models]), repeat),
            "epoch": np.tile(np.array(self.checkpoints), len(models)),
            "split": np.full(len(models) * repeat, plan.split, dtype=object),
            "seed": np.repeat(np.array([model.seed for model in models]), repeat),
            "status": np.full(len(models) * repeat, "ok", dtype=object),
        }
        if self.lineage:
            columns |= lineage_columns([self.lineage[index] for index in plan.positions], repeat)
        for name, values in self.properties.items():
            columns[name] = np.repeat(values[list(plan.positions)], repeat)
        for name, values in hyper_parameter_columns(models).items():
            columns[name] = np.repeat(values, repeat)
        unknown = np.full(len(models) * repeat, np.nan, np.float32)
        return columns | dict.fromkeys((*METRICS, *self.measures), unknown)

    def _metrics(self) -> dict[str, np.ndarray]:
        """(all models, K) by metric, from the journals."""
        shape = (len(self.models), len(self.checkpoints))
        names = (*METRICS, *self.measures)
        metrics = {name: np.full(shape, np.nan, np.float32) for name in names}
        for journal in self._journals():
            for name in set(names) - {"generalization_gap"}:
                metrics[name][journal["positions"]] = journal[name]
        metrics["generalization_gap"] = metrics["train_accuracy"] - metrics["test_accuracy"]
        return metrics

    def _journal(self, positions: Sequence[int]) -> Path:
        return self.folder / f"cohort-{min(positions):08d}.npz"

    def _journals(self) -> Iterator[dict[str, np.ndarray]]:
        for path in sorted(self.folder.glob("cohort-*.npz")):
            with np.load(path) as journal:
                yield dict(journal)


@contextmanager
def partial_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Hold `<out>.partial` for one builder; on success rename it to `out`.

    The caller builds inside the context. After an error or a kill the folder stays, so that the
    next run goes on.

    Raises:
        BuildError: if `out` exists and may not be replaced, or another builder is at work.
    """
    _check_target(out, overwrite)
    folder = out.with_name(out.name + ".partial")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BuildError(f"another builder is writing {out}: wait for it to end") from error
        yield folder
        _replace_folder(folder, out)


def discard_other_build(folder: Path, settings: Mapping[str, Any]) -> None:
    """Empty a partial folder unless it belongs to a build with these settings."""
    path = folder / SETTINGS_NAME
    if path.exists() and _read_settings(path) != dict(settings):
        for entry in folder.iterdir():
            if entry.name != LOCK_NAME:
                entry.unlink()


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise BuildError(f"{out} exists: choose another --out, or replace it with --overwrite")
    if not (out / INDEX_NAME).is_file() and not (out.is_dir() and _is_collection(out)):
        raise BuildError(
            f"{out} is no zoo folder (it has no {INDEX_NAME}), nor one of zoos and nothing else: "
            "it is not overwritten"
        )


def _is_collection(folder: Path) -> bool:
    """Whether a folder holds zoos, perhaps the report of their import, and nothing else."""
    entries = [path for path in folder.iterdir() if path.name != REPORT_NAME]
    return bool(entries) and all((path / INDEX_NAME).is_file() for path in entries)


def _read_settings(path: Path) -> Any:
    """What an earlier build noted, {} if that is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    earlier = _read_settings(path)
    if earlier != dict(settings):
        odd = sorted(key for key in settings if earlier.get(key) != settings[key])
        differences = ", ".join(_difference(key, earlier.get(key), settings[key]) for key in odd)
        raise BuildError(
            f"{path.parent} holds an unfinished build that differs in {differences}: finish it "
            "with its own settings, delete the folder, or pass --overwrite to start anew"
        )


def _difference(key: str, earlier: Any, now: Any) -> str:
    """The name of a setting, and its values if they are short."""
    short = isinstance(earlier, str | int) and isinstance(now, str | int)
    return f"{key!r} ({earlier!r}, now {now!r})" if short else repr(key)


def _replace_folder(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`; an old `out` goes away only after that."""
    old = out.with_name(out.name + ".old")
    if out.exists():
        os.rename(out, old)
    os.rename(folder, out)
    if old.exists():
        shutil.rmtree(old)


def _status(weights: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Say "diverged" where a weight or loss is not finite."""
    finite = np.array([bool(np.isfinite(row).all()) for row in weights])
    finite &= np.isfinite(columns["train_loss"])
    return np.where(finite, "ok", "diverged").astype(object)


def _write_rows(path: Path, firsts: Sequence[int], weights: Sequence[np.ndarray]) -> None:
    """Write models' rows, M of (K, D), each at its first row in a file, and sync them.

    By pwrite, not through a map, because machines that map one file over a network write back
    whole pages and with them their old view of a neighbour's rows; with O_DSYNC, because without
    it Linux's NFS client may extend a write to the page.
    """
    file = open_zoo_file(path)
    handle = os.open(path, os.O_WRONLY | os.O_DSYNC)
    try:
        for first, rows in zip(firsts, weights, strict=True):
            data = np.ascontiguousarray(rows, "<f4").data.cast("B")
            offset = file.weights_offset + first * file.width * 4
            while data:
                written = os.pwrite(handle, data, offset)
                data, offset = data[written:], offset + written
    finally:
        os.close(handle)


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".tmp")
    partial.write_bytes(data)
    os.replace(partial, path)
