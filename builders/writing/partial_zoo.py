"""Writes the rows of a build during training, so that a killed build can resume.

An unfinished build is in `<out>.partial` (see `zoos.partial_folder`). One journal per finished
cohort holds its metrics. A cohort's weights are written and synced before its journal is renamed,
so the rows of every journal are on the disk. The columns are filled in when all journals exist.
"""

import os
import secrets
import socket
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.disk import sync, write_whole
from ...zoos.errors import BuildError
from ...zoos.format import METRICS, ZooHeader
from ...zoos.index import Shard, ZooIndex, describe_shard
from ...zoos.lineage import Lineage, lineage_columns
from ...zoos.partial_folder import PartialFolder
from ...zoos.recipe import Model, hyper_parameter_columns
from ...zoos.zoo_folder import (
    ShardPlan,
    create_files,
    finish_file,
    finish_folder,
    mend_files,
    status_column,
    write_rows,
)

TOKEN_NAME = "token"


@dataclass(frozen=True)
class PartialZoo:
    """The folder of an unfinished build; can be pickled, so that worker processes write to it.

    Attributes:
        folder: path of the folder, `<out>.partial`.
        models: models of the population.
        checkpoints: the K stored epochs.
        plans: plans of its files.
        header: root attributes of its files, without checksums.
        lineage: lineage of each model; empty for a zoo without lineage columns.
        properties: properties of each model's signal, (M,) by column.
        measures: names of the float32 columns that training adds to `METRICS`.
    """

    folder: Path
    models: tuple[Model, ...]
    checkpoints: tuple[int, ...]
    plans: tuple[ShardPlan, ...]
    header: ZooHeader
    lineage: tuple[Lineage, ...] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    measures: tuple[str, ...] = ()

    def create(self, overwrite: bool = False) -> None:
        """Make the files, or prepare those of an earlier run for resuming.

        Args:
            overwrite: discard the files of another plan.

        Raises:
            BuildError: if files of another plan exist, rows of an earlier run are lost,
                or the disk has no room for all rows.
        """
        held = PartialFolder(self.folder)
        plan = {"shards": [[plan.name, plan.rows] for plan in self.plans]}
        if held.is_planned(plan, overwrite):
            left = [plan for plan in self.plans if not (held.finished / plan.name).exists()]
            mend_files(self.folder, left, self.header, self._columns)
        else:
            create_files(self.folder, self.plans, self.header, self._columns)
            held.set_planned(plan)

    def done(self) -> set[int]:
        """Positions of the models whose rows are written."""
        return {int(position) for journal in self._journals() for position in journal["positions"]}

    def write(
        self, positions: Sequence[int], weights: np.ndarray, metrics: Mapping[str, np.ndarray]
    ) -> None:
        """Write the rows of some models, then their journal.

        Args:
            positions: positions of M models in the population.
            weights: weights of their checkpoints, (M, K, D), float32.
            metrics: values by metric name, (M, K).
        """
        for plan in self.plans:
            mine = [index for index, position in enumerate(positions) if position in plan.positions]
            if mine:
                firsts = [plan.positions.index(positions[i]) * len(self.checkpoints) for i in mine]
                write_rows(self.folder / plan.name, firsts, [weights[i] for i in mine])
        path = self._journal(positions)
        partial = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}.tmp")
        with partial.open("wb") as journal:
            np.savez(journal, **{"positions": np.array(positions), **metrics})  # type: ignore[arg-type]
            journal.flush()
            os.fsync(journal.fileno())
        os.replace(partial, path)
        sync(self.folder)

    def holds(self, positions: Sequence[int]) -> bool:
        """Whether the rows of a cohort are written."""
        return self._journal(positions).exists()

    def sign(self) -> str:
        """Write a new random text into the folder, by which other machines recognise this build."""
        token = secrets.token_hex(16)
        write_whole(self.folder / TOKEN_NAME, token.encode())
        return token

    def signature(self) -> str | None:
        """The last text of `sign`, or None if this machine does not see the folder."""
        try:
            return (self.folder / TOKEN_NAME).read_text()
        except OSError:
            return None

    def finish(self, name: str, provenance: Mapping[str, Any]) -> ZooIndex:
        """Fill in metrics and status, checksums, index and card.

        Args:
            name: the zoo's name.
            provenance: provenance of this run; that of an earlier run in its last stage is kept.

        Raises:
            BuildError: if the rows of a model are missing.
        """
        self._check_whole()
        held, metrics = PartialFolder(self.folder), self._metrics()
        header = replace(self.header, provenance=held.start_finishing(provenance))
        shards = [self._finish(plan, header, metrics, held.finished) for plan in self.plans]
        return finish_folder(held.finished, name, shards, header)

    def _finish(
        self,
        plan: ShardPlan,
        header: ZooHeader,
        metrics: Mapping[str, np.ndarray],
        finished: Path,
    ) -> Shard:
        """Finish one file, with metrics (all models, K) by name."""

        def columns(weights: np.ndarray) -> dict[str, np.ndarray]:
            known = self._columns(plan)
            for name, values in metrics.items():
                known[name] = values[list(plan.positions)].ravel()
            diverged = ~np.isfinite(known["train_loss"])
            return known | {"status": status_column(weights, diverged)}

        finish_file(self.folder / plan.name, finished / plan.name, header, columns)
        return describe_shard(finished, plan.name, plan.split, len(plan.positions))

    def _check_whole(self) -> None:
        if missing := sorted(set(range(len(self.models))) - self.done()):
            raise BuildError(
                f"{self.folder} lacks the rows of {len(missing)} models, the first at position "
                f"{missing[0]}: run the same command to go on"
            )

    def _columns(self, plan: ShardPlan) -> dict[str, np.ndarray]:
        """All scalar columns of one file; unknown metrics are NaN."""
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
            try:
                with path.open("rb") as file, np.load(file) as journal:
                    yield dict(journal)
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise BuildError(
                    f"{path} is damaged: delete it, and its models are trained again ({error})"
                ) from error
