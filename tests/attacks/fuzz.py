"""Damages zoo files, checkpoint pickles and `zoo.json`, and reads them.

    python tests/attacks/fuzz.py [--small] [--first CASE] [flips] [pickles] [indexes]

Damage must end in a clear error, in the values that were written, or be found by
`weightzoo verify`: never in a crash, a hang, much memory, a raw traceback or wrong values.
"""

import argparse
import importlib
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import Arena, arena
from hostile_indexes import hostile_index
from hostile_pickles import MARKER, hostile_file
from processes import run_cases
from report import print_table, show_progress, write_record

CASES = {"flips": 2000, "pickles": 500, "indexes": 200}
SAMPLE = {"flips": 20, "pickles": 20, "indexes": 20}  # of --small
SECONDS, BYTES = 10.0, 1_000_000_000  # for one case
GOOD = ("clear error", "equal values", "found by verify", "imported")
NO_MEMORY = re.compile(  # HDF5's "past end of allocation" is none
    r"(un|not |n't )(able to )?allocate|MemoryError|out of memory", re.IGNORECASE
)
Judge = Callable[[int], str]


@dataclass(frozen=True)
class Case:
    """One damaged input and how reading it ended."""

    kind: str
    number: int
    verdict: str


def zoo_contents(folder: Path) -> dict[str, Any]:
    """All that a zoo says: columns, weights, header and numbers of models."""
    from weightzoo.loaders import load_zoo
    from weightzoo.zoos.index import ZooIndex

    found: dict[str, Any] = {}
    for split, dataset in load_zoo(folder).items():
        for name, column in dataset.columns.items():
            found[f"{split}:{name}"] = repr(column.tolist())
        found[f"{split}:weights"] = dataset.weights(range(len(dataset))).numpy().tobytes()
        header = dataset.header
        found[f"{split}:header"] = repr((header.recipe, header.split, header.hyper_parameters))
    index = ZooIndex.read(folder)
    return found | {"models": sum(shard.models for shard in index.shards)}


def judge_zoo(folder: Path, wanted: dict[str, Any], damaged: str | None = None) -> str:
    """How a damaged zoo reads: the words of `GOOD`, or what is wrong.

    Args:
        folder: the zoo.
        wanted: its contents before the damage.
        damaged: the file to verify without its folder too: then nothing stops before its columns.
    """
    from weightzoo.tasks.inspection.verification import verify_zoo
    from weightzoo.zoos.errors import ZooError

    try:
        verdict = "equal values" if zoo_contents(folder) == wanted else "wrong values"
    except ZooError as error:
        verdict = _error(error)
    except Exception as error:
        return _raw(error)
    passed = True
    for path in (folder, folder / damaged) if damaged else (folder,):
        try:
            passed &= all(check.passed is not False for check in verify_zoo(path, models=1))
        except ZooError as error:
            passed = False
            if (words := _error(error)) != "clear error":
                return f"verify: {words}"
        except Exception as error:
            return f"verify: {_raw(error)}"
    return "found by verify" if verdict == "wrong values" and not passed else verdict


def _error(error: Exception) -> str:
    """A clear error, unless it is one of memory, or longer than anybody reads."""
    text = str(error)
    if NO_MEMORY.search(text):
        return f"memory: {text[:200]}"
    return "clear error" if len(text) < 2_000 else f"endless message: {text[:200]}"


def _raw(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"memory: {error}"
    return f"raw traceback: {type(error).__name__}: {str(error)[:200]}"


def flips(place: Arena) -> Judge:
    """Bits and bytes of zoo files, mostly before and behind the weights."""
    from weightzoo.zoos.format import open_zoo_file

    zoo = place.inputs / "sharded"
    files = {path.name: path.read_bytes() for path in zoo.iterdir()}
    spans = {}
    for path in sorted(zoo.glob("*.h5")):
        file = open_zoo_file(path)
        spans[path.name] = (file.weights_offset, file.weights_offset + file.rows * file.width * 4)
    wanted = zoo_contents(zoo)

    def judge(case: int) -> str:
        draw = random.Random(f"flip {case}")
        name = draw.choice(list(spans))
        data = _flipped(bytearray(files[name]), spans[name], draw)
        with _written(place.folder / f"flip-{case}", files | {name: bytes(data)}) as folder:
            return judge_zoo(folder, wanted, name)

    return judge


def _flipped(data: bytearray, weights: tuple[int, int], draw: random.Random) -> bytearray:
    """Change one to four places; one case in twenty in the weights."""
    places = range(*weights)
    if draw.random() < 0.95:
        places = [*range(weights[0]), *range(weights[1], len(data))]  # type: ignore[assignment]
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = draw.choice(places)
        whole = draw.random() < 0.4
        data[place] = draw.choice((0, 255, draw.randrange(256))) if whole else data[place]
        data[place] ^= 0 if whole else 1 << draw.randrange(8)
    return data


def indexes(place: Arena) -> Judge:
    """Changes of `zoo.json`."""
    zoo = place.inputs / "sharded"
    files = {path.name: path.read_bytes() for path in zoo.iterdir()}
    wanted = zoo_contents(zoo)

    def judge(case: int) -> str:
        changed = hostile_index(files["zoo.json"].decode(), case)
        with _written(place.folder / f"index-{case}", files | {"zoo.json": changed}) as folder:
            return judge_zoo(folder, wanted)

    return judge


def pickles(place: Arena) -> Judge:
    """An import of one honest checkpoint and one from the grammar."""
    good = place.inputs / "honest"
    honest = {path.name: path.read_bytes() for path in good.iterdir()}

    def judge(case: int) -> str:
        hostile = {"hostile.pt": hostile_file(case)}
        with _written(place.folder / f"pickle-{case}", honest | hostile) as folder:
            return judge_import(folder, folder.with_name(f"out-{case}"))

    return judge


def judge_import(source: Path, out: Path) -> str:
    """How an import ends that meets a hostile file: the honest one must come in all the same."""
    from weightzoo.builders.imports import import_zoo
    from weightzoo.zoos.errors import ZooError

    try:
        report = import_zoo("state-dicts", source, out, progress=False)
    except ZooError as error:
        words = _error(error)
        return f"import ended: {str(error)[:200]}" if words == "clear error" else words
    except Exception as error:
        return _raw(error)
    finally:
        ran = [path for path in (Path(MARKER), source / MARKER) if path.exists()]
        text = _text_of(out / "import_report.json")
        rows = _imported_rows(out) if out.exists() else {}
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)
    if ran:
        return "code ran"
    if len(text) > 20_000:
        return f"endless message: {text[:200]}"
    if rows.get("honest") != HONEST:
        return f"wrong values: {rows.get('honest')}"
    return "imported" if "hostile" in rows else _refusal(report)


def _refusal(report: Any) -> str:
    reasons = [remark.reason for remark in report.refused if remark.model.startswith("hostile")]
    if not reasons:
        return "lost without a word"
    return f"memory: {reasons[0][:200]}" if "MemoryError" in reasons[0] else "clear error"


HONEST = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # the weights of the honest checkpoint


def _imported_rows(out: Path) -> dict[str, list[float]]:
    """Weights of all imported models by name."""
    from weightzoo.zoos.format import open_zoo_file

    found = {}
    for path in out.rglob("*.h5"):
        file = open_zoo_file(path)
        names = file.read_columns(["model_name"])["model_name"]
        found |= dict(zip(names, file.map_weights().tolist(), strict=True))
    return found


def _text_of(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


class _written:
    """A folder of files, gone afterwards."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder, self.files = folder, files

    def __enter__(self) -> Path:
        self.folder.mkdir()
        for name, data in self.files.items():
            (self.folder / name).write_bytes(data)
        return self.folder

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder)


def make_inputs(place: Arena) -> None:
    """A zoo of two train files, and an honest checkpoint."""

    def make() -> int:
        import torch
        from make_tiny_zoo import make_tiny_zoo

        make_tiny_zoo(place.inputs / "sharded", train_shards=2)
        (place.inputs / "honest").mkdir()
        values = torch.tensor(HONEST)
        state = {"layer.weight": values[:4].reshape(2, 2), "layer.bias": values[4:]}
        torch.save(state, place.inputs / "honest" / "honest.pt")
        return 0

    for module in ("tasks.inspection.verification", "builders.imports", "loaders"):
        importlib.import_module(f"weightzoo.{module}")
    place.fork(make, "a tiny zoo")


def count_cases(cases: Sequence[Case]) -> list[dict[str, object]]:
    """Verdicts by kind."""
    rows = []
    for kind in dict.fromkeys(case.kind for case in cases):
        own = [case.verdict.split(":")[0] for case in cases if case.kind == kind]
        row: dict[str, object] = {"kind": kind, "cases": len(own)}
        row |= {word: own.count(word) for word in GOOD}
        others = Counter(verdict for verdict in own if verdict not in GOOD)
        rows.append(row | {"else": ", ".join(f"{n} {what}" for what, n in others.items())})
    return rows


def main() -> int:
    """Run the kinds named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(CASES))
    parser.add_argument("--small", action="store_true", help="a handful of cases of every kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    cases: list[Case] = []
    with arena() as place:
        make_inputs(place)
        for kind in options.kinds or CASES:
            count = (SAMPLE if options.small else CASES)[kind]
            own = fuzz(place, kind, range(options.first, options.first + count))
            write_record(f"fuzz_{kind}", count_cases(own), own)
            cases += own
    print_table(count_cases(cases))
    return int(any(case.verdict not in GOOD for case in cases))


def fuzz(place: Arena, kind: str, numbers: Sequence[int]) -> list[Case]:
    """Cases of one kind; what goes wrong is said on stderr."""
    judge = {"flips": flips, "pickles": pickles, "indexes": indexes}[kind](place)
    cases = []
    for number, verdict in run_cases(numbers, judge, place.folder, SECONDS, BYTES):
        cases.append(Case(kind, number, verdict))
        if verdict not in GOOD or number % 100 == 0:
            show_progress(number, kind, verdict)
    return cases


if __name__ == "__main__":
    sys.exit(main())
