"""Names of the benchmarks of `weightzoo benchmark NAME`; their modules are imported on demand."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..zoos.errors import did_you_mean

BENCHMARKS: dict[str, str] = {
    "within-zoo": ".definitions",
    "cross-dataset": ".definitions",
    "cross-architecture": ".definitions",
    "inr-frequency": ".inrs.definitions",
    "inr-classification": ".inrs.definitions",
    "inr-editing": ".inrs.editing",
    "sne-ablation": ".inrs.definitions",
    "data-efficiency": ".definitions",
    "generation": ".generation",
    "hyper-representation-probes": ".probes",
    "ranking": ".ranking.benchmark",
    "dynamics": ".dynamics.benchmark",
    "merging": ".merging.benchmark",
    "merging-language": ".merging.language",
    "ood-ranking": ".ranking.benchmark",
}
"""Module of each benchmark; the module holds it in its own `BENCHMARKS` under the same name."""


def load_benchmark(name: str) -> Callable[..., Any]:
    """The benchmark of that name, which maps `BenchmarkOptions` to a `BenchmarkOutcome`.

    Raises:
        ValueError: if the name is unknown; the error lists the known names.
    """
    if name not in BENCHMARKS:
        known = sorted(BENCHMARKS)
        raise ValueError(
            f"benchmark must be one of {known}, got {name!r}" + did_you_mean(name, known)
        )
    benchmark: Callable[..., Any] = import_module(BENCHMARKS[name], __package__).BENCHMARKS[name]
    return benchmark
