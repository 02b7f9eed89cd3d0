"""Paired comparisons of predictors: the same models on both sides, and corrected intervals."""

from typing import Any

import numpy as np
import pytest

from weightzoo.benchmarks import comparisons as module
from weightzoo.benchmarks.comparisons import (
    comparison_table,
    comparisons,
    kept_predictions,
    without_predictions,
)
from weightzoo.tasks.scoring.ranks import tau_b

MODELS = 60
TRUE = np.random.default_rng(0).random(MODELS)


def predictions(noise: float, seed: int) -> dict[str, list[float]]:
    drawn = np.random.default_rng(seed + 1).standard_normal(MODELS)
    inputs = {"true": TRUE, "predicted": TRUE + noise * drawn, "model_id": np.arange(MODELS)}
    return kept_predictions(inputs)


def run(name: str, noise: float, seed: int, zoo: str = "a", **changes: Any) -> dict[str, Any]:
    made = {"predictor": {"name": name}, "target": "t", "fraction": 1.0, "seed": seed}
    kept = {zoo: predictions(noise, seed)}
    return made | {"sources": ["a"], "scores": {}, "predictions": kept} | changes


def result(layout: str = "rows", metric: str = "tau_b") -> dict[str, Any]:
    return {"layout": layout, "metric": metric, "target": "t"}


def test_difference_is_the_mean_over_fits_and_its_interval_is_paired() -> None:
    runs = [run("SNE", 0.1, seed) for seed in range(3)]
    runs += [run("DeepSets", 0.3, seed) for seed in range(3)]
    [found] = comparisons(result(), runs)
    means = [
        np.mean([tau_b(TRUE, np.array(one["predictions"]["a"]["predicted"])) for one in own])
        for own in (runs[:3], runs[3:])
    ]
    assert found["difference"] == pytest.approx(means[0] - means[1], abs=1e-6)
    assert found["low"] > 0 and (found["fits"], found["zoos"], found["pairs"]) == (3, 1, 1)
    equal = comparisons(result(), [run("SNE", 0.1, 0), run("DeepSets", 0.1, 0)])
    assert (equal[0]["low"], equal[0]["high"]) == (0, 0)  # the same draws on both sides


def test_more_pairs_have_wider_intervals() -> None:
    two = [run("SNE", 0.1, 0), run("DeepSets", 0.2, 0)]
    [alone] = comparisons(result(), two)
    among = comparisons(result(), [*two, run("DWSNet", 0.2, 0), run("NFT", 0.2, 0)])[0]
    assert (among["first"], among["second"], among["pairs"]) == ("SNE", "DeepSets", 3)
    assert among["low"] < alone["low"] and among["high"] > alone["high"]


def test_matrix_compares_zoos_that_no_side_was_trained_on() -> None:
    runs = [run("SNE", 0.1, 0, "b"), run("DeepSets", 0.5, 0, "b")]
    runs += [run("SNE", 9.0, 0, "a"), run("SNE", 9.0, 0, "b", sources=["a", "c"])]
    [found] = comparisons(result("matrix"), runs)
    assert found["low"] > 0 and found["zoos"] == 1


def test_older_runs_without_predictions_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    older = [without_predictions(run(name, 0.1, 0)) for name in ("SNE", "DeepSets")]
    assert comparisons(result(), older) == []
    assert comparison_table(result(), "τ_b") == ""


def test_accuracies_of_classes_are_compared_on_the_same_models() -> None:
    right = {"first": [[1, 1, 0, 1], [1, 1, 1, 1]], "second": [[1, 0, 0, 0], [1, 0, 0, 1]]}
    runs = [
        run(name, 0, seed)
        | {"predictions": {"a": {"true": [1] * 4, "predicted": fit, "model_id": [0, 1, 2, 3]}}}
        for name, fits in right.items()
        for seed, fit in enumerate(fits)
    ]
    named = [("first", "second"), ("first", "absent")]
    [found] = comparisons(result(metric="accuracy"), runs, named)
    assert found["difference"] == pytest.approx(0.5) and found["fits"] == 2
    assert found["low"] <= 0.5 <= found["high"]


def test_table_marks_intervals_without_zero() -> None:
    found = comparisons(result(), [run("SNE", 0.1, 0), run("DeepSets", 0.5, 0), run("NFT", 0.1, 0)])
    text = comparison_table(result() | {"comparisons": found}, "τ_b")
    assert "| SNE | DeepSets | +" in text and "| SNE | NFT | +0.000 [+0.000, +0.000] |" in text
    assert text.count("] \\*") == 1 and "corrected for 2 comparisons" in text


def test_pairs_name_predictors_of_the_benchmarks() -> None:
    from weightzoo.benchmarks import predictors
    from weightzoo.benchmarks.inrs.predictors import frequency_predictors

    made = [*predictors.baselines(), *predictors.encoders("full"), *predictors.crossing("full")]
    names = {one.name for one in [*made, *frequency_predictors("full")]}
    assert {name for pair in module.PAIRS for name in pair} <= names
