"""Worker processes on this machine, each at the other end of a pipe.

They end with the process that started them: on their own when its block ends, and at once on an
error, on Ctrl-C, and when it is killed.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ...zoos.errors import ZooError

# Keep freed memory in the process: fresh pages at every step cost a third of a worker's time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
CALM_SECONDS = 2  # longest wait for processes that end on their own and remove their semaphores
END_SECONDS = 10  # longest wait for a killed process: a broken disk may hold it


class WorkerError(ZooError, RuntimeError):
    """A worker process was killed, or ended without an answer."""


@dataclass(frozen=True, eq=False)
class Worker:
    """A worker process, and this process's end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def send(self, task: Any) -> None:
        """Send a task; `receive` reports a worker that has ended."""
        with suppress(OSError):
            self.pipe.send(task)

    def receive(self) -> Any:
        """Take the next message of the worker.

        Raises:
            WorkerError: if it was killed, or ended without a message.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise WorkerError(f"it ended with exit code {self.process.exitcode}") from None


def answering(workers: Sequence[Worker]) -> list[Worker]:
    """Wait for workers that have sent a message or ended, and return them."""
    ready = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


@contextmanager
def started_workers(
    count: int, work: Callable[..., None], arguments: Sequence[Any] = ()
) -> Iterator[list[Worker]]:
    """Worker processes with one thread of torch each, which end when the block is left.

    Args:
        count: number of processes.
        work: function that a process runs, called with the process's end of the pipe first.
        arguments: further arguments of `work`.
    """
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    workers: list[Worker] = []
    try:
        os.environ.update(ALLOCATOR)
        resource_tracker.ensure_running()  # its start would unblock interrupts
        for _ in range(count):
            ours, theirs = context.Pipe()
            with theirs, _without_interrupts():
                process = context.Process(target=_run, args=(work, theirs, *arguments), daemon=True)
                process.start()
            workers.append(Worker(process, ours))
        yield list(workers)
        _dismiss(workers)
    finally:
        _kill(workers)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _dismiss(workers: Sequence[Worker]) -> None:
    """Let idle workers end on their own: a killed one leaves semaphores that Python warns of."""
    for worker in workers:
        worker.pipe.close()
    end = time.monotonic() + CALM_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))


def _kill(workers: Sequence[Worker]) -> None:
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
    """Block Ctrl-C for a moment; a process that is started meanwhile never receives it.

    A terminal sends it to all processes of a command, and only the first one may act on it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(work: Callable[..., None], pipe: Connection, *arguments: Any) -> None:
    """Set up a worker process and run it until its pipe is closed."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        work(pipe, *arguments)


def _end_with_parent() -> None:
    """End this worker when its parent was killed, so that it does not go on writing."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
