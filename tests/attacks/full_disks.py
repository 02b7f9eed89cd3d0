"""Gives every command that writes a disk that is too small, then room, and gives it again.

    python tests/attacks/full_disks.py [--small] [COMMAND ...]

The folder of an attempt is a tmpfs: too small from the start, or filled up before a chosen event.
What the second run leaves must be that of an undisturbed run, byte for byte.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arena import Arena, arena
from commands import COMMANDS, STAGES, Command
from kills import GOOD, Undisturbed, choose, judge, last_line, run_undisturbed
from processes import UNCAUGHT, Ended
from report import print_table, show_progress, write_record
from tracing import Stop

PAGE = 4096
ROOM = 256_000_000
SHARES = (0.05, 0.5, 0.97)  # of what a command leaves
SPARE_PAGES = (0, 2)  # left of a disk that fills up
WRITERS = ("build", "import", "sparsify", "finetune", "train", "sample")
BALLAST = "ballast"


@dataclass(frozen=True)
class FullDisk:
    """One full disk and what came of it.

    Attributes:
        command: the subcommand.
        disk: how it was full.
        stage: in which the command ended.
        first: how it ended: "clear" (one line that speaks of the disk), "unclear", "traceback",
            "crash", or "done", where the room sufficed.
        outcome: of the second run, as of kills.
        detail: what is wrong.
    """

    command: str
    disk: str
    stage: str
    first: str
    outcome: str
    detail: str = ""


def may_mount(folder: Path) -> str:
    """Why no disk can be mounted; "" if one can."""
    (folder / "probe").mkdir()
    try:
        with disk(folder / "probe", ROOM):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"needs the right to mount a tmpfs: {error}"


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A small disk at a folder; gives a function that changes its size."""

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    mount(f"size={size}")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        _unmount(folder)


def _unmount(folder: Path, patience: float = 20.0) -> None:
    """Unmount a disk; a helper process of a command that has just ended may still leave it."""
    end = time.monotonic() + patience
    while subprocess.run(["umount", folder], check=time.monotonic() > end).returncode:
        time.sleep(0.1)


def fill(folder: Path, spare: int) -> None:
    """Take all room of a disk but some bytes."""
    path = folder / BALLAST
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize - spare
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), max(0, free))
        if free > 0:
            os.posix_fallocate(file.fileno(), 0, free)


def attack(place: Arena, command: Command, small: bool) -> Iterator[FullDisk]:
    """All full disks of a command."""
    normal = run_undisturbed(place, command, overwrite=False)
    size = sum(path.stat().st_size for path in (place.folder / "attempt").rglob("*"))
    for share in SHARES[:1] if small else SHARES:
        yield starve(place, command, normal, f"{share:.0%} of the room", int(size * share), None)
    for stage in STAGES[:1] if small else STAGES:
        for spare in SPARE_PAGES:
            for at in choose(normal, stage, 1):
                stop = normal.stop(at)
                words = f"{spare} pages left before {stop.event} {stop.occurrence}"
                yield starve(place, command, normal, words, spare * PAGE, stop)


def starve(
    place: Arena, command: Command, normal: Undisturbed, words: str, size: int, stop: Stop | None
) -> FullDisk:
    """Give a command too little room: from the start, or when an event comes."""
    attempt = place.fresh(command)
    line = command.line(place.inputs)
    with disk(attempt, max(PAGE, size) if stop is None else ROOM) as resize:
        if stop is not None:
            stop = Stop(stop.event, stop.occurrence, lambda: fill(attempt, size))
        ended, events = place.run(line, attempt, stop)
        stage, first = normal.stage_after(events), _first(ended)
        (attempt / BALLAST).unlink(missing_ok=True)
        resize(ROOM)
        if first == "done":
            outcome, detail = judge(place, command, attempt, normal, ended)
            return FullDisk(command.name, words, stage, first, outcome, detail)
        complaint = "" if first == "clear" else last_line(ended)
        ended, _ = place.run(line, attempt)
        outcome, detail = judge(place, command, attempt, normal, ended)
    return FullDisk(command.name, words, stage, first, outcome, detail or complaint)


def _first(ended: Ended) -> str:
    """How a command ended that had too little room."""
    if ended.signal is not None:
        return "crash"
    if ended.status == UNCAUGHT:
        return "traceback"
    if ended.status == 0:
        return "done"
    words = ("space", "room", "disk")
    return "clear" if any(word in last_line(ended) for word in words) else "unclear"


def count_disks(disks: Sequence[FullDisk]) -> list[dict[str, object]]:
    """How commands ended on a full disk, and how often they went on, by command."""
    rows = []
    for name in dict.fromkeys(disk.command for disk in disks):
        own = [disk for disk in disks if disk.command == name]
        full = [disk for disk in own if disk.first != "done"]
        row: dict[str, object] = {"command": name, "full": len(full)}
        row |= {stage: sum(disk.stage == stage for disk in full) for stage in STAGES}
        row |= {"clear": sum(disk.first == "clear" for disk in full)}
        row |= {"went on": f"{sum(disk.outcome in GOOD for disk in full)} of {len(full)}"}
        others = Counter(disk.outcome for disk in own if disk.outcome not in GOOD)
        others += Counter(disk.first for disk in full if disk.first != "clear")
        rows.append(row | {"else": ", ".join(f"{n} {what}" for what, n in others.items())})
    return rows


def main() -> int:
    """Attack the commands named, or all that write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    parser.add_argument("--small", action="store_true", help="a few disks for a build")
    options = parser.parse_args()
    names = options.commands or (["build"] if options.small else WRITERS)
    disks: list[FullDisk] = []
    with arena() as place:
        place.make_inputs(names)
        if reason := may_mount(place.folder):
            print(f"skipped: {reason}")
            return 0
        for command in COMMANDS:
            if command.name in names:
                for one in attack(place, command, options.small):
                    disks.append(one)
                    show_progress(len(disks), one.command, f"{one.first}, {one.outcome}")
    print_table(counts := count_disks(disks))
    bad = [
        disk for disk in disks if disk.outcome not in GOOD or disk.first not in ("clear", "done")
    ]
    for one in bad:
        print(f"{one.command}, {one.disk}, {one.stage}: {one.first}, {one.outcome}: {one.detail}")
    write_record("full_disks", counts, disks)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
