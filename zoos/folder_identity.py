"""Which command's work lies in the folder of an unfinished zoo, and whether it is the same one."""

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
# Older versions noted settings and plan in one file each, by the commands named here.
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
    """Which command writes a zoo folder, from what, and how.

    Attributes:
        command: name of the command, such as "build".
        source: name of the recipe, zoo or file that it starts from, for messages.
        settings: plain data that decides the result.
    """

    command: str
    source: str
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is read back."""
        data = {"command": self.command, "source": self.source, "settings": dict(self.settings)}
        return dict(json.loads(json_text(data)))

    def write(self, folder: Path) -> None:
        """Note in a folder that this command works in it."""
        write_whole(folder / IDENTITY_NAME, json_text(self.to_json()).encode())


@dataclass(frozen=True)
class EarlierWork:
    """What an earlier run noted in the folder that it left.

    Attributes:
        note: name of the file that holds it.
        commands: commands that may have written it; an older version did not say which.
        source: name of the recipe, zoo or file that it started from.
        settings: plain data that decides the result.
        plan: what an older version noted of its plan.
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
        """Whether a command would go on with this work."""
        return identity.command in self.commands and not self._odd(identity)

    def difference(self, identity: Identity) -> str:
        """How a command differs from the one that left this work, in words."""
        if identity.command not in self.commands:
            return f"not of the command {identity.command!r}"
        now = identity.to_json()["settings"]
        odd = [
            _difference(key, self.settings.get(key), now.get(key)) for key in self._odd(identity)
        ]
        return f"that differs in {', '.join(odd)}"

    def _odd(self, identity: Identity) -> list[str]:
        """Names of the settings that differ; an older version noted fewer of them."""
        now = identity.to_json()["settings"]
        names = self.settings.keys() | (set() if self.is_older else now.keys())
        return sorted(name for name in names if self.settings.get(name) != now.get(name))


def earlier_work(folder: Path) -> EarlierWork | None:
    """What an earlier run noted in a folder; None if it noted nothing that can be read."""
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
    """Refuse to discard another command's work unasked, and files of the user in any case.

    Args:
        folder: folder of the unfinished zoo, which is not the work of `identity`.
        out: zoo folder that it was to become.
        identity: command that needs the folder.
        overwrite: another command's work may be discarded.

    Raises:
        BuildError: naming what lies there, and what to do.
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
    )  # all that a command leaves before it says its name
    names = sorted(entry.name for entry in folder.iterdir() if entry.name not in unused)
    if work is not None or not names:
        return
    foreign = [name for name in names if not _is_own(folder / name)]
    shown = ", ".join(map(repr, (foreign or names)[:_SHOWN]))
    if foreign:
        raise BuildError(
            f"{folder} holds {shown}, which is not of an unfinished zoo, and is needed for one: "
            "move the folder away"
        )
    if INDEX_NAME in names:
        raise BuildError(
            f"{folder} holds a zoo that an older weightzoo finished and did not rename: rename it "
            f"to {out}, or delete it"
        )
    if not overwrite:
        raise BuildError(
            f"{folder} holds {shown} of a command that was stopped before it noted what it makes: "
            f"{_TODO}"
        )


def read_json(path: Path) -> Any:
    """What a JSON file holds; None if there is none or it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def _is_own(path: Path) -> bool:
    """Whether weightzoo gives such names to what it keeps beside an unfinished zoo."""
    if path.is_dir():
        return path.name in _OWN_FOLDERS
    return any(path.match(pattern) for pattern in _OWN_FILES)


def _difference(key: str, earlier: Any, now: Any) -> str:
    """The name of a setting, and its values if they are short."""
    short = isinstance(earlier, str | int) and isinstance(now, str | int)
    return f"{key!r} ({earlier!r}, now {now!r})" if short else repr(key)
