"""Benchmarks of property prediction, each with its zoos, predictors and runs."""

from collections.abc import Callable, Sequence
from typing import Any

from ..tasks.baselines.regressors import Predictor
from ..tasks.scoring.targets import CATEGORIES
from ..tasks.training.encoder_regressor import EncoderRegressor
from ..zoos.images.glyphs import LARGE_TEST
from .benchmark import Benchmark, BenchmarkOptions, BenchmarkOutcome
from .predictors import (
    ACROSS,
    baselines,
    crossing,
    encoders,
    oracles,
    own_encoders,
    probes,
)
from .runs import Run, repeated_runs
from .zoos import ZooPlan, plan

ARCHITECTURE_SEEDS = {"digits-cnn": 31, "digits-mlp": 32, "digits-sne-cnn": 33, "digits-vit": 34}
FRACTIONS = (0.1, 0.25, 0.5, 1.0)
WITHIN_TARGETS = ("test_accuracy", "generalization_gap", "epoch", *CATEGORIES)
TARGETS = {
    "small": ("test_accuracy", "generalization_gap", "epoch", "activation"),
    "medium": ("test_accuracy",),
    "full": WITHIN_TARGETS,
}


def _within_plans(size: str) -> list[ZooPlan]:
    return [plan("digits-cnn", "digits-cnn", 100 if size == "small" else 1000, seed=11, seeds=1000)]


def _within_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    runs, zoo = list[Run](), names[:1]
    for target in TARGETS[size]:
        category = target in CATEGORIES
        plain = [p for p in baselines() if not (category and p.name == "statistics + ridge")]
        predictors = [*plain, *probes(), *encoders(size), *own_encoders(own, size)]
        predictors += oracles() if target == "test_accuracy" else []
        runs += repeated_runs(predictors, zoo, zoo, seeds, target)
    return runs


def _dataset_plans(size: str) -> list[ZooPlan]:
    images = ["glyphs-latin", "glyphs-textured"]
    images += [] if size != "full" else ["glyphs-greek", "glyphs-cyrillic", "glyphs-digits"]
    images = ["digits", *(f"{name}{LARGE_TEST}" if size != "small" else name for name in images)]
    models = {"small": 80, "medium": 400, "full": 1000}[size]
    return [
        plan(name, "digits-cnn", models, seed=21 + index, images=name, seeds=1000)
        for index, name in enumerate(images)
    ]


def _dataset_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    learned = [*encoders(size, reads_classes=False), *own_encoders(own, size)]
    return _matrix([*baselines(), *learned, *oracles()], names, names, seeds)


def _architecture_plans(size: str) -> list[ZooPlan]:
    recipes = {"digits-cnn": 1000, "digits-mlp": 1000, "digits-sne-cnn": 1000, "digits-vit": 500}
    changes: dict[str, Any] = {}
    if size == "medium":
        recipes = {"digits-cnn": 400, "digits-sne-cnn": 400, "digits-mlp": 400}
    if size == "small":
        recipes = {"digits-cnn": 100, "digits-sne-cnn": 100, "digits-vit": 60}
        changes = {"epochs": 8, "checkpoints": (1, 3, 8)}
    return [
        plan(recipe, recipe, models, seed=ARCHITECTURE_SEEDS[recipe], seeds=1000, **changes)
        for recipe, models in recipes.items()
    ]


def _architecture_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    """Runs of all pairs of zoos and from all other zoos to each; below full the last is test-only.

    The last zoo has the largest networks, or the fewest.
    """
    predictors = [*crossing(size), *own_encoders(own, size, **ACROSS)]
    if size != "full":
        return _matrix(predictors, names[:-1], names, seeds)
    others = _leave_one_out(predictors, names, seeds)
    return [*_matrix(predictors, names, names, seeds), *others]


def _matrix(
    predictors: Sequence[Predictor],
    sources: Sequence[str],
    tested: Sequence[str],
    seeds: Sequence[int],
) -> list[Run]:
    """Runs that train on one zoo and test on all, for every source."""
    return [run for name in sources for run in repeated_runs(predictors, [name], tested, seeds)]


def _leave_one_out(
    predictors: Sequence[Predictor], names: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """Runs that train on all zoos but one and test on that one."""
    several = [predictor for predictor in predictors if isinstance(predictor, EncoderRegressor)]
    return [
        run
        for name in names
        for run in repeated_runs(
            several, [other for other in names if other != name], [name], seeds
        )
    ]


def _efficiency_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    zoo = names[:1]
    predictors = [*baselines(), *encoders(size), *own_encoders(own, size), *oracles()]
    return [
        run
        for fraction in FRACTIONS
        for run in repeated_runs(predictors, zoo, zoo, seeds, fraction=fraction)
    ]


BENCHMARKS: dict[str, Callable[[BenchmarkOptions], BenchmarkOutcome]] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="within-zoo",
            question="what lies in the weights of one zoo?",
            layout="rows",
            metric="tau_b",
            target="test_accuracy",
            plans=_within_plans,
            runs=_within_runs,
        ),
        Benchmark(
            name="cross-dataset",
            question="does it transfer to models of other images?",
            layout="matrix",
            metric="tau_b",
            target="test_accuracy",
            plans=_dataset_plans,
            runs=_dataset_runs,
            min_zoos=2,
        ),
        Benchmark(
            name="cross-architecture",
            question="does it transfer to other architectures?",
            layout="matrix",
            metric="tau_b",
            target="test_accuracy",
            plans=_architecture_plans,
            runs=_architecture_runs,
            min_zoos=2,
        ),
        Benchmark(
            name="data-efficiency",
            question="how many models does a predictor need?",
            layout="curve",
            metric="tau_b",
            target="test_accuracy",
            plans=_within_plans,
            runs=_efficiency_runs,
        ),
    )
}
"""Benchmarks by name; each maps `BenchmarkOptions` to a `BenchmarkOutcome`."""
