"""Functions in worker processes: results in order, errors that reach the caller, and Ctrl-C."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from weightzoo.builders.engines.worker_processes import WorkerError
from weightzoo.tasks.processes import listening, worker_pool
from weightzoo.zoos.errors import UnsuitableError

SLEEPERS = """
import time
from weightzoo.tasks.processes import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as pool:
        for _ in pool.map(time.sleep, [0, 600, 600]):
            print("first", flush=True)
"""


LOCKS = """
import multiprocessing
from weightzoo.tasks.processes import worker_pool

def lock(number):
    lock.held = multiprocessing.get_context("spawn").RLock()  # as a progress bar makes one
    return number

if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(list(pool.map(lock, range(4))))
"""

# A module that worker processes can import wherever the tests lie.
WORK = """
import time
from weightzoo.tasks.processes import report_progress
from weightzoo.zoos.errors import UnsuitableError

def slow_if_first(number):
    time.sleep(0.2 * (number == 0))
    return number**2

def told(number):
    report_progress(f"half of {number}")
    return number

def unsuited_to_two(number):
    if number == 2:
        raise UnsuitableError("not 2")
    return number
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module with functions for workers; spawned processes inherit the search path."""
    (tmp_path / "pool_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("pool_work")
    del sys.modules["pool_work"]


def test_workers_report_progress_before_their_results(work: ModuleType) -> None:
    heard: list[str] = []
    with worker_pool(2) as pool, listening(heard.append):
        assert list(pool.map(work.told, range(3))) == [0, 1, 2]
    assert sorted(heard) == ["half of 0", "half of 1", "half of 2"]


def test_worker_pool_gives_results_in_the_order_of_the_items(work: ModuleType) -> None:
    with worker_pool(2) as pool:
        assert list(pool.map(work.slow_if_first, range(5))) == [0, 1, 4, 9, 16]


def test_worker_pool_raises_the_error_of_a_worker_with_its_traceback(work: ModuleType) -> None:
    with worker_pool(2) as pool, pytest.raises(UnsuitableError, match="not 2") as caught:
        list(pool.map(work.unsuited_to_two, range(4)))
    assert any("unsuited_to_two" in note for note in caught.value.__notes__)


def test_worker_pool_that_ends_leaks_no_semaphores(tmp_path: Path) -> None:
    (tmp_path / "locks.py").write_text(LOCKS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "locks.py")], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3]\n", "")


def test_worker_pool_says_that_a_worker_was_killed() -> None:
    with worker_pool(1) as pool, pytest.raises(WorkerError, match="exit code 3"):
        list(pool.map(os._exit, [3]))


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, whose children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GROUP: dict[str, Any] = {"start_new_session": True, "preexec_fn": _heed_interrupts}


def test_worker_pool_ends_at_once_on_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    command = [sys.executable, str(tmp_path / "sleepers.py")]
    process = subprocess.Popen(
        command, stdout=-1, stderr=-1, start_new_session=True, preexec_fn=_heed_interrupts
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"first\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to every process
        process.communicate(timeout=30)
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        _wait_for_end(process.pid)


def _wait_for_end(group: int) -> None:
    """Look for the processes of a group until there are none."""
    for _ in range(50):
        os.killpg(group, 0)
        time.sleep(0.1)
