"""Notes what a process does to files and sockets, and can end it at a chosen one of these events.

An event is a line: what is done, and the last part of the name that it is done to. Lines go
straight to a file, so that they outlive the process. Files outside the watched folder are not
noted, or every import would be an event.
"""

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUDITED = {
    "open": "open",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.symlink": "symlink",
    "os.link": "link",
    "os.truncate": "truncate",
    "shutil.rmtree": "rmtree",
}
_VARYING = re.compile(  # names of temporary files, commits
    r"(?<=\.)[\w-]+(?=\.tmp$)|(?<=\.)[\w-]+(?=\.incomplete$)|(?<=^tmp)[\w-]{8,}$|\b[0-9a-f]{40}\b"
)


@dataclass(frozen=True)
class Stop:
    """The event before which something happens to the process.

    Attributes:
        event: its line.
        occurrence: which of the equal lines, from 1.
        action: what happens; None is SIGKILL.
    """

    event: str
    occurrence: int
    action: Callable[[], None] | None = None


class Trace:
    """Installs hooks in this process, for good: meant for a forked child."""

    def __init__(self, log: Path, watched: Path, stop: Stop | None = None) -> None:
        """Note events in a log.

        Args:
            log: file to append lines to.
            watched: folder whose files are of interest.
            stop: event to act on; None only notes.
        """
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._watched = f"{os.path.realpath(watched)}/"
        self._stop, self._seen, self._busy = stop, 0, False

    def install(self) -> None:
        """Start to note."""
        sys.addaudithook(self._audit)
        for name in ("rename", "replace"):
            setattr(os, name, self._around_rename(getattr(os, name)))
        for name in ("fsync", "pwrite", "posix_fallocate", "copy_file_range"):
            setattr(os, name, self._before(getattr(os, name), name, _descriptor_name))
        self._install_in_libraries()

    def note(self, event: str) -> None:
        """Write down an event, and act if it is the chosen one."""
        stop = self._stop
        if stop is not None and stop.event == event:
            self._seen += 1
            if self._seen == stop.occurrence:
                self._act(stop)
        os.write(self._log, f"{event}\n".encode())

    def _act(self, stop: Stop) -> None:
        if stop.action is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self._busy = True
            stop.action()
            self._busy = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy or event not in AUDITED or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(arguments[event == "os.symlink"])
        if path.startswith(self._watched):
            word = AUDITED[event]
            if event == "open":
                writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                word = "write" if writes else "read"
            self.note(f"{word} {last(path)}")

    def _before(self, function: Any, word: str, name: Callable[..., str | None]) -> Any:
        """A function that notes before it does what it did."""

        def noting(*arguments: Any, **keywords: Any) -> Any:
            said = None if self._busy else name(*arguments)
            if said is not None:
                self.note(f"{word} {said}".strip())
            return function(*arguments, **keywords)

        return noting

    def _around_rename(self, function: Any) -> Any:
        """The same with a note before and after: what was renamed cannot be told from outside."""

        def noting(source: Any, target: Any, **keywords: Any) -> None:
            self.note(f"rename {last(target)}")
            function(source, target, **keywords)
            self.note(f"renamed {last(target)}")

        return noting

    def _install_in_libraries(self) -> None:
        """What HDF5, torch and sockets do in C."""
        import h5py
        import safetensors.torch
        import torch

        for kind, method, word, name in (
            (h5py.File, "__init__", "hdf5", _opening),
            (h5py.File, "close", "hdf5 close", lambda file: last(file.filename) if file else None),
            (h5py.Dataset, "__setitem__", "hdf5 column", lambda dataset, *_: last(dataset.name)),
            (h5py.AttributeManager, "__setitem__", "hdf5 attribute", lambda _, key, value: key),
            (torch, "save", "torch.save", lambda _, file: _file_name(file)),
            (safetensors.torch, "save_file", "save_file", lambda _, path: last(path)),
            (socket.socket, "sendall", "send", _request_line),
            (socket.socket, "send", "send", _request_line),
            (socket.socket, "recv", "receive", lambda *_: ""),
        ):
            setattr(kind, method, self._before(getattr(kind, method), word, name))


def read_events(log: Path) -> list[str]:
    """The lines of a log."""
    return log.read_text().splitlines() if log.exists() else []


def last(path: Any) -> str:
    """The last part of a path, without what differs from run to run."""
    return _VARYING.sub("*", os.fspath(path).rstrip("/").rpartition("/")[2])


def _opening(_: Any, path: Any, mode: str = "r", *rest: Any, **keywords: Any) -> str | None:
    """Mode and name of an HDF5 file; None for a handle on one that is open."""
    return f"{mode} {last(path)}" if isinstance(path, str | os.PathLike) else None


def _file_name(file: Any) -> str | None:
    """Name of a file that something is saved to; None for memory."""
    return last(file) if isinstance(file, str | os.PathLike) else None


def _descriptor_name(handle: Any, *_: Any) -> str:
    """The name of an open file."""
    try:
        number = handle if isinstance(handle, int) else handle.fileno()
        return last(os.readlink(f"/proc/self/fd/{number}").removesuffix(" (deleted)"))
    except OSError:
        return "?"


def _request_line(_: Any, data: Any, *rest: Any) -> str:
    """Method and path of an HTTP request; nothing for a body."""
    words = bytes(data[:400]).split(b"\r\n", 1)[0].decode("latin1").split(" ")
    if len(words) == 3 and words[2].startswith("HTTP/"):
        return f"{words[0]} {_VARYING.sub('*', words[1].split('?')[0])}"
    return "body"
