"""Worker processes that fit predictors, the number of torch threads, and a device's memory."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from ..builders.engines.worker_processes import Worker, answering, started_workers
from ..zoos.errors import DeviceMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")
Report = Callable[[str], None]
_REPORT: ContextVar[Report | None] = ContextVar("report", default=None)


@dataclass(frozen=True)
class Progress:
    """Message of a worker about work that is not done yet."""

    text: str


def report_progress(text: str) -> None:
    """Report the progress of long work to the listener, see `listening`."""
    report = _REPORT.get()
    if report is not None:
        report(text)


@contextmanager
def step_on(device: str | torch.device, rows: int) -> Iterator[None]:
    """Name what to change where a step does not fit the memory of its device.

    Args:
        device: training device.
        rows: rows of the step.

    Raises:
        DeviceMemoryError: if the device runs out of memory in the block.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"a step on {rows} rows does not fit the memory of {str(device)!r}: take a batch_size "
            f"below {rows}, a smaller encoder, or another device ({error})"
        ) from error


@contextmanager
def listening(report: Report) -> Iterator[None]:
    """Call a function with the texts of `report_progress` inside the block."""
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


@dataclass(frozen=True)
class WorkerPool:
    """Worker processes that apply functions to items."""

    workers: Sequence[Worker]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply a function to every item, and give the results in the order of the items.

        Args:
            function: function that pickle can name, or a partial of one.
            items: arguments of the function, one per call.

        Raises:
            WorkerError: if a worker was killed.
            Exception: the first error of a call, with the traceback of its worker as a note.
        """
        waiting, done, given = enumerate(items), dict[int, Result](), 0
        busy, idle = dict[Worker, int](), self.workers
        while True:
            for worker, (index, item) in zip(idle, waiting, strict=False):
                worker.send((function, item))
                busy[worker] = index
            if not busy:
                return
            idle = answering(list(busy))
            heard = {worker: worker.receive() for worker in idle}
            idle = [worker for worker in idle if not isinstance(heard[worker], Progress)]
            for message in heard.values():
                if isinstance(message, Progress):
                    report_progress(message.text)
            for worker in idle:
                done[busy.pop(worker)] = _result(heard[worker])
            while given in done:
                yield done.pop(given)
                given += 1


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """Worker processes that are killed when the block is left, or this process ends.

    Args:
        workers: number of processes, with one thread of torch each.
    """
    with started_workers(workers, _apply) as running:
        yield WorkerPool(running)


def _result(answer: tuple[Any, Exception | None]) -> Any:
    """The result in a worker's answer; its error is raised."""
    result, error = answer
    if error is not None:
        raise error
    return result


def _apply(pipe: Connection) -> None:
    """Call the functions that come through a pipe, and send what `_result` takes."""
    while True:
        function, item = pipe.recv()
        try:
            with listening(lambda text: pipe.send(Progress(text))):
                answer: tuple[Any, Exception | None] = function(item), None
        except Exception as error:
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            answer = None, error
        pipe.send(answer)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` torch threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
