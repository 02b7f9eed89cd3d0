"""Trains cohorts on this machine: in this process, or in one worker process per core."""

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import torch

from ..zoos.errors import BuildError
from .job import TrainingJob, train_and_write
from .objectives import load_data
from .writer import PartialZoo

# Keep freed memory in the process: fresh pages at every step cost a third of a worker's time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
_epochs_done: Any = None  # in a worker: the shared count of trained model-epochs


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_here(
    job: TrainingJob,
    zoo: PartialZoo,
    cohorts: Sequence[Sequence[int]],
    device: str,
    workers: int | None,
    bar: Any,
) -> None:
    """Train all cohorts, in worker processes if there is something to share out.

    Args:
        job: what to train.
        zoo: where to write it.
        cohorts: positions of the models that are trained in step.
        device: "cpu", or a CUDA device, which this process uses alone.
        workers: processes on CPU; None takes one per core, 1 trains in this process.
        bar: counts model-epochs.

    Raises:
        BuildError: if a worker failed.
    """
    workers = workers or core_count()
    if device != "cpu" or workers == 1 or len(cohorts) < 2:
        _run_in_this_process(job, zoo, cohorts, device, bar)
    else:
        _run_in_processes(job, zoo, cohorts, workers, bar)


def _run_in_this_process(
    job: TrainingJob, zoo: PartialZoo, cohorts: Sequence[Sequence[int]], device: str, bar: Any
) -> None:
    image_set = load_data(job.recipe.images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)
    try:
        for cohort in cohorts:
            train_and_write(job, zoo, cohort, image_set, device, bar.update)
    finally:
        torch.set_num_threads(threads)


def _run_in_processes(
    job: TrainingJob, zoo: PartialZoo, cohorts: Sequence[Sequence[int]], workers: int, bar: Any
) -> None:
    """One thread per process: two threads on tiny steps spin more than they work."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    os.environ.update(ALLOCATOR)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (count, os.getpid()))
    try:
        pending = {pool.submit(_work, job, zoo, cohort) for cohort in cohorts}
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
    start_worker(parent)


def start_worker(parent: int) -> None:
    """Set up a new worker process: one thread of torch, and an end when its parent ends.

    Args:
        parent: process id of the parent.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this worker when its parent was killed, so that it writes no further."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(job: TrainingJob, zoo: PartialZoo, cohort: Sequence[int]) -> None:
    train_and_write(job, zoo, cohort, load_data(job.recipe.images), "cpu", _count_epochs)


def _count_epochs(models: int) -> None:
    with _epochs_done.get_lock():
        _epochs_done.value += models
