"""Benchmarks that predict a property of implicit neural representations (INRs).

SNE is the set-based neural network encoder.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ...tasks.baselines.regressors import Predictor
from ..benchmark import Benchmark, BenchmarkOptions, BenchmarkOutcome
from ..predictors import own_encoders
from ..runs import Run, repeated_runs
from ..zoos import ZooPlan, plan
from .predictors import (
    COMPLETE,
    FREQUENCY_EPOCHS,
    INR_SETTINGS,
    ablations,
    frequency_predictors,
    inr_classifiers,
)


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
    models = {"small": 1000, "medium": 3000, "full": 4000}[size]
    return [plan("sine-inr", "sine-inr", models, 47, seeds=4000, **changes)]


def _frequency_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    return _sine_runs(frequency_predictors(size), names, seeds, size, own, measure_invariance=True)


def _ablation_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    return _sine_runs(ablations(size), names, seeds, size, own)


def _sine_runs(
    predictors: Sequence[Predictor],
    names: Sequence[str],
    seeds: Sequence[int],
    size: str,
    own: Sequence[str],
    **options: Any,
) -> list[Run]:
    """Runs of predictors and of the user's encoders on the frequency of sine waves."""
    users = own_encoders(own, size, **INR_SETTINGS, epochs=FREQUENCY_EPOCHS[size])
    fitted, zoo = [*predictors, *users], names[:1]
    return repeated_runs(fitted, zoo, zoo, seeds, "frequency", rows="last", **options)


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
    return repeated_runs(predictors, zoo, zoo, seeds, "label", rows="last")


LABEL_PAIRS = (  # named before the run
    ("ScaleGMN", "statistics + boosting"),
    ("ScaleGMN", "flat MLP"),
    ("ScaleGMN", "neural graph"),
    ("ScaleGMN", "DNG"),
    ("DWSNet", "flat MLP"),
    ("SNE", "statistics + boosting"),
    ("SNE, paper", "statistics + boosting"),
    ("ProbeGen", "ScaleGMN"),
    ("ceiling: rendered images", "ProbeGen"),
)


ABLATION_PAIRS = tuple(
    (COMPLETE, one.name) for one in ablations("small") if one.name not in (COMPLETE, "constant")
)
BENCHMARKS: dict[str, Callable[[BenchmarkOptions], BenchmarkOutcome]] = {
    benchmark.name: benchmark
    for benchmark in (
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
            name="sne-ablation",
            question="which parts of SNE matter?",
            layout="rows",
            metric="mse",
            target="frequency",
            plans=_frequency_plans,
            runs=_ablation_runs,
            pairs=ABLATION_PAIRS,
        ),
    )
}
"""Benchmarks by name; each maps `BenchmarkOptions` to a `BenchmarkOutcome`."""
