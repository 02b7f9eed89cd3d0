"""Benchmarks of property prediction, each with its zoos, predictors and runs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..tasks.baselines.regressors import Predictor
from ..tasks.scoring.targets import CATEGORIES
from ..tasks.training.encoder_training import EncoderRegressor
from ..zoos.images.glyphs import LARGE_TEST
from .benchmark import Benchmark, BenchmarkOptions, BenchmarkOutcome
from .predictors import (
    ACROSS,
    INR_SETTINGS,
    baselines,
    crossing,
    encoders,
    frequency_predictors,
    inr_classifiers,
    oracles,
    own_encoders,
    probes,
)
from .runs import Run
from .zoos import ZooPlan, plan

FRACTIONS = (0.1, 0.25, 0.5, 1.0)
WITHIN_TARGETS = ("test_accuracy", "generalization_gap", "epoch", *CATEGORIES)
TARGETS = {
    "small": ("test_accuracy", "generalization_gap", "epoch", "activation"),
    "medium": ("test_accuracy", "generalization_gap", "activation"),
    "full": WITHIN_TARGETS,
}
ROWS = {"small": "all", "medium": "last", "full": "all"}
"""Checkpoints by size: the medium variant takes a thousand models and their last ones."""


def _runs(
    predictors: Iterable[Predictor],
    sources: Sequence[str],
    tested: Sequence[str],
    seeds: Sequence[int],
    target: str = "test_accuracy",
    **options: Any,
) -> list[Run]:
    """Runs of every predictor with every seed it needs."""
    return [
        Run(
            predictor=predictor,
            sources=tuple(sources),
            tested=tuple(tested),
            target=target,
            seed=seed,
            **options,
        )
        for predictor in predictors
        for seed in (seeds if predictor.seeded else seeds[:1])
    ]


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
        runs += _runs(predictors, zoo, zoo, seeds, target, rows=ROWS[size])
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
    predictors = [*baselines(), *encoders(size), *own_encoders(own, size), *oracles()]
    return _matrix(predictors, names, seeds, size)


def _architecture_plans(size: str) -> list[ZooPlan]:
    recipes = {"digits-cnn": 1000, "digits-mlp": 1000, "digits-sne-cnn": 1000, "digits-vit": 500}
    changes: dict[str, Any] = {}
    if size == "medium":
        recipes = {"digits-cnn": 400, "digits-mlp": 400, "digits-sne-cnn": 400}
    if size == "small":
        recipes = {"digits-cnn": 100, "digits-sne-cnn": 100, "digits-vit": 60}
        changes = {"epochs": 8, "checkpoints": (1, 3, 8)}
    return [
        plan(recipe, recipe, models, seed=31 + index, seeds=1000, **changes)
        for index, (recipe, models) in enumerate(recipes.items())
    ]


def _architecture_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    """Runs of all pairs of zoos; in the small variant the vision transformers are test-only."""
    predictors = [*crossing(size), *own_encoders(own, size, **ACROSS)]
    if size == "small":
        sources = names[:-1]
        return [r for name in sources for r in _runs(predictors, [name], names, seeds)]
    return [
        *_matrix(predictors, names, seeds, size),
        *_leave_one_out(predictors, names, seeds, size),
    ]


def _matrix(
    predictors: Sequence[Predictor], names: Sequence[str], seeds: Sequence[int], size: str
) -> list[Run]:
    """Runs that train on one zoo and test on all, for every zoo."""
    return [
        run
        for source in names
        for run in _runs(predictors, [source], names, seeds, rows=ROWS[size])
    ]


def _leave_one_out(
    predictors: Sequence[Predictor], names: Sequence[str], seeds: Sequence[int], size: str
) -> list[Run]:
    """Runs that train on all zoos but one and test on that one."""
    several = [predictor for predictor in predictors if isinstance(predictor, EncoderRegressor)]
    return [
        run
        for name in names
        for run in _runs(
            several, [other for other in names if other != name], [name], seeds, rows=ROWS[size]
        )
    ]


def _frequency_plans(size: str) -> list[ZooPlan]:
    """Zoo of implicit neural representations (INRs) of the published size, from small weights.

    SIREN's own initialisation gives the first layer all frequencies from the start. The learned
    frequency then shows only in how the layers' weights connect: DWSNet begins to learn it from
    some thousand models, SNE does not (see LOG.md). INRs train for 1,520 steps, because those that
    have not learned their signal dominate the squared error (after 480 steps 38 % of 1-16-16-1
    above frequency 8).
    """
    factors = {"init": "normal", "init_std": 0.02, "optimizer": "adam", "lr": 1e-3}
    changes: dict[str, Any] = {"epochs": 190, "checkpoints": (190,)}
    changes["factors"] = factors | {"weight_decay": 1e-4, "batch_size": 125}
    if size == "small":
        changes["split"] = {"train": 0.3, "val": 0.15, "test": 0.55}
    models = {"small": 1000, "medium": 2000, "full": 4000}[size]
    return [plan("sine-inr", "sine-inr", models, 47, seeds=4000, **changes)]


def _frequency_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    zoo, epochs = names[:1], 50 if size == "small" else 100
    return _runs(
        [*frequency_predictors(size), *own_encoders(own, size, **INR_SETTINGS, epochs=epochs)],
        zoo,
        zoo,
        seeds,
        "frequency",
        rows="last",
        measure_invariance=True,
    )


def _efficiency_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    zoo = names[:1]
    predictors = [*baselines(), *encoders(size), *own_encoders(own, size), *oracles()]
    return [
        run
        for fraction in FRACTIONS
        for run in _runs(predictors, zoo, zoo, seeds, fraction=fraction, rows=ROWS[size])
    ]


def inr_plan(size: str) -> ZooPlan:
    """INRs of the digits, fitted for 60 steps to an error of about 1e-4 in the small variant.

    Args:
        size: "small", "medium" or "full".
    """
    models, epochs = {"small": (600, 60), "medium": (1797, 100), "full": (1797, 500)}[size]
    changes: dict[str, Any] = {"seeds": 1797, "epochs": epochs, "checkpoints": (epochs,)}
    return plan("digits-inr", "digits-inr", models, 0, **changes)


def _label_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    zoo = names[:1]
    predictors = [*inr_classifiers(size), *own_encoders(own, size, batch_size=32)]
    return _runs(predictors, zoo, zoo, seeds, "label", rows="last")


LABEL_PAIRS = (  # named before the run
    ("ScaleGMN", "statistics + boosting"),
    ("ScaleGMN", "flat MLP"),
    ("ScaleGMN", "neural graph"),
    ("ScaleGMN", "DNG"),
    ("DWSNet", "flat MLP"),
    ("ProbeGen", "ScaleGMN"),
    ("ceiling: rendered images", "ProbeGen"),
)


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
            name="inr-frequency",
            question="how fast is the sine that an INR has learned?",
            layout="rows",
            metric="mse",
            target="frequency",
            plans=_frequency_plans,
            runs=_frequency_runs,
        ),
        Benchmark(
            name="inr-classification",
            question="which digit does an INR store?",
            layout="rows",
            metric="accuracy",
            target="label",
            plans=lambda size: [inr_plan(size)],
            runs=_label_runs,
            pairs=LABEL_PAIRS,
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
