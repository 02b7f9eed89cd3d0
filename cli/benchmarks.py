"""The commands `benchmark` and `leaderboard`."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    check_file,
    check_folder,
    print_checks,
    print_result,
    whole,
)


def add_benchmark_commands(commands: Any) -> None:
    """Add `benchmark` and `leaderboard`."""
    _add_benchmark(commands)
    leaderboard = add_command(
        commands,
        "leaderboard",
        _leaderboard,
        "write the main table of every benchmark result in a folder to one Markdown file",
        "weightzoo leaderboard results --out LEADERBOARD.md",
    )
    leaderboard.add_argument(
        "results",
        type=Path,
        nargs="?",
        help="folder with the output folders of `weightzoo benchmark`; left out with --check",
    )
    leaderboard.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="check a result.json before it is submitted, and write nothing; exits with 1 if a "
        "check fails",
    )
    leaderboard.add_argument(
        "--out",
        type=Path,
        default=Path("LEADERBOARD.md"),
        help="Markdown file to write or replace (default: LEADERBOARD.md)",
    )


def _add_benchmark(commands: Any) -> None:
    benchmark = add_command(
        commands,
        "benchmark",
        _benchmark,
        "build zoos, fit predictors to them, and compare the predictors in tables; a stopped "
        "benchmark continues when the same command is given again",
        "weightzoo benchmark cross-dataset --small --out results/cross-dataset",
    )
    benchmark.add_argument(
        "name", help="benchmark to run, e.g. cross-dataset; an unknown name lists the known ones"
    )
    benchmark.add_argument(
        "--out", type=Path, help="folder for zoos, result and report (default: weightzoo-NAME)"
    )
    benchmark.add_argument(
        "--size",
        choices=("small", "medium", "full"),
        help="small: about ten minutes on two cores; medium: about an hour a seed, 1,000 models "
        "or more (property benchmarks only); full: hours (default: full)",
    )
    benchmark.add_argument("--small", action="store_true", help="the same as --size small")
    benchmark.add_argument(
        "--seeds",
        type=whole(1),
        default=3,
        help="number of fits of each predictor, with seeds from 0 (default: 3)",
    )
    benchmark.add_argument(
        "--workers",
        type=whole(1),
        help="number of worker processes on the CPU (default: one per core)",
    )
    benchmark.add_argument(
        "--zoo",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="your own zoo in place of the built ones, with its NAME in the tables; may be "
        "repeated",
    )
    benchmark.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="encoder of yours to compare with the others, as package.module:Class (also from the "
        "working folder) or a registered name; may be repeated",
    )
    benchmark.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PREDICTOR",
        help="fit this predictor, by its name in the tables, beside the constant, weight "
        "statistics with boosting and your encoders; may be repeated (default: all)",
    )
    benchmark.add_argument(
        "--images",
        metavar="idx:FOLDER",
        help="of the benchmark ranking: rank for this image set of 28x28 and its changed versions, "
        "and for digits",
    )
    benchmark.add_argument(
        "--matrix",
        type=Path,
        help="of the benchmark ranking: judge rankers on this matrix, HDF5 or CSV, and build none",
    )
    benchmark.add_argument(
        "--scores",
        type=Path,
        help="of the benchmark ranking with --matrix: CSV table with the columns target, model and "
        "one per score",
    )


def _benchmark(options: argparse.Namespace) -> None:
    from ..benchmarks.benchmark import Benchmark, BenchmarkOptions
    from ..benchmarks.registry import BENCHMARKS, load_benchmark

    benchmark = load_benchmark(options.name)
    out = options.out or Path(f"weightzoo-{options.name}")
    check_folder(out)
    chosen = [option for option in ("encoder", "only") if getattr(options, option)]
    if chosen and not isinstance(benchmark, Benchmark):
        known = [name for name, module in BENCHMARKS.items() if module.endswith(".definitions")]
        raise ValueError(
            f"benchmark {options.name!r} compares no encoders: leave out --{chosen[0]}, or take "
            f"one of {known}"
        )
    if options.images and (options.name != "ranking" or options.matrix):
        raise ValueError("--images is of the benchmark 'ranking' without --matrix")
    if options.matrix or options.scores:
        _benchmark_matrix(options, out)
        return
    zoos, size = dict(_named_zoo(text) for text in options.zoo), _size(options)
    command = f"weightzoo benchmark {options.name}" + _size_option(size)
    command += "".join(f" --zoo {text}" for text in options.zoo)
    command += "".join(f" --encoder {text}" for text in options.encoder)
    command += "".join(f" --only {shlex.quote(name)}" for name in options.only)
    command += f" --images {options.images}" if options.images else ""
    outcome = benchmark(
        BenchmarkOptions(
            out=out,
            size=size,
            seeds=tuple(range(options.seeds)),
            zoos=zoos,
            workers=options.workers or os.cpu_count() or 1,
            encoders=tuple(options.encoder),
            only=tuple(options.only),
            images=options.images or "",
            command=f"{command} --seeds {options.seeds}",
        )
    )
    print_result(options, outcome.data, outcome.text)
    print(f"report: {outcome.path}", file=sys.stderr)


def _size(options: argparse.Namespace) -> str:
    if options.small and options.size not in (None, "small"):
        raise ValueError(f"give either --small or --size {options.size}")
    return "small" if options.small else options.size or "full"


def _size_option(size: str) -> str:
    return {"full": "", "small": " --small"}.get(size, f" --size {size}")


def _benchmark_matrix(options: argparse.Namespace, out: Path) -> None:
    from ..benchmarks.ranking.benchmark import benchmark_matrix

    if options.name != "ranking" or options.matrix is None:
        raise ValueError("--matrix is of the benchmark 'ranking', and --scores needs --matrix")
    command = f"weightzoo benchmark ranking --matrix {options.matrix}"
    command += f" --scores {options.scores}" if options.scores else ""
    outcome = benchmark_matrix(options.matrix, options.scores, out, command)
    print_result(options, outcome.data, outcome.text)
    print(f"report: {outcome.path}", file=sys.stderr)


def _named_zoo(text: str) -> tuple[str, Path]:
    """Name and path from NAME=PATH, or from a path whose last part is the name."""
    name, mark, path = text.partition("=")
    return (name, Path(path)) if mark else (Path(text).name, Path(text))


def _leaderboard(options: argparse.Namespace) -> int:
    from ..benchmarks.leaderboard import write_leaderboard

    if (options.results is None) == (options.check is None):
        raise ValueError("give either a folder of results, or a file with --check")
    if options.check is not None:
        from ..benchmarks.submissions import check_submission

        return print_checks(options, check_submission(options.check))
    check_file(options.out)
    path = write_leaderboard(options.results, options.out)
    print_result(options, {"path": str(path)}, str(path))
    return 0
