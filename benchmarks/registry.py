"""Benchmarks by name: what `weightzoo benchmark NAME` can run, imported when it is asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

BENCHMARKS: dict[str, str] = {
    "within-zoo": ".definitions",
    "cross-dataset": ".definitions",
    "cross-architecture": ".definitions",
    "inr-frequency": ".definitions",
    "data-efficiency": ".definitions",
    "generation": ".representation_benchmarks",
    "hyper-representation-probes": ".representation_benchmarks",
    "ranking": ".ranking.benchmark",
    "ood-ranking": ".ranking.benchmark",
}
"""Module in this package, which holds the benchmark in its own `BENCHMARKS`, by name."""


def load_benchmark(name: str) -> Callable[..., Any]:
    """The benchmark of a name; it takes `BenchmarkOptions` and returns a `BenchmarkOutcome`.

    Raises:
        ValueError: if there is none; the names are listed.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark must be one of {sorted(BENCHMARKS)}, got {name!r}")
    benchmark: Callable[..., Any] = import_module(BENCHMARKS[name], __package__).BENCHMARKS[name]
    return benchmark
