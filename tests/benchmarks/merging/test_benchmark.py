"""The merging benchmark in miniature, and the arithmetic of its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.leaderboard import leaderboard_text
from weightzoo.benchmarks.merging import benchmark, rows
from weightzoo.benchmarks.merging.benchmark import merging_benchmark
from weightzoo.benchmarks.merging.plan import (
    CLASS_GROUPS,
    FULL,
    SCENARIOS,
    SMALL,
    Size,
    check_size,
    children,
    image_file,
)
from weightzoo.benchmarks.merging.report import (
    SINGLE,
    _overfitting,
    account,
    difference,
    summarised,
)
from weightzoo.tasks.merge_methods import calibration
from weightzoo.tasks.merging import search
from weightzoo.zoos.errors import MergeError
from weightzoo.zoos.images.catalog import load_images


def unit(single: float, mean: float) -> dict[str, Any]:
    def row(test: float) -> dict[str, float]:
        return {"val": test + 0.01, "test": test, "evaluations": 3}

    return {"rows": {SINGLE: row(single), "mean": row(mean)}}


def test_differences_are_taken_within_each_family() -> None:
    units = [unit(0.5, 0.6), unit(0.8, 0.85), unit(0.3, 0.42)]
    mean, (low, high) = difference(units, "mean", SINGLE)
    assert mean == pytest.approx((0.1 + 0.05 + 0.12) / 3)
    assert 0.0499 <= low <= mean <= high <= 0.1201
    assert summarised(units)["mean"]["gap"] == pytest.approx(0.01)


def test_account_names_only_rows_beyond_their_interval() -> None:
    better = account(summarised([unit(0.5, 0.6), unit(0.8, 0.85)]))
    assert "beyond the interval: mean. Worse: none." in better
    mixed = account(summarised([unit(0.5, 0.6), unit(0.8, 0.75)]))
    assert "beyond the interval: none. Worse: none." in mixed


def test_cost_of_few_val_images_is_what_a_choice_loses_on_test() -> None:
    few = {"20": {"mean": {"val": 0.9, "test": 0.5}}}
    units = [unit(0.5, 0.6) | {"overfitting": few}, unit(0.8, 0.7) | {"overfitting": few}]
    whole, cost = _overfitting(units)[2:]
    assert whole == "| mean | all | 0.650 (+0.010) | |"
    assert cost == "| mean | 20 | 0.500 (+0.400) | +0.150 [+0.100, +0.200] |"


def test_children_of_classes_see_one_image_of_every_other_class(tmp_path: Path) -> None:
    images = load_images(image_file(tmp_path, "rotate", 1))
    counts = np.bincount(images.train.labels.numpy(), minlength=10)
    assert (counts[list(CLASS_GROUPS[1])] == 200).all() and sorted(counts)[:7] == [1] * 7
    assert len(images.val) == 500 and images.classes == 10
    assert len({child.name for group in children(FULL).values() for child in group}) == 13


def test_run_of_another_size_is_not_continued(tmp_path: Path) -> None:
    check_size(tmp_path, SMALL)
    check_size(tmp_path, SMALL)
    with pytest.raises(ValueError, match="holds a run of another size, .*choose another --out"):
        check_size(tmp_path, FULL)


def test_missing_package_of_a_search_is_named_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    options = BenchmarkOptions(out=tmp_path, size="small", progress=False)
    with pytest.raises(MergeError, match=r"needs the package cmaes: pip install .weightzoo.search"):
        merging_benchmark(options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_benchmark_compares_all_methods_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cmaes", reason="the extra 'search' is not installed")
    monkeypatch.setattr(benchmark, "SMALL", Size(1, 1, (1e-3,), 4, 1, 0, 2))
    monkeypatch.setattr(benchmark, "SCENARIOS", {"classes": SCENARIOS["classes"]})
    monkeypatch.setattr(rows, "SCALES", (0.5,))
    monkeypatch.setattr(rows, "FEW_IMAGES", (20,))
    monkeypatch.setattr(calibration, "EXAMPLES", 16)
    options = BenchmarkOptions(out=tmp_path, size="small", seeds=(0,), command="x", progress=False)
    outcome = merging_benchmark(options)
    found = outcome.data["units"][0]["rows"]
    assert {"base", "wudi", "search: cma", "regmean++", "rule, base known"} <= set(found)
    gated, oracle = found["mixture of members: trained gate"], found["oracle over members"]
    assert oracle["test"] >= gated["test"]
    assert "| fisher |" in outcome.text and (tmp_path / "plot.png").stat().st_size > 5000
    first = json.loads((tmp_path / "result.json").read_text())["units"]
    assert merging_benchmark(options).data["units"] == first
    assert "## merging" in leaderboard_text(tmp_path, tmp_path / "LEADERBOARD.md")
    with pytest.raises(ValueError, match="builds its own families"):
        merging_benchmark(BenchmarkOptions(out=tmp_path, zoos={"a": tmp_path}))
