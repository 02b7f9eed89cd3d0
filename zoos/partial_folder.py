"""Holds `<out>.partial`, the folder of an unfinished zoo, for one command at a time.

A command passes through four stages. After a kill in any of them the same command continues:

- planning: `partial.json` names the command; files are created with space for every row.
- working: `plan.json` exists; rows are written, and journals list the rows that are complete.
- finishing: `provenance.json` exists; finished files appear in the folder `finished`.
- renaming: `whole` exists; an old `out` becomes `replaced`, and `finished` becomes `out`.

Everything of an unfinished zoo lies in this one folder, and its lock is held until the end.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import sync, sync_tree, write_whole
from .errors import BuildError, FolderBusyError
from .folder_identity import (
    IDENTITY_NAME,
    LOCK_NAME,
    Identity,
    check_discardable,
    earlier_work,
    read_json,
)
from .index import INDEX_NAME
from .strict_json import json_text

PLAN_NAME, PROVENANCE_NAME, WHOLE_NAME = "plan.json", "provenance.json", "whole"
FINISHED_NAME, REPLACED_NAME, SCRATCH_NAME = "finished", "replaced", "scratch"
REPORT_NAME = "import_report.json"  # beside the zoos of a collection
STAGES = ("planning", "working", "finishing", "renaming")


@dataclass(frozen=True)
class PartialFolder:
    """The folder of an unfinished zoo; it can be pickled, so that workers write through it.

    Attributes:
        path: path of the folder, `<out>.partial`.
    """

    path: Path

    @property
    def out(self) -> Path:
        """The zoo folder that it becomes."""
        return self.path.with_name(self.path.name.removesuffix(".partial"))

    @property
    def finished(self) -> Path:
        """The folder of the finished files, which is renamed to `out`."""
        return self.path / FINISHED_NAME

    @property
    def stage(self) -> str:
        """The stage that the command has reached, one of `STAGES`."""
        if self._is_whole:
            return "renaming"
        notes = [(self.path / name).exists() for name in (PLAN_NAME, PROVENANCE_NAME)]
        return STAGES[notes.index(False)] if not all(notes) else "finishing"

    @property
    def is_done(self) -> bool:
        """Whether the zoo is at `out` already, because a kill came after the renaming."""
        return self._is_renamed and self.out.exists()

    @property
    def _is_whole(self) -> bool:
        return (self.path / WHOLE_NAME).exists()

    @property
    def _is_renamed(self) -> bool:
        return self._is_whole and not self.finished.exists()

    def claim(self, identity: Identity, overwrite: bool) -> None:
        """Claim the folder for a command, and resume the renaming if a kill interrupted it.

        Args:
            identity: command that needs the folder.
            overwrite: replace a zoo at `out`, and discard another command's unfinished work.

        Raises:
            BuildError: if `out` is taken, or another command's work is in the folder.
        """
        work = earlier_work(self.path)
        is_same = work is not None and work.is_same(identity)
        if self._is_renamed:
            if is_same and self.is_done:
                return
            _delete(self.path / REPLACED_NAME)  # the zoo that took its place was at `out`
            self._empty()
            work, is_same = None, False
        check_target(self.out, overwrite)
        if not is_same:
            check_discardable(self.path, self.out, identity, overwrite)
            self._empty()
        if work is None or not is_same or work.is_older:
            if work is not None and is_same:
                self.set_planned(work.plan)
            identity.write(self.path)
        if self._is_whole:
            self._rename()

    def is_planned(
        self, plan: Mapping[str, Any], overwrite: bool = False, keep: Sequence[str] = ()
    ) -> bool:
        """Whether an earlier run created the files of this plan; otherwise empty the folder.

        Args:
            plan: plain data that names the files and the rows they hold.
            overwrite: whether files of another plan may be discarded.
            keep: names of further entries that stay in the folder.

        Raises:
            BuildError: if there are files of another plan that may not be discarded.
        """
        earlier = read_json(self.path / PLAN_NAME)
        if isinstance(earlier, dict):
            now = json.loads(json_text(dict(plan)))
            odd = sorted(key for key in earlier if earlier[key] != now.get(key))
            if not odd:
                return True
            if not overwrite:
                raise BuildError(
                    f"{self.path} holds an unfinished zoo that differs in {odd}: its sources have "
                    "changed; delete the folder, or pass --overwrite to start anew"
                )
        self._empty(keep=(IDENTITY_NAME, *keep))
        return False

    def set_planned(self, plan: Mapping[str, Any]) -> None:
        """Record that all files exist, with space for every row."""
        write_whole(self.path / PLAN_NAME, json_text(dict(plan)).encode())

    def forget_plan(self) -> None:
        """Record that there is no work to continue, so that an error removes the folder."""
        (self.path / PLAN_NAME).unlink(missing_ok=True)

    def start_finishing(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Fix the zoo's provenance once all rows are written.

        Returns:
            Provenance of the run that finished the first file, so that all files hold the same.
        """
        self.finished.mkdir(exist_ok=True)
        path = self.path / PROVENANCE_NAME
        if not path.exists():
            write_whole(path, json_text(dict(provenance)).encode())
        return dict(json.loads(path.read_text()))

    def publish(self) -> None:
        """Rename the finished folder to `out` and remove everything else."""
        if not self.is_done:
            sync_tree(self.finished)
            write_whole(self.path / WHOLE_NAME, b"")
            self._rename()
        self._remove()

    def abandon(self) -> None:
        """Remove the folder, unless it holds work to continue."""
        if not self._is_whole and not (self.path / PLAN_NAME).exists():
            self._empty()
            self._remove()

    def _rename(self) -> None:
        """Replace `out` by `finished`; after a kill in between, both are in this folder."""
        replaced = self.path / REPLACED_NAME
        if self.out.exists():
            _delete(replaced)
            os.rename(self.out, replaced)
        os.rename(self.finished, self.out)
        sync(self.out.parent)

    def _empty(self, keep: Sequence[str] = ()) -> None:
        """Discard the contents; after a kill in between, a command starts with a new plan."""
        replaced = self.path / REPLACED_NAME
        if replaced.exists() and not self.out.exists():
            os.rename(replaced, self.out)  # the zoo that would have replaced it is discarded
        for name in (WHOLE_NAME, PLAN_NAME):
            _delete(self.path / name)
        sync(self.path)
        self._delete_all_but((*keep, IDENTITY_NAME, LOCK_NAME))
        if IDENTITY_NAME not in keep:
            _delete(self.path / IDENTITY_NAME)

    def _remove(self) -> None:
        """Remove the folder; the marks of a whole zoo go last, before the lock."""
        self._delete_all_but((IDENTITY_NAME, WHOLE_NAME, LOCK_NAME))
        for name in (IDENTITY_NAME, WHOLE_NAME, LOCK_NAME):
            _delete(self.path / name)
        with suppress(OSError):  # another command has claimed the folder
            self.path.rmdir()

    def _delete_all_but(self, names: Sequence[str]) -> None:
        for entry in list(self.path.iterdir()):
            if entry.name not in names:
                _delete(entry)


@contextmanager
def partial_folder(
    out: Path, identity: Identity, overwrite: bool = False
) -> Iterator[PartialFolder]:
    """Hold `<out>.partial` for one command; on success its finished folder becomes `out`.

    The caller works inside the context, unless the folder `is_done`. After an error or a kill the
    folder stays if it holds rows to continue with.

    Args:
        out: zoo folder to create.
        identity: command that creates it, compared with earlier work before any new work.
        overwrite: whether to replace a zoo at `out` and discard another command's unfinished work.

    Raises:
        BuildError: if `out` exists and may not be replaced, another command is writing it, or the
            folder holds other work or other files.
    """
    held = _partial_of(out)
    if not held.path.exists():
        check_target(held.out, overwrite)  # before a folder is created
    with _locked(held):
        try:
            held.claim(identity, overwrite)
        except BaseException:
            _remove_if_unused(held.path)
            raise
        try:
            yield held
        except BaseException:
            held.abandon()
            raise
        held.publish()


def check_target(out: Path, overwrite: bool) -> None:
    """Reject a target that exists and may not be replaced.

    Args:
        out: zoo folder to create.
        overwrite: whether to replace an existing zoo.

    Raises:
        BuildError: if it exists and `overwrite` is false, or it is not a zoo folder.
    """
    if not out.exists():
        return
    if not overwrite:
        raise BuildError(
            f"{out} exists: choose another --out, or replace it with --overwrite (in Python "
            "overwrite=True)"
        )
    if not (out / INDEX_NAME).is_file() and not (out.is_dir() and _is_collection(out)):
        raise BuildError(
            f"{out} is not overwritten: it is neither a zoo folder (it has no {INDEX_NAME}) nor a "
            "folder of zoos only; choose another --out"
        )


def _partial_of(out: Path) -> PartialFolder:
    if out.name in ("", ".."):
        raise BuildError(f"{str(out)!r} does not name a new folder: choose another --out")
    out = out.resolve() if out.is_symlink() else out  # the target of the link is replaced
    return PartialFolder(out.with_name(out.name + ".partial"))


@contextmanager
def _locked(held: PartialFolder) -> Iterator[None]:
    """Hold the lock; child processes do not inherit it."""
    handle = None
    while handle is None:
        held.path.mkdir(parents=True, exist_ok=True)
        handle = _lock(held.path / LOCK_NAME, held.out)
    try:
        yield
    finally:
        os.close(handle)


def _lock(path: Path, out: Path) -> int | None:
    """An open lock, or None if another command ended and removed it in the meantime."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except FileNotFoundError:
        pass
    except BlockingIOError as error:
        os.close(handle)
        raise FolderBusyError(f"another command is writing {out}: wait until it ends") from error
    os.close(handle)
    return None


def _remove_if_unused(folder: Path) -> None:
    """Remove a partial folder that holds only a lock."""
    if [entry.name for entry in folder.iterdir()] == [LOCK_NAME]:
        (folder / LOCK_NAME).unlink()
        with suppress(OSError):
            folder.rmdir()


def _is_collection(folder: Path) -> bool:
    """Whether a folder holds only zoos and, if any, the report of their import and a card."""
    entries = [path for path in folder.iterdir() if path.name not in (REPORT_NAME, "README.md")]
    return bool(entries) and all((path / INDEX_NAME).is_file() for path in entries)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
