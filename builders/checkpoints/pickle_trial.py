"""Reads a foreign pickle in a child process first, under limits of memory, stack and time.

A pickle without forbidden names can still hang or crash its reader: hashing a tuple nested a
million times overflows the stack, shared tuples of 300 bytes are hashed for years, a declared size
takes all memory. The child reads the pickle exactly as the importer will, drops the result and
answers with one line. If it dies, that file is rejected and a new child is started. Weights are not
copied: the child receives the pickle's bytes, or the path and offset of a large file.

`pickle_trial_child` runs in the child.
"""

import atexit
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO

from ...zoos.strict_json import json_text
from .unpickling import RefusedPickleError
from .unreadable import UnreadableFileError, shown

CHILD = f"{__name__}_child"
BASE_SECONDS, SECONDS_PER_MB = 3, 0.5  # of processor time; real checkpoints take a tenth of it
_WAITED = 20  # wall-clock limit, in multiples of the processor time: machines may be busy
_KEPT = 1000  # remembered answers about rejected pickles
_KEPT_PASSED = 500_000  # digests of 32 bytes


def seconds_allowed(size: int) -> float:
    """Processor time that a pickle of `size` bytes may take."""
    return BASE_SECONDS + SECONDS_PER_MB * size / 1e6


class Trial:
    """A child process that reads pickles; it starts on first use, and again after it died."""

    def __init__(self) -> None:
        """Prepare; the child starts on first use."""
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        self._refused: dict[bytes, tuple[str, bool]] = {}
        self._passed: set[bytes] = set()  # each checkpoint is opened for properties and weights
        self.enabled = True  # False in the child itself

    def read(self, kind: str, stubs: Sequence[str], file: BinaryIO) -> None:
        """Let the child read the pickles of a file; the position in `file` does not change.

        Args:
            kind: name of a reader in `pickle_trial_child.READERS`.
            stubs: full names or prefixes whose objects become stubs.
            file: file opened for reading; in memory, or a part of a file on disk.

        Raises:
            RefusedPickleError: if a pickle names something that is not allowed.
            UnreadableFileError: if it cannot be read within the limits, or at all.
        """
        if not self.enabled:
            return
        request, data = _request(kind, stubs, file)
        with self._lock:
            key = hashlib.sha256(json_text(request).encode() + data).digest()
            if key in self._passed:
                return
            if key not in self._refused:
                answer = self._ask(request, data)
                if answer is None:
                    self._passed.add(key)
                    if len(self._passed) > _KEPT_PASSED:
                        self._passed.clear()
                    return
                self._refused[key] = answer
                if len(self._refused) > _KEPT:
                    self._refused.pop(next(iter(self._refused)))
            reason, forbidden = self._refused[key]
        raise (RefusedPickleError if forbidden else UnreadableFileError)(reason)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    _close(pipe)

    def _ask(self, request: dict[str, Any], data: Any) -> tuple[str, bool] | None:
        """(reason, whether it names something forbidden) of a rejection, or None."""
        child = self._running()
        assert child.stdin is not None and child.stdout is not None
        seconds = request["seconds"]
        try:
            child.stdin.write(json_text(request).encode() + b"\n")
            child.stdin.write(data)
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], _WAITED * seconds)
            line = child.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        except BaseException:  # an interrupt leaves half a request in the pipe
            self.close()
            raise
        if line.endswith(b"\n"):
            answer = json.loads(line)
            return None if answer is None else (answer["reason"], answer["forbidden"])
        died = child.poll()
        self.close()
        return _obituary(child.returncode if died is None else died, seconds), False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid():
            self._child, self._owner = _start(), os.getpid()
        return self._child


TRIAL = Trial()
atexit.register(TRIAL.close)


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", CHILD],  # -P: no modules from the working folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # an interrupt is the parent's to handle
    )


def _request(kind: str, stubs: Sequence[str], file: BinaryIO) -> tuple[dict[str, Any], Any]:
    """The request, and the bytes that follow it."""
    at = file.tell()
    found = getattr(getattr(file, "raw", None), "range", None)
    size = file.seek(0, os.SEEK_END) - at
    file.seek(at)
    request = {"kind": kind, "stubs": list(stubs), "size": size, "seconds": seconds_allowed(size)}
    if found is not None:
        return request | {"path": str(found.path), "offset": found.offset + at}, b""
    data = file.read(size)
    file.seek(at)
    return request, data


def _obituary(code: int, seconds: float) -> str:
    """Reason of a child's death, for a message."""
    if -code in (signal.SIGPROF, signal.SIGKILL):
        return f"its pickle takes more than {seconds:.0f} s or too much memory to read"
    if -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        return "its pickle crashes its reader, for example by objects nested too deep"
    return f"its pickle ended the process that tried to read it (code {shown(code)})"


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # its reader has ended
        pass
