"""The benchmark of image classes on a tiny zoo."""

import json
from pathlib import Path

import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.inrs import definitions
from weightzoo.benchmarks.inrs.predictors import inr_classifiers
from weightzoo.benchmarks.predictors import trained
from weightzoo.benchmarks.registry import load_benchmark
from weightzoo.tasks.baselines.regressors import Constant
from weightzoo.tasks.baselines.rendered_images import RenderedImages


def test_classes_of_inrs_are_predicted_and_compared_by_model(
    inr_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = trained("flat MLP", "flat-mlp", {"widths": [4]}, epochs=1)
    predictors = [Constant(), flat, RenderedImages()]
    monkeypatch.setattr(definitions, "inr_classifiers", lambda size: predictors)
    options = BenchmarkOptions(
        out=tmp_path, size="small", seeds=(0,), zoos={"inrs": inr_zoo}, progress=False
    )
    outcome = load_benchmark("inr-classification")(options)
    data = json.loads((tmp_path / "result.json").read_text())
    assert len(data["runs"]) == 3
    for run in data["runs"]:
        assert "predictions" not in run and 0 <= run["scores"]["inrs"]["accuracy"] <= 1
    assert "| ceiling: rendered images |" in outcome.text
    assert "| DWSNet | flat MLP |" not in outcome.text  # no score of DWSNet


def test_pairs_of_the_benchmark_name_its_predictors() -> None:
    names = {predictor.name for predictor in inr_classifiers("small")}
    assert {name for pair in definitions.LABEL_PAIRS for name in pair} <= names
