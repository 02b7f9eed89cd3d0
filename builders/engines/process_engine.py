"""Trains cohorts on this machine: in this process, or in one worker process per core."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ...zoos.errors import BuildError
from ..training.objectives import load_data
from ..writing.partial_zoo import PartialZoo
from .job import TrainingJob, train_and_write

# Keep freed memory in the process: fresh pages at every step cost a third of a worker's time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
END_SECONDS = 10  # to wait for a killed process: a broken disk may hold it


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
    waiting = list(reversed(cohorts))
    with _started(min(workers, len(cohorts)), (job, zoo)) as running:
        for worker in running:
            worker.send(waiting.pop())
        while running:
            for worker in _answering(running):
                models = worker.receive()
                if models:
                    bar.update(models)
                elif waiting:
                    worker.send(waiting.pop())
                else:
                    running.remove(worker)


@dataclass(frozen=True, eq=False)
class _Worker:
    """A process that trains the cohorts sent to it, and our end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def send(self, cohort: Sequence[int]) -> None:
        """Let it train a cohort; that it has ended is found out by `receive`."""
        with suppress(OSError):
            self.pipe.send(cohort)

    def receive(self) -> int:
        """Take a message: how many models trained for an epoch, 0 when a cohort is written.

        Raises:
            BuildError: if it failed or was killed.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            message = f"it ended with exit code {self.process.exitcode}"
        if isinstance(message, str):
            raise BuildError(
                f"a worker failed: {message}; finished models are kept, run the same command to go "
                "on"
            )
        return int(message)


def _answering(workers: Sequence[_Worker]) -> list[_Worker]:
    """The workers that have sent something or ended, when there are any."""
    ready = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


@contextmanager
def _started(count: int, arguments: tuple[Any, ...]) -> Iterator[list[_Worker]]:
    """Worker processes, which are killed at the end: journals make that safe at any time."""
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    workers: list[_Worker] = []
    try:
        os.environ.update(ALLOCATOR)
        resource_tracker.ensure_running()  # its start would undo what holds interrupts back
        for _ in range(count):
            ours, theirs = context.Pipe()
            with theirs, _without_interrupts():
                process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
                process.start()
            workers.append(_Worker(process, ours))
        yield list(workers)
    finally:
        _kill(workers)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _kill(workers: Sequence[_Worker]) -> None:
    """End workers at once, also when Ctrl-C comes a second time meanwhile."""
    try:
        for worker in workers:
            worker.process.kill()
    finally:
        for worker in workers:
            worker.process.kill()
            worker.pipe.close()
        for worker in workers:
            worker.process.join(END_SECONDS)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; a process that is started then never gets it.

    In a terminal it reaches all processes of a command, and only the first one is to act on it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, job: TrainingJob, zoo: PartialZoo) -> None:
    """Train the cohorts that come through a pipe, and answer as `_Worker.receive` says."""
    start_worker()
    try:
        image_set = load_data(job.recipe.images)
        while True:
            train_and_write(job, zoo, pipe.recv(), image_set, "cpu", pipe.send)
            pipe.send(0)
    except EOFError:
        return
    except Exception as error:
        pipe.send(f"{error!r:.2000}")
        raise


def start_worker() -> None:
    """Set up a new worker process: one thread of torch, and an end when its parent ends."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker as soon as its parent was killed, so that it writes no further."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
