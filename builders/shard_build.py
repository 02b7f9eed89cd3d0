"""Builds one shard of a zoo, for schedulers without a driver; the last shard merges all.

`weightzoo build RECIPE --shard 3/8 --out zoo` trains every eighth cohort and keeps its rows in
`zoo.shard-3-of-8`; `finetune` and `sparsify` take `--shard` too. Each shard is a command of its
own, which continues after a kill. When all folders of shards lie beside each other, the command
that finds them whole writes the zoo. The rows are those of a build in one process, because they
are a function of recipe and seed.
"""

import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..zoos.disk import sync, write_whole
from ..zoos.errors import BuildError, FolderBusyError
from ..zoos.index import INDEX_NAME, ZooIndex
from ..zoos.networks.convolution_c import convolution_code
from ..zoos.networks.devices import hardware_name
from ..zoos.partial_folder import check_target
from ..zoos.recipe import Recipe
from ..zoos.strict_json import json_text
from .build import Engine, run_job
from .engines.job import TrainingJob
from .engines.process_engine import run_here
from .training.cohort import cut_cohorts
from .training.objectives import DataSet, load_data, training_size
from .writing.partial_zoo import PartialZoo

SETTINGS_NAME, WHOLE_NAME = "shard.json", "whole"


@dataclass(frozen=True)
class ShardFolder:
    """Rows of one shard of a build; can be pickled, so that worker processes write to it.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @classmethod
    def beside(cls, out: Path, number: int, count: int) -> "ShardFolder":
        """The folder of a shard.

        Args:
            out: zoo folder that the shards become.
            number: number of the shard, from 1.
            count: number of shards.
        """
        return cls(out.with_name(f"{out.name}.shard-{number}-of-{count}"))

    @property
    def is_whole(self) -> bool:
        """Whether all its rows are written."""
        return (self.path / WHOLE_NAME).exists()

    @property
    def devices(self) -> str:
        """Names of the devices that trained it."""
        return (self.path / WHOLE_NAME).read_text()

    def claim(self, settings: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder, or check that it holds work of the same build.

        Args:
            settings: plain data that decides the result.
            overwrite: discard the work of another build.

        Raises:
            BuildError: if it holds work of another build.
        """
        path, text = self.path / SETTINGS_NAME, json_text(dict(settings))
        if path.exists():
            earlier, now = json.loads(path.read_text()), json.loads(text)
            odd = sorted(key for key in {*earlier, *now} if earlier.get(key) != now.get(key))
            if not odd:
                return
            if not overwrite:
                raise BuildError(
                    f"{self.path} holds a shard of a build that differs in {odd}: delete the "
                    "folder, or pass --overwrite to start anew"
                )
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())

    def settings(self) -> Any:
        """What `claim` recorded."""
        return json.loads((self.path / SETTINGS_NAME).read_text())

    def holds(self, positions: Sequence[int]) -> bool:
        """Whether the rows of a cohort are written."""
        return self._file(positions).exists()

    def write(
        self, positions: Sequence[int], weights: np.ndarray, metrics: Mapping[str, np.ndarray]
    ) -> None:
        """Write the rows of a cohort, whole or not at all.

        Args:
            positions: positions of M models in the population.
            weights: weights of their checkpoints, (M, K, D), float32.
            metrics: values by metric name, (M, K).
        """
        path = self._file(positions)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            arrays = {"positions": np.array(positions), "weights": weights}
            arrays |= {f"metric_{name}": values for name, values in metrics.items()}
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync(self.path)

    def cohorts(self) -> Iterator[tuple[list[int], np.ndarray, dict[str, np.ndarray]]]:
        """(positions, weights, metrics) of all cohorts.

        Raises:
            BuildError: if a file is damaged.
        """
        for path in sorted(self.path.glob("cohort-*.npz")):
            try:
                with path.open("rb") as file, np.load(file) as arrays:
                    metrics = {
                        name.removeprefix("metric_"): arrays[name]
                        for name in arrays.files
                        if name.startswith("metric_")
                    }
                    yield arrays["positions"].tolist(), arrays["weights"], metrics
            except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
                raise BuildError(
                    f"{path} is damaged: delete it and {self.path / WHOLE_NAME}, and run its "
                    f"shard again ({error})"
                ) from error

    def finish(self, devices: str) -> None:
        """Record that all rows are written."""
        write_whole(self.path / WHOLE_NAME, devices.encode())

    def _file(self, positions: Sequence[int]) -> Path:
        return self.path / f"cohort-{min(positions):08d}.npz"


@dataclass(frozen=True, kw_only=True)
class MergingEngine(Engine):
    """Engine that takes the rows of shards in place of training.

    Attributes:
        shards: folders of all shards.
    """

    shards: tuple[ShardFolder, ...] = ()

    def run(
        self,
        job: TrainingJob,
        zoo: PartialZoo,
        cohorts: Sequence[Sequence[int]],
        image_set: DataSet,
        bar: Any,
    ) -> str:
        """Copy all rows into the zoo, and return the names of the devices that trained.

        Args:
            job: training job.
            zoo: unfinished zoo that the rows are written to.
            cohorts: positions of the models whose rows are not there yet, by cohort.
            image_set: image set or signal set of the job.
            bar: progress bar that counts model-epochs.
        """
        for shard in self.shards:
            for positions, weights, metrics in shard.cohorts():
                zoo.write(positions, weights, metrics)
                bar.update(len(positions) * job.recipe.epochs)
        return ", ".join(sorted({shard.devices for shard in self.shards}))


def build_shard(
    recipe: Recipe,
    out: Path | str,
    shard: tuple[int, int],
    *,
    models: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    cohort_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ZooIndex | None:
    """Train one shard of a recipe's population; write the zoo when all shards are there.

    All shards need the same arguments. A shard that was killed continues when it is called again.
    On CPUs of one kind the zoo has the columns of `build_zoo`, byte for byte.

    Args:
        recipe: recipe to train.
        out: path of the new zoo folder; the folders of the shards lie beside it.
        shard: number of the shard, from 1, and number of shards.
        models: number of models; None takes the recipe's.
        device: training device, "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per available core, 1 trains in this process.
        cohort_size: models trained in step; None takes a size that suits the device and gives each
            shard a cohort.
        overwrite: replace a zoo at `out`, and discard shards of other builds.
        progress: show a progress bar on stderr.

    Returns:
        The index of the zoo, or None while other shards are missing or merge.

    Raises:
        BuildError: if `out` exists, there are no such shards, or shards differ in their settings.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from weightzoo import load_recipe
        >>> from weightzoo.builders.shard_build import build_shard
        >>> recipe = replace(load_recipe("digits-mlp"), epochs=1, checkpoints=(0, 1))
        >>> out = tempfile.mkdtemp() + "/small"
        >>> given = dict(models=4, workers=1, progress=False)
        >>> print(build_shard(recipe, out, (1, 2), **given))
        None
        >>> sum(shard.models for shard in build_shard(recipe, out, (2, 2), **given).shards)
        4
    """
    job = TrainingJob(recipe=recipe, models=tuple(recipe.models(models)))
    engine = Engine(device=device, workers=workers, cohort_size=cohort_size, progress=progress)
    return run_shard(job, out, shard, engine, overwrite)


def run_shard(
    job: TrainingJob,
    out: Path | str,
    shard: tuple[int, int],
    engine: Engine,
    overwrite: bool = False,
) -> ZooIndex | None:
    """Train one shard of a job; write the zoo when all shards are there; see `build_shard`.

    Args:
        job: training job, such as one of `fine_tuning_job` or `sparsification_job`.
        out: path of the new zoo folder; the folders of the shards lie beside it.
        shard: number of the shard, from 1, and number of shards.
        engine: device and workers of this machine.
        overwrite: replace a zoo at `out`, and discard shards of other builds.

    Returns:
        The index of the zoo, or None while other shards are missing or merge.

    Raises:
        BuildError: if `out` exists, there are no such shards, or shards differ in their settings.
    """
    number, count = shard
    out = Path(out)
    if not 1 <= number <= count <= len(job.models):
        raise BuildError(
            f"shard must be I/N with I from 1 to N, and N at most {len(job.models)} (one model "
            f"each), got {number}/{count}"
        )
    existed = (out / INDEX_NAME).exists()
    check_target(out, overwrite)
    engine.check_device()
    image_set = load_data(job.recipe.images)
    job.check_fit(image_set)
    job = job.with_code(image_set, engine.device)
    size = min(engine.models_in_step(job), math.ceil(len(job.models) / count))
    folders = [ShardFolder.beside(out, one, count) for one in range(1, count + 1)]
    own, settings = folders[number - 1], _settings(job, image_set, size, engine, count)
    own.claim(settings, overwrite)
    if not own.is_whole:
        cohorts = cut_cohorts(job.recipe, job.models, training_size(image_set), size)
        _train(job, own, cohorts[number - 1 :: count], engine)
    if not all(folder.is_whole for folder in folders):
        return None
    _check_equal(folders, settings)
    return _merge(job, out, folders, size, engine, overwrite, existed)


def _settings(
    job: TrainingJob, image_set: DataSet, size: int, engine: Engine, count: int
) -> dict[str, Any]:
    return job.settings() | {
        "shards": count,
        "cohort_size": size,
        "device": engine.device,
        "images": image_set.fingerprint,
        "convolution": convolution_code(job.recipe.architecture.layer_table(), engine.device),
        "steps": job.code,
        "versions": [job.provenance()[name] for name in ("weightzoo", "torch")],
    }


def _train(
    job: TrainingJob, folder: ShardFolder, cohorts: Sequence[Sequence[int]], engine: Engine
) -> None:
    left = [cohort for cohort in cohorts if not folder.holds(cohort)]
    epochs = job.recipe.epochs
    total, todo = (sum(map(len, part)) * epochs for part in (cohorts, left))
    options = {"unit": "model-epoch", "desc": folder.path.name, "disable": not engine.progress}
    with tqdm(total=total, initial=total - todo, **options) as bar:
        run_here(job, folder, left, engine.device, engine.workers, bar)
    folder.finish(hardware_name(engine.device))


def _check_equal(folders: Sequence[ShardFolder], settings: Mapping[str, Any]) -> None:
    wanted = json.loads(json_text(dict(settings)))
    for folder in folders:
        found = folder.settings()
        if odd := sorted(key for key in wanted if found.get(key) != wanted[key]):
            raise BuildError(f"{folder.path} differs from this shard in {odd}: run it again")


def _merge(
    job: TrainingJob,
    out: Path,
    folders: Sequence[ShardFolder],
    size: int,
    engine: Engine,
    overwrite: bool,
    existed: bool,
) -> ZooIndex | None:
    """Write the zoo and remove the shards; None if another shard does so at the same time."""
    merging = MergingEngine(
        device=engine.device, cohort_size=size, progress=engine.progress, shards=tuple(folders)
    )
    try:
        index = run_job(job, out, merging, overwrite)
    except FolderBusyError:
        return None
    except BuildError:
        if not existed and (out / INDEX_NAME).exists():  # another shard was faster
            return None
        raise
    for folder in folders:
        shutil.rmtree(folder.path, ignore_errors=True)
    return index
