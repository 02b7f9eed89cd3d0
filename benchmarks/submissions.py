"""Checks of a result file that is submitted to the leaderboard: `weightzoo leaderboard --check`.

The checks find files that are damaged, incomplete or cannot be compared with the other results.
They do not prove that the numbers were measured: the person who merges a submission runs its
command.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..tasks.inspection.checks import Check
from ..zoos.errors import ZooError
from .leaderboard import BENCHMARK_FORMAT, section
from .plots import BASELINE
from .registry import load_benchmark

LEAST_SEEDS = 3
RANGES = {
    "tau_b": (-1.0, 1.0),
    "accuracy": (0.0, 1.0),
    "balanced_accuracy": (0.0, 1.0),
    "majority": (0.0, 1.0),
    "r2": (-math.inf, 1.0),
    "mae": (0.0, math.inf),
    "mse": (0.0, math.inf),
}
Result = Mapping[str, Any]


def check_submission(path: Path) -> list[Check]:
    """Check a result file of a benchmark.

    Args:
        path: file `result.json` in the output folder of `weightzoo benchmark`.

    Returns:
        All checks, also failed ones; only the first if the file is no result of a benchmark.

    Raises:
        ZooError: if the file cannot be read as JSON.
    """
    result = _read(path)
    kind = _checked("the file is a result of a known benchmark", _wrong_kind, result)
    if not kind.passed:
        return [kind]
    return [kind, *(_checked(name, find, result) for name, find in CHECKS.items())]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ZooError(
            f"{str(path)!r} cannot be read as JSON ({error}): give the result.json in the output "
            "folder of `weightzoo benchmark NAME --out FOLDER`"
        ) from error


def _checked(name: str, find: Callable[[Any], Iterator[str]], result: Any) -> Check:
    """A check that passes if no fault is found; a missing or odd entry is a fault."""
    try:
        faults = list(find(result))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        faults = [f"an entry is missing or of another type: {type(error).__name__} {error}"]
    return Check(name, not faults, "; ".join(faults[:5]), {"faults": len(faults)})


def _wrong_kind(result: Any) -> Iterator[str]:
    if not isinstance(result, dict) or result.get("format") != BENCHMARK_FORMAT:
        yield f"format must be {BENCHMARK_FORMAT!r}"
        return
    benchmark = load_benchmark(result["benchmark"])
    for name in ("layout", "metric", "target"):
        if result[name] != getattr(benchmark, name, None):
            yield f"{name} must be {getattr(benchmark, name, None)!r}, got {result[name]!r}"


def _wrong_zoos(result: Result) -> Iterator[str]:
    if "--zoo" in result["command"]:
        yield "the command gives own zoos with --zoo"
    seen: dict[str, str] = {}
    for run in result["runs"]:
        for name, fingerprint in run["zoos"].items():
            if seen.setdefault(name, fingerprint) != fingerprint:
                yield f"zoo {name!r} changed between runs"
    if missing := sorted(set(result["zoos"]) - set(seen)):
        yield f"no run uses the zoos {missing}"


def _missing_fits(result: Result) -> Iterator[str]:
    """Faults of the seeds: too few, or a predictor that lacks some where it has others."""
    seeds = set(result["seeds"])
    if len(seeds) < LEAST_SEEDS:
        yield f"at least {LEAST_SEEDS} seeds are needed, got {sorted(seeds)}"
    done: dict[tuple[Any, ...], list[int]] = {}
    for run in result["runs"]:
        key = (run["predictor"]["name"], *run["sources"], run["target"], run["fraction"])
        done.setdefault(key, []).append(run["seed"])
    for key, found in done.items():
        if len(set(found)) < len(found) or set(found) not in (seeds, {min(seeds)}):
            yield f"{' '.join(map(str, key))} has the seeds {sorted(found)}"


def _missing_baselines(result: Result) -> Iterator[str]:
    names = {run["predictor"]["name"] for run in result["runs"]}
    for wanted in ("constant", BASELINE):
        if not any(name.endswith(wanted) for name in names):
            yield f"no fit of {wanted!r}"


def _other_test_rows(result: Result) -> Iterator[str]:
    """Faults of test rows, which must be the same for all predictors."""
    seen: dict[tuple[str, str], tuple[int, int]] = {}
    for run, name, scores in _scores(result):
        counts = scores["models"], scores["rows"]
        if seen.setdefault((name, run["target"]), counts) != counts:
            yield f"{run['predictor']['name']} was tested on {counts} models and rows of {name}"


def _odd_scores(result: Result) -> Iterator[str]:
    for run, name, scores in _scores(result):
        where = f"{run['predictor']['name']} on {name}, seed {run['seed']}"
        for metric, (low, high) in RANGES.items():
            value = scores.get(metric)
            if value is not None and not low <= value <= high:
                yield f"{where}: {metric} {value} is outside {low:g} to {high:g}"
        for metric, ends in (scores.get("intervals") or {}).items():
            if None not in ends and not ends[0] <= ends[1]:
                yield f"{where}: interval of {metric} ends before it starts"
        share, ceiling = scores.get("tau_share"), scores.get("tau_max")
        if share is not None and not math.isclose(share, scores["tau_b"] / ceiling, rel_tol=1e-6):
            yield f"{where}: tau_share is not tau_b / tau_max"


def _mixed_code(result: Result) -> Iterator[str]:
    versions = {(run["code"]["weightzoo"], run["code"]["commit"]) for run in result["runs"]}
    if len(versions) > 1:
        yield f"fits are of {len(versions)} versions of the code"
    if any(not commit for _, commit in versions):
        yield "the commit is unknown: run the benchmark from a checkout"


def _no_table(result: Result) -> Iterator[str]:
    if "| ---" not in section(result):
        yield "the main table is empty"


def _scores(result: Result) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for run in result["runs"]:
        for name, scores in run["scores"].items():
            yield run, name, scores


CHECKS: dict[str, Callable[[Any], Iterator[str]]] = {
    "zoos are the benchmark's own, the same in all fits": _wrong_zoos,
    "every predictor was fitted with every seed": _missing_fits,
    "the constant and the baseline are among the predictors": _missing_baselines,
    "all predictors were tested on the same rows": _other_test_rows,
    "scores are in their ranges": _odd_scores,
    "all fits are of one known commit": _mixed_code,
    "the leaderboard's table can be made": _no_table,
}
