"""Identifies the command whose work is in the folder of an unfinished zoo."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .disk import write_whole
from .errors import BuildError
from .index import INDEX_NAME
from .strict_json import json_text

IDENTITY_NAME, LOCK_NAME = "partial.json", "lock"
# Older versions wrote settings and plan of these commands into one file.
_OLDER_COMMANDS = {"build.json": ("build", "finetune", "sparsify"), "import.json": ("import",)}
_OLDER_PLAN = ("files", "plan")
_OWN_FOLDERS = ("finished", "replaced", "scratch")
_OWN_FILES = (
    *("*.h5", "*.tmp", "cohort-*.npz", "import.jsonl", "token", "whole", "README.md"),
    *("build.json", "import.json", "partial.json", "plan.json", "provenance.json", "zoo.json"),
    *("lock", "import_report.json"),
)
_SHOWN = 5
_TODO = "delete the folder, or pass --overwrite to start anew"


@dataclass(frozen=True)
class Identity:
    """A command that writes a zoo folder, with its source and settings.

    Attributes:
        command: name of the command, such as "build".
        source: name of the recipe, zoo or file that it starts from, for messages.
        settings: plain data that determines the result.
    """

    command: str
    source: str
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data, equal to what is read back."""
        data = {"command": self.command, "source": self.source, "settings": dict(self.settings)}
        return dict(json.loads(json_text(data)))

    def write(self, folder: Path) -> None:
        """Record in a folder that this command works in it."""
        write_whole(folder / IDENTITY_NAME, json_text(self.to_json()).encode())


@dataclass(frozen=True)
class EarlierWork:
    """The record that an earlier run left in its folder.

    Attributes:
        note: name of the file that holds the record.
        commands: commands that may have written it; older versions did not record which.
        source: name of the recipe, zoo or file that it started from.
        settings: plain data that determines the result.
        plan: plan that an older version recorded here.
    """

    note: str
    commands: tuple[str, ...]
    source: str
    settings: dict[str, Any]
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def is_older(self) -> bool:
        """Whether an older version wrote it."""
        return self.note != IDENTITY_NAME

    def is_same(self, identity: Identity) -> bool:
        """Whether a command would continue this work."""
        return identity.command in self.commands and not self._odd(identity)

    def difference(self, identity: Identity) -> str:
        """A phrase that says how a command differs from the one that left this work."""
        if identity.command not in self.commands:
            return f"not of the command {identity.command!r}"
        now = identity.to_json()["settings"]
        odd = [
            _difference(key, self.settings.get(key), now.get(key)) for key in self._odd(identity)
        ]
        return f"that differs in {', '.join(odd)}"

    def _odd(self, identity: Identity) -> list[str]:
        """Names of the settings that differ; older versions recorded fewer of them."""
        now = identity.to_json()["settings"]
        names = self.settings.keys() | (set() if self.is_older else now.keys())
        return sorted(name for name in names if self.settings.get(name) != now.get(name))


def earlier_work(folder: Path) -> EarlierWork | None:
    """The record of an earlier run in a folder; None if there is none or it cannot be read."""
    data = read_json(folder / IDENTITY_NAME)
    if isinstance(data, dict) and isinstance(data.get("settings"), dict):
        command, source = str(data.get("command")), str(data.get("source"))
        return EarlierWork(IDENTITY_NAME, (command,), source, data["settings"])
    for note, commands in _OLDER_COMMANDS.items():
        data = read_json(folder / note)
        if isinstance(data, dict):
            plan = {key: data.pop(key) for key in _OLDER_PLAN if key in data}
            recipe = data.get("recipe")
            made_from = recipe.get("name") if isinstance(recipe, dict) else data.get("source")
            return EarlierWork(note, commands, str(made_from), data, plan)
    return None


def check_discardable(folder: Path, out: Path, identity: Identity, overwrite: bool) -> None:
    """Reject discarding another command's work without consent, and files of the user always.

    Args:
        folder: folder of the unfinished zoo, which is not the work of `identity`.
        out: zoo folder that it would become.
        identity: command that needs the folder.
        overwrite: whether another command's work may be discarded.

    Raises:
        BuildError: if it must not be discarded; the message names its contents.
    """
    work = earlier_work(folder)
    if work is not None and not overwrite:
        raise BuildError(
            f"{folder} holds an unfinished {work.commands[0]} of {work.source!r} "
            f"{work.difference(identity)}: finish it with its own command and settings, {_TODO}"
        )
    unused = (
        LOCK_NAME,
        f"{IDENTITY_NAME}.tmp",
    )  # files that a command leaves before it records its name
    names = sorted(entry.name for entry in folder.iterdir() if entry.name not in unused)
    if work is not None or not names:
        return
    foreign = [name for name in names if not _is_own(folder / name)]
    shown = ", ".join(map(repr, (foreign or names)[:_SHOWN]))
    if foreign:
        raise BuildError(
            f"{folder} holds {shown}, which does not belong to an unfinished zoo: move the folder "
            f"away, it is needed to write {out}"
        )
    if INDEX_NAME in names:
        raise BuildError(
            f"{folder} holds a zoo that an older weightzoo finished but did not rename: rename it "
            f"to {out}, or delete it"
        )
    if not overwrite:
        raise BuildError(
            f"{folder} holds {shown} of a command that stopped before it recorded its settings: "
            f"{_TODO}"
        )


def read_json(path: Path) -> Any:
    """The contents of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def _is_own(path: Path) -> bool:
    """Whether weightzoo uses such names for the files of an unfinished zoo."""
    if path.is_dir():
        return path.name in _OWN_FOLDERS
    return any(path.match(pattern) for pattern in _OWN_FILES)


def _difference(key: str, earlier: Any, now: Any) -> str:
    """The name of a setting, and its values if they are short."""
    short = isinstance(earlier, str | int) and isinstance(now, str | int)
    return f"{key!r} ({earlier!r}, now {now!r})" if short else repr(key)
