"""`LEADERBOARD.md`: the main table of every benchmark result in a folder, and nothing else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..zoos.errors import ZooError
from . import generation_report
from .report import LAYOUTS, RESULT_NAME, summary_table, target_table

BENCHMARK_FORMAT = "weightzoo-benchmark-1"
HEADER = """# Leaderboard

Made by `{command}` from result files alone; change nothing by hand. Every table names the command
that measured it. Scores are on test splits, means over seeds ± their standard deviation; 95 %
intervals are of the first seed, by bootstrap over test models, not rows.
"""


def write_leaderboard(results: Path, out: Path) -> Path:
    """Write the leaderboard of all results below a folder.

    Args:
        results: a folder of benchmark folders.
        out: the file to write, replaced when whole.

    Raises:
        ZooError: if there is no result, or a file is none.
    """
    scratch = out.with_name(f"{out.name}.tmp")
    scratch.write_text(leaderboard_text(results, out), encoding="utf-8")
    os.replace(scratch, out)
    return out


def leaderboard_text(results: Path, out: Path) -> str:
    """What `write_leaderboard` writes."""
    command = f"weightzoo leaderboard {results} --out {out}"
    sections = [*map(section, _read_results(results)), *_generation_sections(results)]
    return "\n".join([HEADER.format(command=command), *sections])


def _read_results(folder: Path) -> list[dict[str, Any]]:
    """All results below a folder, by name of the benchmark."""
    paths = sorted(folder.glob(f"**/{RESULT_NAME}"))
    results = [_read(path) for path in paths]
    known = [result for result in results if result is not None]
    if not known:
        raise ZooError(
            f"no {RESULT_NAME} of a benchmark below {folder}: run one first, with `weightzoo "
            f"benchmark NAME --out {folder / 'NAME'}`"
        )
    return sorted(known, key=lambda result: (result["benchmark"], result["command"]))


def section(result: Mapping[str, Any]) -> str:
    """One benchmark: its main table and what it rests on."""
    main = {
        "matrix": summary_table,
        "rows": lambda result: target_table(result, result["target"]),
    }.get(result["layout"], LAYOUTS[result["layout"]])
    environment, seeds = result["environment"], ", ".join(map(str, result["seeds"]))
    reused = sum(run["reused"] for run in result["runs"])
    earlier = f" ({reused} from an earlier start)" if reused else ""
    return (
        f"## {result['benchmark']}: {result['question']}\n\n{main(result)}\n\n"
        f"`{result['command']}`, seeds {seeds}; {len(result['runs'])} fits{earlier}; tested on "
        f"{_tested(result)}; {environment['machine']}, torch {environment['torch']}.\n"
    )


def _generation_sections(folder: Path) -> list[str]:
    """The tables of generated networks, whose result files are of another format."""
    found = [_json(path) for path in sorted(folder.glob(f"**/{generation_report.DATA}"))]
    ours = [data for data in found if isinstance(data, dict)]
    return [
        generation_report.leaderboard_section(data)
        for data in ours
        if data.get("format") == generation_report.FORMAT
    ]


def _tested(result: Mapping[str, Any]) -> str:
    """How many models and rows of each zoo were scored on the main target."""
    scored = {
        name: f"{name} {scores['models']} models / {scores['rows']} rows"
        for run in result["runs"]
        if run["target"] == result["target"]
        for name, scores in run["scores"].items()
    }
    return ", ".join(scored[name] for name in result["zoos"] if name in scored)


def _read(path: Path) -> dict[str, Any] | None:
    """A result of ours; None for a JSON file of something else."""
    data = _json(path)
    ours = isinstance(data, dict) and data.get("format") == BENCHMARK_FORMAT
    return data if ours and data.get("layout") in LAYOUTS else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZooError(f"{path} is no JSON: {error}") from error
