"""Runs functions in forked children, which can be killed, hang or crash without harm to the rest.

The parent has the slow libraries loaded and has computed nothing with them, so that a child is a
real process that costs milliseconds, not the seconds that importing torch takes.
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

UNCAUGHT = 70  # exit status of a child that ends by an exception
HANGING = (signal.SIGPROF, signal.SIGALRM)
PATIENCE = 12
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: its exit status; None if a signal ended it.
        signal: that signal; None if it exited by itself.
        output: what it printed, stdout and stderr together.
    """

    status: int | None
    signal: int | None
    output: str


def run_forked(
    function: Callable[[], int], output: Path, kill_after: float | None = None, limit: float = 60
) -> Ended:
    """Run a function in a child of this process.

    Args:
        function: gives the exit status of the child.
        output: file for what the child prints.
        kill_after: seconds after which it gets SIGKILL; None leaves it alone.
        limit: see `limit_time`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(function, output, limit)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    text = output.read_text(errors="replace") if output.exists() else ""
    if os.WIFSIGNALED(code):
        return Ended(None, os.WTERMSIG(code), text)
    return Ended(os.WEXITSTATUS(code), None, text)


def _be_child(function: Callable[[], int], output: Path, limit: float) -> None:
    """All that a child does; never returns."""
    status = UNCAUGHT
    try:
        to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(to, 1)
        os.dup2(to, 2)
        limit_time(limit)
        status = function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def limit_time(seconds: float) -> None:
    """End this process when it has computed that long, or waited `PATIENCE` times as long.

    A process that waits may wait for others on a busy machine, so that less would prove nothing.
    """
    for number in HANGING:
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * PATIENCE)


def run_cases(
    cases: Sequence[int], judge: Callable[[int], str], folder: Path, limit: float, memory: int
) -> Iterator[tuple[int, str]]:
    """Judge many cases, as many in one child as it survives.

    Args:
        cases: numbers of the cases.
        judge: says in words how a case ended; runs in the child.
        folder: scratch folder.
        limit: for one case, see `limit_time`; what takes longer is "hang".
        memory: bytes that a child may ask for beyond what this process has now.

    Yields:
        Case and its verdict: what `judge` says, or "hang", "crash: SIGNAL", "memory: ...".
    """
    verdicts, left = folder / "verdicts", list(cases)
    while left:
        verdicts.write_bytes(b"")
        run = _case_runner(left, judge, verdicts, limit, memory)
        ended = run_forked(run, folder / "output", limit=limit)
        lines = verdicts.read_text(errors="replace").splitlines()
        done = [line.split(" ", 1)[1] for line in lines if line.startswith("verdict ")]
        yield from zip(left, done, strict=False)
        if len(done) < len(left):  # the child died of the case it had begun
            yield left[len(done)], _cause_of_death(ended)
        left = left[len(done) + 1 :]


def _case_runner(
    cases: Sequence[int], judge: Callable[[int], str], verdicts: Path, limit: float, memory: int
) -> Callable[[], int]:
    def run() -> int:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        to = os.open(verdicts, os.O_WRONLY | os.O_APPEND)
        for case in cases:
            limit_time(limit)
            try:
                verdict = judge(case)
            except MemoryError as error:
                verdict = f"memory: {error}"
            os.write(to, f"verdict {' '.join(verdict.split())}\n".encode(errors="replace"))
        return 0

    return run


def _cause_of_death(ended: Ended) -> str:
    if ended.signal in HANGING:
        return "hang"
    if ended.signal is not None:
        return f"crash: {signal.Signals(ended.signal).name}"
    last = ended.output.strip().splitlines()[-1:] or ["without a word"]
    return f"crash: exit status {ended.status}, {last[0]}"
