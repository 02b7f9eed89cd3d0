"""Builds a zoo: trains its cohorts, here or on a Ray cluster, and writes them to a folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..zoos.errors import BuildError
from ..zoos.folder_identity import Identity
from ..zoos.index import ZooIndex
from ..zoos.networks.convolution_c import convolution_code
from ..zoos.networks.devices import device_name, hardware_name
from ..zoos.partial_folder import partial_folder
from ..zoos.recipe import Recipe
from ..zoos.texts.text_set import TextSet
from ..zoos.zoo_folder import plan_shards
from .engines.job import TrainingJob
from .engines.process_engine import run_here
from .engines.ray_engine import run_on_ray
from .engines.slurm_engine import run_on_slurm
from .estimate import plan_population
from .recipe_module import ModuleFactory, recipe_of_module
from .training.cohort import cut_cohorts
from .training.cohort_size import GPU_COHORT, cohort_size
from .training.initialization import noise_provenance
from .training.objectives import DataSet, load_data, signal_columns, training_size
from .writing.partial_zoo import PartialZoo

ENGINES = ("process", "ray", "slurm")
CLUSTER_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Place of training of a build's cohorts; on a CPU it does not change the result.

    Attributes:
        name: "process" (this machine), "ray" (a cluster) or "slurm" (a job array).
        device: "cpu" or a CUDA device; on a cluster a device without number.
        workers: processes on CPU; None takes one per core of this machine, or what the cluster
            has; 1 trains in this process. With "slurm" the number of tasks at once.
        cohort_size: models trained in step; None takes a size that suits the device.
        ray_address: address of a running Ray cluster; None starts one on this machine.
        slurm: options of the job array, such as {"slurm_partition": "gpu", "timeout_min": 60}, see
            `run_on_slurm`.
        progress: show a progress bar on stderr.
        approve: function called before the training with its plan (see `plan_population`), which
            may raise an error to stop it; None estimates nothing.
    """

    name: str = "process"
    device: str = "cpu"
    workers: int | None = None
    cohort_size: int | None = None
    ray_address: str | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True
    approve: Callable[[Mapping[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        """Reject an unknown engine or device, unused options, and a GPU by number on a cluster.

        A task of a cluster sees its own GPU only, as "cuda", whatever its number.
        """
        if self.name not in ENGINES:
            raise BuildError(f"engine must be one of {ENGINES}, got {self.name!r}")
        if self.name != "ray" and self.ray_address is not None:
            raise BuildError(f"a Ray address needs the engine 'ray', not {self.name!r}")
        if self.name != "slurm" and self.slurm:
            raise BuildError(f"Slurm options need the engine 'slurm', not {self.name!r}")
        if self.name != "process" and self.device not in CLUSTER_DEVICES:
            raise BuildError(
                f"device must be one of {CLUSTER_DEVICES} with the engine {self.name!r}, which "
                f"gives each task a GPU of its own, got {self.device!r}: set CUDA_VISIBLE_DEVICES "
                "before the cluster starts to keep it to some GPUs"
            )
        object.__setattr__(self, "device", self._device(here=False))

    def check_device(self) -> None:
        """Refuse a device that this machine lacks; those of a cluster are not known here.

        Raises:
            BuildError: if the device does not exist.
        """
        self._device(here=self.name == "process")

    def _device(self, here: bool) -> str:
        try:
            return device_name(self.device, here)
        except ValueError as error:
            raise BuildError(str(error)) from error

    def models_in_step(self, job: TrainingJob) -> int:
        """Number of models in a cohort; without a local GPU the default of a cluster's GPUs."""
        if self.device != "cpu" and not torch.cuda.is_available():
            return self.cohort_size or GPU_COHORT
        batch_size = max(model.hyper_parameters.batch_size for model in job.models)
        architecture, models = job.recipe.architecture, len(job.models)
        return self.cohort_size or cohort_size(architecture, batch_size, models, self.device)

    def run(
        self,
        job: TrainingJob,
        zoo: PartialZoo,
        cohorts: Sequence[Sequence[int]],
        image_set: DataSet,
        bar: Any,
    ) -> str:
        """Train the cohorts and return the names of the devices.

        Args:
            job: training job.
            zoo: unfinished zoo that the rows are written to.
            cohorts: positions of the models that are trained in step, by cohort.
            image_set: image set or signal set of the job.
            bar: progress bar that counts model-epochs.
        """
        if self.name == "process":
            run_here(job, zoo, cohorts, self.device, self.workers, bar)
            return hardware_name(self.device)
        common: dict[str, Any] = {
            "fingerprint": image_set.fingerprint,
            "device": self.device,
            "workers": self.workers,
            "bar": bar,
        }
        if self.name == "slurm":
            return run_on_slurm(job, zoo, cohorts, options=self.slurm, **common)
        return run_on_ray(job, zoo, cohorts, address=self.ray_address, **common)


def build_zoo(
    recipe: Recipe,
    out: Path | str,
    *,
    models: int | None = None,
    engine: str = "process",
    device: str = "cpu",
    workers: int | None = None,
    cohort_size: int | None = None,
    ray_address: str | None = None,
    slurm: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    module: ModuleFactory | None = None,
    approve: Callable[[Mapping[str, Any]], None] | None = None,
) -> ZooIndex:
    """Train a population and write it as a zoo folder.

    A build that was killed goes on where it stopped when called again with the same arguments.
    On CPUs of one kind the same recipe gives the same columns, byte for byte, with any engine and
    number of workers, if convolutions are compiled for both builds or for neither, and so are
    training steps (see `convolution_c.convolution_code` and `compiled_step.step_code`).

    Args:
        recipe: recipe to train.
        out: path of the new zoo folder.
        models: number of models; None takes the recipe's.
        engine: engine name, "process", "ray" or "slurm", see `Engine`.
        device: training device, "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per available core, 1 trains in this process.
        cohort_size: models trained in step; None takes a size that suits the device.
        ray_address: address of a running Ray cluster; None starts one on this machine.
        slurm: options of the job array of the engine "slurm", see `Engine`.
        overwrite: replace a zoo at `out` when the new one is complete.
        progress: show a progress bar on stderr.
        module: torch module, or function that makes one, whose layers take the place of the
            recipe's architecture, see `recipe_of_module`; None keeps the architecture.
        approve: function called before the training with its plan, see `Engine`.

    Raises:
        TypeError: if `recipe` is no recipe, such as the name of one.
        RecipeError: if the recipe has fewer models, or a layer of the module is unknown.
        BuildError: if `out` exists, another command is writing it, the disk is full, or a
            worker failed; nothing at `out` is touched then.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from weightzoo import build_zoo, load_recipe
        >>> recipe = replace(load_recipe("digits-mlp"), epochs=1, checkpoints=(0, 1))
        >>> folder = tempfile.mkdtemp() + "/small"
        >>> index = build_zoo(recipe, folder, models=4, workers=1, progress=False)
        >>> {shard.split: shard.models for shard in index.shards}
        {'train': 2, 'val': 1, 'test': 1}
    """
    if not isinstance(recipe, Recipe):
        name = recipe if isinstance(recipe, str | Path) else "digits-mlp"
        raise TypeError(
            f"build_zoo takes a Recipe, got {recipe!r}: load it first, load_recipe({str(name)!r})"
        )
    if module is not None:
        recipe = recipe_of_module(recipe, module)
    job = TrainingJob(recipe=recipe, models=tuple(recipe.models(models)))
    where = Engine(
        name=engine,
        device=device,
        workers=workers,
        cohort_size=cohort_size,
        ray_address=ray_address,
        slurm=slurm or {},
        progress=progress,
        approve=approve,
    )
    return run_job(job, out, where, overwrite)


def run_job(job: TrainingJob, out: Path | str, engine: Engine, overwrite: bool = False) -> ZooIndex:
    """Train the models of a job and write them as a zoo folder; see `build_zoo`.

    Args:
        job: training job.
        out: path of the new zoo folder.
        engine: engine that trains the cohorts.
        overwrite: replace a zoo at `out` when the new one is complete.

    Raises:
        BuildError: if `out` exists, the disk is full, or a worker failed, as in `build_zoo`.
    """
    out = Path(out)
    engine.check_device()
    if engine.approve is not None:  # first: images may have to be downloaded
        engine.approve(plan_population(job.recipe, job.models, engine.device, engine.workers))
    image_set = load_data(job.recipe.images)
    job.check_fit(image_set)
    job = job.with_code(image_set, engine.device)
    settings = job.settings() | {
        "cohort_size": engine.models_in_step(job),
        "device": engine.device,
        "images": image_set.fingerprint,
        "convolution": convolution_code(job.recipe.architecture.layer_table(), engine.device),
        "steps": job.code,
    }
    try:
        with partial_folder(out, Identity(job.command, job.source, settings), overwrite) as held:
            if held.is_done:
                return ZooIndex.read(held.out)
            zoo = _partial_zoo(job, image_set, held.path)
            started = datetime.now(UTC)
            zoo.create(overwrite)
            todo = _unfinished(job, zoo, training_size(image_set), engine.models_in_step(job))
            with _bar(job, todo, engine.progress) as bar:
                devices = engine.run(job, zoo, todo, image_set, bar)
            provenance = _provenance(job, image_set, devices, started)
            codes = {name: settings[name] for name in ("convolution", "steps")}
            noise = noise_provenance(engine.device)
            return zoo.finish(job.recipe.name, provenance | codes | noise)
    except OSError as error:
        raise BuildError(f"cannot write the zoo {out}: {error}") from error


def _partial_zoo(job: TrainingJob, image_set: DataSet, folder: Path) -> PartialZoo:
    header, checkpoints = job.header(), job.recipe.checkpoints
    splits, rows = [model.split for model in job.models], [len(checkpoints)] * len(job.models)
    return PartialZoo(
        folder=folder,
        models=job.models,
        checkpoints=checkpoints,
        plans=tuple(plan_shards(splits, rows, header.layer_table.width * 4)),
        header=header,
        lineage=job.lineage(),
        properties=signal_columns(image_set, job.models),
        measures=job.measures,
    )


def _unfinished(job: TrainingJob, zoo: PartialZoo, images: int, size: int) -> list[list[int]]:
    """The cohorts whose rows are not written yet."""
    done = zoo.done()
    cohorts = cut_cohorts(job.recipe, job.models, images, size)
    return [cohort for cohort in cohorts if not done.issuperset(cohort)]


def _bar(job: TrainingJob, todo: Sequence[Sequence[int]], progress: bool) -> Any:
    total, epochs = len(job.models) * job.recipe.epochs, job.recipe.epochs
    return tqdm(
        total=total,
        initial=total - sum(map(len, todo)) * epochs,
        unit="model-epoch",
        desc=job.recipe.name,
        disable=not progress,
        smoothing=0.05,
    )


def _provenance(
    job: TrainingJob, image_set: DataSet, devices: str, started: datetime
) -> dict[str, Any]:
    """Code, device, images and times of the build."""
    images: dict[str, Any] = {"name": image_set.name, "fingerprint": image_set.fingerprint}
    if isinstance(image_set, TextSet):
        images["packages"] = image_set.packages
    return job.provenance() | {
        "device": devices,
        "images": images,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
