"""Benchmarks by name."""

import pytest

from weightzoo.benchmarks import definitions, generation, probes
from weightzoo.benchmarks.dynamics import benchmark as dynamics
from weightzoo.benchmarks.inrs import definitions as inrs
from weightzoo.benchmarks.inrs import editing
from weightzoo.benchmarks.merging import benchmark as merging
from weightzoo.benchmarks.merging import language
from weightzoo.benchmarks.ranking import benchmark as ranking
from weightzoo.benchmarks.registry import BENCHMARKS, load_benchmark


def test_benchmarks_are_registered() -> None:
    assert load_benchmark("generation") is generation.generation_benchmark
    assert load_benchmark("hyper-representation-probes") is probes.probe_benchmark
    assert all(callable(load_benchmark(name)) for name in BENCHMARKS)
    modules = (definitions, generation, probes, ranking, dynamics, merging, language, inrs, editing)
    assert set(BENCHMARKS) == {name for module in modules for name in module.BENCHMARKS}


def test_unknown_benchmark_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="one of .*'within-zoo'.*, got 'beauty'"):
        load_benchmark("beauty")
