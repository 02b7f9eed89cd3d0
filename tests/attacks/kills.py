"""Kills every command in every stage and gives it again.

    python tests/attacks/kills.py [--small] [COMMAND ...]

An undisturbed run lists the events of a command. Then it is killed before chosen ones, and at
random times, and given again; what it leaves must be that of the undisturbed run, byte for byte.
"""

import argparse
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from arena import Arena, arena
from commands import COMMANDS, OUT, STAGES, Command, Result
from processes import Ended
from report import print_table, show_progress, write_record
from tracing import Stop

IN_STAGE = 6  # kills in every stage of every command
OVER_OLD = {"planning": 1, "working": 1, "finishing": 2, "renaming": 8}  # with --overwrite
AT_RANDOM = 4
WORKERS, WITH_WORKERS = ("--workers", "2"), 4  # kills of a build whose workers outlive it
GOOD = ("resumed", "complete")


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        command: the subcommand.
        overwrite: whether it was to replace a zoo.
        stage: in which it was killed.
        event: before which; "at random" after some seconds.
        outcome: "resumed", "complete" (it was, and is refused as that), "lost", "hang",
            "unequal", "done again", "not killed".
        detail: what is wrong.
    """

    command: str
    overwrite: bool
    stage: str
    event: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Undisturbed:
    """What a command does and leaves when nothing happens to it."""

    events: tuple[str, ...]
    stages: tuple[str, ...]
    result: Result
    seconds: float

    def stop(self, place: int) -> Stop:
        """A stop before the event at a place."""
        event = self.events[place]
        return Stop(event, self.events[: place + 1].count(event))

    def stage_after(self, events: Sequence[str]) -> str:
        """The stage that a killed run was in."""
        if not events:
            return "planning"
        occurrence = events.count(events[-1])
        places = [place for place, event in enumerate(self.events) if event == events[-1]]
        return self.stages[places[min(occurrence, len(places)) - 1]] if places else "unknown"


def run_undisturbed(
    place: Arena, command: Command, overwrite: bool, more: Sequence[str] = ()
) -> Undisturbed:
    """The run that all others are compared with.

    Args:
        place: where it runs.
        command: what runs.
        overwrite: whether it replaces a zoo.
        more: further arguments; with several workers the parent does not see all events.

    Raises:
        RuntimeError: if it fails.
    """
    attempt = place.fresh(command, place.inputs / "parents" if overwrite else None)
    started = time.perf_counter()
    ended, events = place.run([*command.line(place.inputs, overwrite), *more], attempt)
    seconds = time.perf_counter() - started
    if ended.status != 0:
        raise RuntimeError(f"{command.name} fails undisturbed: {ended.output}")
    stages = command.stages(events) if not more else _stages_of_parent(events)
    return Undisturbed(tuple(events), tuple(stages), place.result(command, attempt), seconds)


def _stages_of_parent(events: Sequence[str]) -> list[str]:
    """Stages of a build whose workers do what the events of work are told from."""
    bounds = [events.index(event) for event in ("renamed plan.json", f"rename {OUT}")]
    finishing = next(at for at, event in enumerate(events) if event.startswith("read cohort-"))
    bounds.insert(1, finishing)
    return [STAGES[sum(at >= bound for bound in bounds)] for at in range(len(events))]


def choose(normal: Undisturbed, stage: str, count: int) -> list[int]:
    """Places of events of a stage, evenly spread; all if it has no more."""
    places = [place for place, name in enumerate(normal.stages) if name == stage]
    if count < 2 or len(places) <= count:
        return places if len(places) <= count else places[len(places) // 2 :][:1]
    return [places[step * (len(places) - 1) // (count - 1)] for step in range(count)]


def attack(place: Arena, command: Command, small: bool) -> Iterator[Kill]:
    """All kills of a command."""
    for overwrite in (False, True) if command.replaces and not small else (False,):
        normal = run_undisturbed(place, command, overwrite)
        plan = Plan(place, command, normal, overwrite)
        for stage in STAGES:
            count = 1 if small else OVER_OLD[stage] if overwrite else IN_STAGE
            for at in choose(normal, stage, count):
                yield plan.kill(normal.stop(at), normal.stages[at])
        if not small and not overwrite:
            yield from plan.kill_at_random(AT_RANDOM)
    if command.name == "build" and not small:
        normal = run_undisturbed(place, command, False, WORKERS)
        yield from Plan(place, command, normal, False, WORKERS).kill_at_random(WITH_WORKERS)


@dataclass(frozen=True)
class Plan:
    """How a command is given, killed and given again."""

    place: Arena
    command: Command
    normal: Undisturbed
    overwrite: bool
    more: tuple[str, ...] = ()

    def kill_at_random(self, count: int) -> Iterator[Kill]:
        """Kill after random parts of the time that the command takes."""
        draw = random.Random(f"{self.command.name} {self.more}")
        for _ in range(count):
            yield self.kill(draw.random() * self.normal.seconds)

    def kill(self, when: Stop | float, stage: str | None = None) -> Kill:
        """Kill the command before an event or after some seconds, and give it again."""
        attempt = self.place.fresh(self.command, self._old())
        line = [*self.command.line(self.place.inputs, self.overwrite), *self.more]
        ended, before = self.place.run(line, attempt, when)
        said = f"{when.event} {when.occurrence}" if isinstance(when, Stop) else "at random"
        said = f"{said} {' '.join(self.more)}".strip()
        killed = Kill(
            self.command.name, self.overwrite, stage or self.normal.stage_after(before), said, ""
        )
        if ended.signal != signal.SIGKILL:
            return replace(killed, outcome="not killed", detail=last_line(ended))
        unfinished = (attempt / "out.partial").exists() or not self.command.replaces
        held = self.place.hub("held") if self.command.name == "push" else _held(before)
        ended, after = self.place.run(line, attempt)
        outcome, detail = judge(self.place, self.command, attempt, self.normal, ended)
        if outcome == "resumed" and unfinished:
            again = redone(self.command, self.normal.events, before, after, held)
            outcome, detail = ("done again", again) if again else (outcome, detail)
        return replace(killed, outcome=outcome, detail=detail)

    def _old(self) -> Path | None:
        """The zoo that the command replaces."""
        return self.place.inputs / "parents" if self.overwrite else None


def redone(
    command: Command,
    normal: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    held: Sequence[str],
) -> str:
    """What was done again though something vouched for it; "" if nothing was."""
    if command.unit is None:
        return ""
    units = [[event for event in run if re.search(command.unit, event)] for run in (before, after)]
    if command.name in ("push", "pull"):
        twice = [event for event in units[1] if event.rpartition("/")[2] in held]
        return f"transferred again: {twice}" if twice else ""
    whole = sum(re.search(command.unit, event) is not None for event in normal)
    more = len(units[0]) + len(units[1]) - whole
    return f"{more} of {whole} pieces of work" if more > 0 else ""


def _held(events: Sequence[str]) -> list[str]:
    """Names of the files that were renamed in a killed run."""
    return [event.removeprefix("renamed ") for event in events if event.startswith("renamed ")]


def judge(
    place: Arena, command: Command, attempt: Path, normal: Undisturbed, ended: Ended
) -> tuple[str, str]:
    """Outcome and detail of the second run."""
    if ended.signal is not None:
        return "hang", signal.Signals(ended.signal).name
    refused = ended.status != 0
    if refused and "exists: choose another" not in ended.output:
        return "lost", last_line(ended)
    try:
        result = place.result(command, attempt)
    except Exception as error:
        return "unequal", f"{type(error).__name__}: {error}"
    odd = sorted({*result.items()} ^ {*normal.result.items()})
    if odd:
        return "unequal", f"{sorted({name for name, _ in odd})[:5]}"
    return ("complete" if refused else "resumed"), ""


def last_line(ended: Ended) -> str:
    lines = ended.output.strip().splitlines()
    return lines[-1] if lines else f"exit status {ended.status}"


def count_kills(kills: Sequence[Kill]) -> list[dict[str, object]]:
    """Kills, and those of them that were survived, by command and stage."""
    rows = []
    for name in dict.fromkeys(kill.command for kill in kills):
        own = [kill for kill in kills if kill.command == name and kill.outcome != "not killed"]
        row: dict[str, object] = {"command": name}
        for stage in STAGES:
            those = [kill for kill in own if kill.stage == stage]
            row[stage] = f"{sum(kill.outcome in GOOD for kill in those)} of {len(those)}"
        outcomes = Counter(kill.outcome for kill in own if kill.outcome not in GOOD)
        row |= {"survived": f"{sum(kill.outcome in GOOD for kill in own)} of {len(own)}"}
        rows.append(row | {"else": ", ".join(f"{n} {what}" for what, n in outcomes.items())})
    return rows


def main() -> int:
    """Attack the commands named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    parser.add_argument("--small", action="store_true", help="a kill in every stage of a build")
    options = parser.parse_args()
    names = options.commands or (["build"] if options.small else [c.name for c in COMMANDS])
    kills: list[Kill] = []
    with arena() as place:
        place.make_inputs(names)
        for command in COMMANDS:
            if command.name in names:
                for one in attack(place, command, options.small):
                    kills.append(one)
                    show_progress(len(kills), one.command, one.outcome)
    print_table(counts := count_kills(kills))
    for (name, detail), number in Counter(
        (kill.command, f"{kill.outcome}, {re.sub('[0-9]+', '#', kill.detail)}")
        for kill in kills
        if kill.outcome not in GOOD
    ).items():
        print(f"{number} of {name}: {detail}")
    write_record("kills", counts, kills)
    return int(any(kill.outcome not in GOOD for kill in kills))


if __name__ == "__main__":
    sys.exit(main())
