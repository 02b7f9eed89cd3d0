"""The child process of `pickle_trial`: reads pickles from its standard input under limits."""

import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ...zoos.strict_json import json_text
from .archives import FileRange, open_range
from .pickle_trial import TRIAL
from .torch_files import LegacyFile, PickleFile, load_zip_pickle
from .unpickling import RefusedPickleError, Stub
from .unreadable import UnreadableFileError, error_text

READERS: dict[str, Callable[[BinaryIO, tuple[str, ...]], Any]] = {
    "zip": load_zip_pickle,
    "legacy": lambda file, stubs: LegacyFile(file, stubs).root,
    "pickle": lambda file, stubs: PickleFile(file, stubs).root,
}
MEMORY_BYTES, MEMORY_PER_BYTE = (
    400_000_000,
    10,
)  # in addition to the child's own; a pickled zoo needs 8.3
STACK_BYTES = 2_000_000  # a quarter of the parent's: a pickle read here is safe there
DEPTH_LIMIT = 100
ENTRIES, ENTRIES_PER_BYTE = 100_000, 16


def main() -> None:
    """Answer one line per request until the input ends."""
    TRIAL.enabled = False
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_STACK, STACK_BYTES)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    while line := asked.readline():
        request = json.loads(line)
        data = None if "path" in request else asked.read(request["size"])
        answers.write(json_text(answer(request, data)).encode() + b"\n")
        answers.flush()


def answer(request: dict[str, Any], data: bytes | None) -> dict[str, Any] | None:
    """Read one pickle under limits.

    Args:
        request: kind of the reader, stubs, size, seconds, and path and offset of a large file.
        data: bytes of the pickle; None reads the file that the request names.

    Returns:
        None if the pickle can be read, else {"reason", "forbidden"}.
    """
    size = request["size"]
    _limit(resource.RLIMIT_AS, _address_space() + MEMORY_BYTES + MEMORY_PER_BYTE * size)
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    try:
        if data is None:
            file = open_range(FileRange(Path(request["path"]), request["offset"], size))
        else:
            file = io.BytesIO(data)
        root = READERS[request["kind"]](file, tuple(request["stubs"]))
        check_extent(root, ENTRIES + ENTRIES_PER_BYTE * size)
    except UnreadableFileError as error:
        return {"reason": str(error), "forbidden": isinstance(error, RefusedPickleError)}
    except Exception as error:  # with any error the pickle is rejected
        return {"reason": f"damaged: {error_text(error)}", "forbidden": False}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def check_extent(root: Any, entries: int) -> None:
    """Reject data that is nested too deep, or endless when it is traversed.

    Args:
        root: object read from a pickle.
        entries: largest number of entries; an entry with two references counts twice.

    Raises:
        UnreadableFileError: if there are more, or they are nested deeper than `DEPTH_LIMIT`.
    """
    waiting, count, stubs = [(root, 0)], 0, set[int]()
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Stub):  # stubs may form circles: each counts once
            inside: Iterable[Any] = () if id(value) in stubs else _parts(value)
            stubs.add(id(value))
        elif isinstance(value, dict):
            inside = (*value, *value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            inside = value
        else:
            continue
        below = [(part, depth + 1) for part in inside]
        count += len(below)
        if depth >= DEPTH_LIMIT:
            raise UnreadableFileError(f"its objects are nested more than {DEPTH_LIMIT} deep")
        if count > entries:
            raise UnreadableFileError("its objects refer to each other without end")
        waiting += below


def _parts(stub: Stub) -> tuple[Any, ...]:
    return stub.arguments, stub.state, stub.members, stub.entries


def _limit(kind: int, soft: int) -> None:
    """Set a limit of this process if the system allows it."""
    hard = resource.getrlimit(kind)[1]
    try:
        resource.setrlimit(kind, (soft if hard < 0 else min(soft, hard), hard))
    except (ValueError, OSError):  # macOS has no limit of the address space
        pass


def _address_space() -> int:
    """Bytes of address space in use; 2**40 where unknown, so that no limit holds."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[0]) * resource.getpagesize() if path.exists() else 2**40


if __name__ == "__main__":
    main()
