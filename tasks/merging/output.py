"""The folder of a merge: written under a temporary name, renamed when whole, resumable.

A merge lives in `<out>.partial` with the settings it was started with and a journal of the tensors
that are on the disk; a second start with the same settings goes on after the last of these.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...zoos.disk import write_whole
from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text

MERGE_NAME = "merge.json"
_STATE, _JOURNAL, _LOCK = "merge-state.json", "merge-done.txt", "merge-lock"


@contextmanager
def merge_folder(out: Path, state: Mapping[str, Any], overwrite: bool) -> Iterator[Path]:
    """Hold `<out>.partial` for one merge; on success rename it to `out`.

    Args:
        out: the folder to make.
        state: what the result depends on; a merge that was begun with another is not continued.
        overwrite: replace an earlier merge at `out`, and discard an unfinished one.

    Raises:
        MergeError: if `out` is taken, or another merge is in the way or at work.
    """
    _check_target(out, overwrite)
    folder = out.with_name(out.name + ".partial")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MergeError(f"another merge is writing {out}: wait for it to end") from error
        _begin(folder, state, overwrite)
        yield folder
        for name in (_STATE, _JOURNAL, _LOCK):
            (folder / name).unlink(missing_ok=True)
        _replace(folder, out)


class Journal:
    """Names of what is whole on the disk, one a line."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier start left; a line that a kill cut off does not count."""
        self._path = folder / _JOURNAL
        text = self._path.read_text() if self._path.exists() else ""
        lines = text.split("\n")[:-1]
        self.done = {name: data for name, data in map(json.loads, lines)}
        self._path.write_text("".join(json_text([n, d]) + "\n" for n, d in self.done.items()))

    def add(self, entries: Mapping[str, Any]) -> None:
        """Vouch for some names, with a note on each; what they name must be synced before."""
        with self._path.open("a") as file:
            file.write("".join(json_text([name, data]) + "\n" for name, data in entries.items()))
            file.flush()
            os.fsync(file.fileno())
        self.done |= entries


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Args:
        path: path of the file.
        text: contents of the file.
    """
    write_whole(path, text.encode())


def check_room(out: Path, size_bytes: int) -> None:
    """Refuse to start where the disk has no room.

    Args:
        out: folder that the output is written to.
        size_bytes: planned bytes.

    Raises:
        MergeError: if the disk has less room; the message holds both figures.
    """
    folder = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    begun = out.with_name(out.name + ".partial")
    held = sum(file.stat().st_blocks * 512 for file in begun.glob("*")) if begun.is_dir() else 0
    free = shutil.disk_usage(folder).free + held
    if size_bytes > free:
        raise MergeError(
            f"the merge takes {size_bytes:,} bytes and {folder} has room for {free:,}: free some, "
            "or choose another --out"
        )


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise MergeError(f"{out} exists: choose another --out, or replace it with --overwrite")
    if not (out / MERGE_NAME).is_file():
        raise MergeError(f"{out} is no merge (it has no {MERGE_NAME}): it is not overwritten")


def _begin(folder: Path, state: Mapping[str, Any], overwrite: bool) -> None:
    path, text = folder / _STATE, json_text(dict(state), sort_keys=True)
    if path.exists() and path.read_text() == text:
        return
    if path.exists() and not overwrite:
        raise MergeError(
            f"{folder} holds an unfinished merge of other members or settings: finish it with "
            "these, delete the folder, or pass --overwrite"
        )
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            entry.unlink()
    write_text(path, text)


def _replace(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`; an old `out` goes away only after that."""
    old = out.with_name(out.name + ".old")
    if out.exists():
        os.rename(out, old)
    os.rename(folder, out)
    if old.exists():
        shutil.rmtree(old)
