"""Builds a zoo from a recipe: trains its cohorts, in worker processes on CPU, and writes them."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..zoos.errors import BuildError
from ..zoos.format import ZooHeader
from ..zoos.images import ImageSet, load_images
from ..zoos.index import ZooIndex
from ..zoos.recipe import Model, Recipe, hyper_parameter_names
from .provenance import commit, package_version
from .training import cut_cohorts, train_cohort
from .writer import PartialZoo, discard_other_build, partial_folder, plan_shards

CPU_COHORT, GPU_COHORT = 32, 128
# Keep freed memory in the process: fresh pages at every step cost a third of a worker's time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
_epochs_done: Any = None  # in a worker: the shared count of trained model-epochs


def build_zoo(
    recipe: Recipe,
    out: Path | str,
    *,
    models: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    cohort_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ZooIndex:
    """Train a population and write it as a zoo folder.

    A build that was killed goes on where it stopped when called again with the same arguments.
    The same recipe on the same device gives the same columns, byte for byte, whatever the
    number of workers.

    Args:
        recipe: what to train.
        out: the zoo folder to make.
        models: number of models; None takes the recipe's.
        device: "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per available core, 1 trains in this process.
        cohort_size: models trained in step; None takes a size that suits the device.
        overwrite: replace a zoo at `out` when the new one is whole.
        progress: show a progress bar on stderr.

    Raises:
        RecipeError: if the recipe has not so many models.
        BuildError: if `out` is taken, another builder is at work, the disk is full, or a
            worker failed; nothing at `out` is touched then.
    """
    out = Path(out)
    population = tuple(recipe.models(models))
    image_set = load_images(recipe.images)
    _check_fit(recipe, image_set)
    size = cohort_size or (CPU_COHORT if device == "cpu" else GPU_COHORT)
    settings = {
        "recipe": recipe.to_json(),
        "models": len(population),
        "cohort_size": size,
        "device": device,
        "images": image_set.fingerprint,
    }
    try:
        with partial_folder(out, overwrite) as folder:
            if overwrite:
                discard_other_build(folder, settings)
            zoo = _partial_zoo(recipe, population, folder)
            started = datetime.now(UTC)
            zoo.create(settings)
            cohorts = cut_cohorts(recipe, population, len(image_set.train), size)
            done = zoo.done()
            todo = [cohort for cohort in cohorts if not done.issuperset(cohort)]
            total = len(population) * recipe.epochs
            bar = tqdm(
                total=total,
                initial=total - sum(map(len, todo)) * recipe.epochs,
                unit="model-epoch",
                desc=recipe.name,
                disable=not progress,
                smoothing=0.05,
            )
            with bar:
                _run(zoo, recipe, todo, device, workers, bar)
            return zoo.finish(recipe.name, _provenance(image_set, device, started))
    except OSError as error:
        raise BuildError(f"cannot write the zoo {out}: {error}") from error


def _partial_zoo(recipe: Recipe, population: tuple[Model, ...], folder: Path) -> PartialZoo:
    table = recipe.architecture.layer_table()
    header = ZooHeader(
        architecture=recipe.architecture,
        layer_table=table,
        hyper_parameters=hyper_parameter_names(),
        recipe=recipe.to_json(),
        split={"by": "model", "fractions": recipe.split, "seed": recipe.seed},
    )
    plans = plan_shards(population, table.width * 4, len(recipe.checkpoints))
    return PartialZoo(folder, population, recipe.checkpoints, tuple(plans), header)


def _run(
    zoo: PartialZoo,
    recipe: Recipe,
    cohorts: Sequence[Sequence[int]],
    device: str,
    workers: int | None,
    bar: Any,
) -> None:
    """Train all cohorts, here or in worker processes."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if device != "cpu" or workers == 1 or len(cohorts) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if device == "cpu" else threads)
        try:
            for cohort in cohorts:
                _train_and_write(zoo, recipe, cohort, device, bar.update)
        finally:
            torch.set_num_threads(threads)
        return
    _run_in_processes(zoo, recipe, cohorts, workers, bar)


def _train_and_write(
    zoo: PartialZoo, recipe: Recipe, cohort: Sequence[int], device: str, on_epoch: Any
) -> None:
    models = [zoo.models[position] for position in cohort]
    result = train_cohort(recipe, models, load_images(recipe.images), device, on_epoch)
    metrics = {name: values.numpy() for name, values in result.metrics.items()}
    zoo.write(cohort, result.weights.numpy(), metrics)


def _run_in_processes(
    zoo: PartialZoo, recipe: Recipe, cohorts: Sequence[Sequence[int]], workers: int, bar: Any
) -> None:
    """One thread per process: two threads on tiny steps spin more than they work."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    os.environ.update(ALLOCATOR)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (count, os.getpid()))
    try:
        pending = {pool.submit(_work, zoo, recipe, cohort) for cohort in cohorts}
        shown = 0
        while pending:
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            bar.update(count.value - shown)
            shown = count.value
            for future in finished:
                _raise_failure(future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _raise_failure(future: Future[None]) -> None:
    if (error := future.exception()) is not None:
        raise BuildError(
            f"a worker failed: {error!r}; finished models are kept, run the same command to go on"
        ) from error


def _start_worker(count: Any, parent: int) -> None:
    global _epochs_done
    _epochs_done = count
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this worker when its parent was killed, so that it writes no further."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(zoo: PartialZoo, recipe: Recipe, cohort: Sequence[int]) -> None:
    _train_and_write(zoo, recipe, cohort, "cpu", _count_epochs)


def _count_epochs(models: int) -> None:
    with _epochs_done.get_lock():
        _epochs_done.value += models


def _check_fit(recipe: Recipe, image_set: ImageSet) -> None:
    """Refuse an architecture that cannot take the images or name their classes."""
    shapes = recipe.architecture.shapes()
    if shapes[0] != image_set.shape or shapes[-1] != (image_set.classes,):
        raise BuildError(
            f"architecture {recipe.architecture.name!r} takes {shapes[0]} and gives {shapes[-1]}, "
            f"image set {image_set.name!r} has shape {image_set.shape} and "
            f"{image_set.classes} classes"
        )


def _provenance(image_set: ImageSet, device: str, started: datetime) -> dict[str, Any]:
    """Who made the zoo, with what, from what, when."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
    return {
        "weightzoo": package_version(),
        "commit": commit(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": name,
        "images": {"name": image_set.name, "fingerprint": image_set.fingerprint},
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
