"""The benchmarks of autoencoders: the networks they generate, and what linear probes read."""

from collections.abc import Callable
from pathlib import Path

from ..builders.build import build_zoo
from ..loaders import load_zoo
from ..zoos.index import INDEX_NAME
from ..zoos.recipe import load_recipe, recipe_names
from .benchmark import BenchmarkOptions, BenchmarkOutcome
from .generation import run_generation
from .generation_outcome import generation_settings
from .generation_report import DATA as GENERATION_DATA
from .generation_report import TABLE as GENERATION_TABLE
from .generation_report import write_generation_report
from .probes import DATA as PROBE_DATA
from .probes import TABLE as PROBE_TABLE
from .probes import not_finite, probe_representations, probe_settings, write_probe_report
from .zoos import warn_of_other_code

GENERATION_RECIPE, PROBE_RECIPE = "digits-cnn-seed", "digits-cnn"
SMALL_PROBE_MODELS = 160
TRANSFER = "glyphs-digits"  # as large as digits, with as many classes


def generation_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Generated networks against every baseline; see `generation_benchmark`."""
    folder = _zoo(options, GENERATION_RECIPE, None)
    settings = generation_settings(options.small, options.seeds, TRANSFER)
    outcomes = run_generation(folder, settings, options.workers, options.progress)
    text = write_generation_report(options.out, folder.name, settings, outcomes, options.command)
    data = {"path": str(options.out / GENERATION_DATA)}
    return BenchmarkOutcome(data, text, options.out / GENERATION_TABLE)


def probe_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """W, s(W) and a hyper-representation, each read by linear probes; see `probes`."""
    folder = _zoo(options, PROBE_RECIPE, SMALL_PROBE_MODELS if options.small else None)
    splits = load_zoo(folder)
    assert isinstance(splits, dict)
    settings = probe_settings(options.small)
    results = probe_representations(splits, settings, options.seeds, options.progress)
    left_out = not_finite(splits)
    text = write_probe_report(options.out, folder.name, results, options.command, left_out)
    return BenchmarkOutcome(
        {"path": str(options.out / PROBE_DATA)}, text, options.out / PROBE_TABLE
    )


def _zoo(options: BenchmarkOptions, recipe: str, models: int | None) -> Path:
    """The user's zoo, or that of the recipe, built unless it is there.

    A user's path that is no zoo folder is the name of a recipe.
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


BENCHMARKS: dict[str, Callable[[BenchmarkOptions], BenchmarkOutcome]] = {
    "generation": generation_benchmark,
    "hyper-representation-probes": probe_benchmark,
}
