"""Trains cohorts on this machine: in this process, or in one worker process per core."""

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from ...zoos.errors import BuildError
from ..training.objectives import load_data
from .job import RowWriter, TrainingJob, train_and_write
from .worker_processes import Worker, WorkerError, answering, started_workers


def core_count() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_here(
    job: TrainingJob,
    zoo: RowWriter,
    cohorts: Sequence[Sequence[int]],
    device: str,
    workers: int | None,
    bar: Any,
) -> None:
    """Train all cohorts, in worker processes if there are several cohorts and cores.

    Args:
        job: training job.
        zoo: unfinished zoo that the rows are written to.
        cohorts: positions of the models that are trained in step, by cohort.
        device: training device, "cpu" or a CUDA device, which this process uses alone.
        workers: processes on CPU; None takes one per core, 1 trains in this process.
        bar: progress bar that counts model-epochs.

    Raises:
        BuildError: if a worker failed.
    """
    workers = workers or core_count()
    if device != "cpu" or workers == 1 or len(cohorts) < 2:
        _run_in_this_process(job, zoo, cohorts, device, bar)
    else:
        _run_in_processes(job, zoo, cohorts, workers, bar)


def _run_in_this_process(
    job: TrainingJob, zoo: RowWriter, cohorts: Sequence[Sequence[int]], device: str, bar: Any
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
    job: TrainingJob, zoo: RowWriter, cohorts: Sequence[Sequence[int]], workers: int, bar: Any
) -> None:
    """Train in processes with one thread each: two threads spin more than they work on tiny steps.

    Workers are killed at the end: journals make that safe at any time.
    """
    waiting = list(reversed(cohorts))
    with started_workers(min(workers, len(cohorts)), _work, (job, zoo)) as running:
        for worker in running:
            worker.send(waiting.pop())
        while running:
            for worker in answering(running):
                models = _trained(worker)
                if models:
                    bar.update(models)
                elif waiting:
                    worker.send(waiting.pop())
                else:
                    running.remove(worker)


def _trained(worker: Worker) -> int:
    """Number of models that a worker trained for an epoch, 0 when a cohort is written.

    Raises:
        BuildError: if the worker failed or was killed.
    """
    try:
        message = worker.receive()
    except WorkerError as error:
        message = str(error)
    if isinstance(message, str):
        raise BuildError(
            f"a worker failed: {message}; finished models are kept, run the same command to go on"
        )
    return int(message)


def _work(pipe: Connection, job: TrainingJob, zoo: RowWriter) -> None:
    """Train the cohorts that come through a pipe, and send what `_trained` reads."""
    try:
        image_set = load_data(job.recipe.images)
        while True:
            train_and_write(job, zoo, pipe.recv(), image_set, "cpu", pipe.send)
            pipe.send(0)
    except EOFError:
        raise
    except Exception as error:
        pipe.send(f"{error!r:.2000}")
        raise
