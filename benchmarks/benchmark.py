"""Benchmarks of property prediction: zoos, fits, scores and report of one `weightzoo benchmark`.

A benchmark builds its zoos from embedded image sets, or takes the user's zoos. It fits every
predictor once per seed and writes `result.json`, `report.md` and `plot.png`. Zoos and finished
fits stay in the output folder, so that a restart after a kill repeats none of them.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..builders.build import build_zoo
from ..encoders.registry import encoder_entry
from ..loaders.load import load_zoo
from ..tasks.baselines.regressors import needs_seeds
from ..tasks.prediction.property_prediction import checked_rows
from ..zoos.errors import UnsuitableError
from ..zoos.index import INDEX_NAME
from ..zoos.provenance import commit, package_version
from ..zoos.recipe import load_recipe, recipe_names
from .comparisons import BOOSTING, PAIRS, POOLED, comparisons, without_predictions
from .plots import plot_result
from .report import PLOT_NAME, to_markdown, write_result
from .runs import Run, describe_predictor, execute
from .zoos import ZooPlan, describe_zoo, provide_zoos, warn_of_other_code

FORMAT = "weightzoo-benchmark-1"
SEEDS = (0, 1, 2)
SIZES = ("small", "medium", "full")
ALWAYS = ("constant", BOOSTING, POOLED)
"""Predictors that a choice of others never leaves out, if the benchmark has them."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Options of one benchmark run.

    Attributes:
        out: folder for zoos, finished fits, result and report.
        size: "small" for about ten minutes on two CPU cores, "medium" for about an hour a seed with
            a thousand models, or "full".
        seeds: seeds of the fits, one fit of every predictor per seed.
        zoos: folders of the user's own zoos by name; empty builds the benchmark's zoos.
        workers: number of worker processes, each with one thread.
        command: command line, for the report.
        progress: whether to show progress on stderr.
        encoders: names of further encoders to compare, or "package.module:Class".
        only: names of the predictors to fit beside the constant, weight statistics with boosting
            and the user's encoders; empty fits all.
        images: image set beside the embedded ones, such as "idx:FOLDER"; "" for none.
    """

    out: Path
    size: str = "full"
    seeds: tuple[int, ...] = SEEDS
    zoos: Mapping[str, Path] = field(default_factory=dict)
    workers: int = 1
    command: str = ""
    progress: bool = True
    encoders: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    images: str = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if the size is unknown, seeds are missing or repeated, an encoder is
                repeated, or there is no worker.
        """
        if self.size not in SIZES:
            raise ValueError(f"size must be one of {list(SIZES)}, got {self.size!r}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds must be different from each other, and at least one, got {self.seeds!r}"
            )
        if len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoders must be different, got {list(self.encoders)!r}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers!r}")

    @property
    def small(self) -> bool:
        """Whether the small variant runs, in a benchmark without a medium one.

        Raises:
            ValueError: if the size is "medium".
        """
        if self.size == "medium":
            raise ValueError("this benchmark has the sizes ['small', 'full'], got 'medium'")
        return self.size == "small"


@dataclass(frozen=True)
class BenchmarkOutcome:
    """Result of a benchmark: plain data, the report as text, and the path of the report."""

    data: Mapping[str, Any]
    text: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Predictors, each fitted on some zoos and tested on some.

    Attributes:
        name: name on the command line.
        question: question that the benchmark answers, for the title.
        layout: layout of the tables, a key of `report.LAYOUTS`.
        metric: metric shown first.
        target: column that is the main target.
        plans: function from the size to the zoos to build.
        runs: function from the zoos' names, the seeds, the size and the names of the user's
            encoders to the runs.
        min_zoos: least number of zoos.
        pairs: predictors that are compared on the same test models, named before the run.
    """

    name: str
    question: str
    layout: str
    metric: str
    target: str
    plans: Callable[[str], list[ZooPlan]]
    runs: Callable[[Sequence[str], Sequence[int], str, Sequence[str]], list[Run]]
    min_zoos: int = 1
    pairs: tuple[tuple[str, str], ...] = PAIRS

    def __call__(self, options: BenchmarkOptions) -> BenchmarkOutcome:
        """Run the benchmark.

        Raises:
            ValueError: if the user's zoos are too few or unsuitable, or an encoder or a predictor
                is unknown, before any training.
            ZooError: if a zoo cannot be built or read.
        """
        started, about = time.perf_counter(), environment()
        for name in options.encoders:
            encoder_entry(name)  # a class that cannot be imported is reported before any work
        names = list(options.zoos) or [plan.name for plan in self.plans(options.size)]
        planned = self._planned(names, options)
        zoos, build_seconds = self._zoos(options)
        described = {
            name: describe_zoo(path, self.target) | {"path": _shown(path, options.out)}
            for name, path in zoos.items()
        }
        runs, left_out = usable_runs(planned, zoos, self.target)
        done = execute(runs, zoos, options.out / "runs", options.workers, options.progress)
        predictors = {run.predictor.name: describe_predictor(run.predictor) for run in runs}
        result = {
            "format": FORMAT,
            "benchmark": self.name,
            "question": self.question,
            "layout": self.layout,
            "metric": self.metric,
            "target": self.target,
            "size": options.size,
            "command": options.command,
            "seeds": list(options.seeds),
            "workers": options.workers,
            "only": list(options.only),
            "build_seconds": build_seconds,
            "seconds": time.perf_counter() - started,
            "environment": about,
            "zoos": described,
            "left_out": left_out,
            "predictors": predictors,
            "runs": [without_predictions(run) for run in done],
        }
        result["comparisons"] = comparisons(result, done, self.pairs)
        plot_result(result, options.out / PLOT_NAME)
        path = write_result(options.out, result)
        return BenchmarkOutcome(result, to_markdown(result), path)

    def _planned(self, zoos: Sequence[str], options: BenchmarkOptions) -> list[Run]:
        """Runs of the predictors that the options ask for.

        Raises:
            ValueError: if the benchmark has no predictor of such a name.
        """
        runs = self.runs(zoos, options.seeds, options.size, options.encoders)
        names = dict.fromkeys(run.predictor.name for run in runs)
        if unknown := [name for name in options.only if name not in names]:
            raise ValueError(
                f"only must name predictors of the benchmark {self.name!r}, one of {list(names)}, "
                f"got {unknown}"
            )
        wanted = {*options.only, *options.encoders, *ALWAYS}
        return [run for run in runs if not options.only or run.predictor.name in wanted]

    def _zoos(self, options: BenchmarkOptions) -> tuple[dict[str, Path], float]:
        """Folders of the zoos by name, and the seconds spent on building them in this run."""
        if options.zoos:
            if len(options.zoos) < self.min_zoos:
                raise ValueError(
                    f"benchmark {self.name!r} needs at least {self.min_zoos} zoos, "
                    f"got {list(options.zoos)}"
                )
            options.out.mkdir(parents=True, exist_ok=True)
            return dict(options.zoos), 0.0
        started = time.perf_counter()
        folder = options.out / "zoos"
        folder.mkdir(parents=True, exist_ok=True)
        plans = self.plans(options.size)
        zoos = provide_zoos(plans, folder, options.workers, options.progress)
        return zoos, time.perf_counter() - started


def usable_runs(
    runs: Sequence[Run], zoos: Mapping[str, Path], target: str
) -> tuple[list[Run], dict[str, str]]:
    """Runs whose target can be predicted in their zoos, with one seed where seeds change nothing.

    Args:
        runs: planned runs.
        zoos: zoo folders by name.
        target: main target, which every zoo must have.

    Returns:
        The runs to execute, and the reason for every target that was left out.

    Raises:
        UnsuitableError: if the main target cannot be predicted in one of the zoos.
    """
    left_out: dict[str, str] = {}
    columns: dict[str, np.ndarray] = {}
    checked = {(name, run.target, run.rows) for run in runs for name in {*run.sources, *run.tested}}
    for name, column, rows in sorted(checked):
        try:
            columns[column] = checked_rows(load_zoo(zoos[name]), column, rows)["train"].columns[
                column
            ]
        except UnsuitableError as error:
            if column == target:
                raise UnsuitableError(f"zoo {name!r} ({zoos[name]}): {error}") from error
            left_out[column] = f"zoo {name!r}: {error}"
    usable = [
        run
        for run in runs
        if run.target not in left_out
        and (
            run.seed == runs[0].seed or needs_seeds(run.predictor, run.target, columns[run.target])
        )
    ]
    return usable, left_out


def requested_zoo(options: BenchmarkOptions, recipe: str, models: int | None = None) -> Path:
    """The folder of the user's zoo, or of a zoo built by the recipe unless it is there.

    Args:
        options: options of the benchmark. A path in `zoos` that is no zoo folder must be the name
            or file of a recipe, which then takes the place of `recipe`.
        recipe: name of the recipe to build where the user gives no zoo.
        models: number of models; None takes the recipe's.

    Raises:
        ValueError: if a path in `zoos` is neither a zoo folder nor a recipe.
        ZooError: if the zoo cannot be built or read.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    for named in options.zoos.values():
        if (named / INDEX_NAME).is_file():
            return named
        if str(named) not in recipe_names() and named.suffix != ".toml":
            raise ValueError(
                f"--zoo must be a zoo folder, the name of a recipe (`weightzoo list`) or a .toml "
                f"file, got {str(named)!r}"
            )
        recipe, models = str(named), None
    folder = options.out / "zoos" / Path(recipe).stem
    if models is not None:
        folder = folder.with_name(f"{folder.name}-{models}")
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        build_zoo(
            load_recipe(recipe),
            folder,
            models=models,
            workers=options.workers,
            progress=options.progress,
        )
        return folder
    warn_of_other_code(folder, next(iter(load_zoo(folder).values())).header.provenance)
    return folder


def environment() -> dict[str, str]:
    """Machine and package versions that a result depends on."""
    return {
        "machine": f"{platform.machine()} ({_processor()})",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "weightzoo": package_version(),
        "commit": commit(),
    }


def _shown(path: Path, out: Path) -> str:
    """A path for the report, relative to the output folder if it lies inside."""
    return str(path.relative_to(out) if path.is_relative_to(out) else path)


def _processor() -> str:
    """Name of the CPU, if the system reports one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
