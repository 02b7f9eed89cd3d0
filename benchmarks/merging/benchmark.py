"""The benchmark `merging`: families of image networks, merges, searches, mixtures and controls.

Finished families stay in the output folder, so that a stopped benchmark continues.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...tasks.merging.output import write_text
from ...tasks.merging.search import check_packages
from ...tasks.processes import threads, worker_pool
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from .networks import Judges, Networks, Unit
from .plan import (
    BASE_IMAGES,
    BASES,
    FULL,
    SCENARIOS,
    SMALL,
    Child,
    Size,
    check_size,
    children,
    train_networks,
)
from .report import FORMAT, merging_markdown, plot_merging
from .rows import SEARCHES, family_rows
from .rule import rule_rows


def merging_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Run the benchmark, or what of it is left.

    Raises:
        ValueError: if zoos are given: the benchmark needs the lineage of those that it builds; or
            if the folder holds a run of another size.
        ZooError: if a zoo cannot be built.
        MergeError: if a package that a search needs is missing, before any training.
    """
    if options.zoos:
        raise ValueError("benchmark 'merging' builds its own families: leave out --zoo")
    check_packages(SEARCHES)
    start, size = time.perf_counter(), SMALL if options.small else FULL
    (options.out / "units").mkdir(parents=True, exist_ok=True)
    check_size(options.out, size)
    zoos = train_networks(options, size)
    built = time.perf_counter() - start
    work = partial(_unit, options.out, zoos, size)
    units, planned = [], _units(options)
    with tqdm(total=len(planned), unit="family", disable=not options.progress) as bar:
        for found in _mapped(work, planned, options.workers):
            units.append(found)
            bar.update()
    result: dict[str, Any] = {
        "format": FORMAT,
        "benchmark": "merging",
        "command": options.command,
        "small": options.small,
        "seeds": list(options.seeds),
        "size": asdict(size),
        "images": BASE_IMAGES,
        "domains": {name: list(domains) for name, domains in SCENARIOS.items()},
        "children": {
            name: [asdict(child) for child in group] for name, group in children(size).items()
        },
        "environment": environment(),
        "training_seconds": round(built, 1),
        "seconds": round(time.perf_counter() - start, 1),  # of this start
        "units": units,
    }
    write_text(options.out / "result.json", json_text(result, indent=1) + "\n")
    text, path = merging_markdown(result), options.out / "report.md"
    write_text(path, text)
    plot_merging(result, options.out / "plot.png")
    return BenchmarkOutcome(result, text, path)


def _unit(
    out: Path, zoos: tuple[Path, dict[Child, Path]], size: Size, unit: Unit
) -> dict[str, Any]:
    """The rows of one family, from their file if it is there."""
    path = out / "units" / f"{unit.name}.json"
    if not path.exists():
        networks = Networks.load(out, zoos, size, unit)
        judges = Judges.of(unit.scenario, out / "images")
        rows = family_rows(networks, judges, size, unit.seed)
        write_text(path, json_text(asdict(unit) | rows))
    found: dict[str, Any] = json.loads(path.read_text())
    found["rows"] |= rule_rows(found["rows"], found["members"], found["similarity"])
    return found


def _mapped(
    work: Callable[[Unit], dict[str, Any]], units: Sequence[Unit], workers: int
) -> Iterator[dict[str, Any]]:
    """Results in the order of the units, from worker processes if there are several."""
    if workers == 1:
        with threads(1):  # small networks: more threads mostly wait for each other
            yield from map(work, units)
        return
    with worker_pool(min(workers, len(units))) as pool:
        yield from pool.map(work, units)


def _units(options: BenchmarkOptions) -> list[Unit]:
    return [
        Unit(scenario, seed, place, len(options.seeds), base)
        for scenario in SCENARIOS
        for place, seed in enumerate(options.seeds)
        for base in range(BASES)
    ]


BENCHMARKS = {"merging": merging_benchmark}
