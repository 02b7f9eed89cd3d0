"""The benchmark `dynamics`: cutting runs, leaks, and the whole on a small zoo."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.dynamics import benchmark
from weightzoo.benchmarks.dynamics.benchmark import dynamics_benchmark, zoo_plan
from weightzoo.benchmarks.dynamics.forecasts import CurveForecast, is_early_measure
from weightzoo.benchmarks.dynamics.nowcasts import _errors, mean_interval, median_interval
from weightzoo.benchmarks.dynamics.runs import FINAL_ACCURACY, Horizon, Runs, cut_runs
from weightzoo.builders.build import build_zoo
from weightzoo.loaders.load import ZooDataset, load_zoo
from weightzoo.tasks.dynamics.settings import AnalysisSettings
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.recipe import load_recipe


def longer(split: ZooDataset) -> ZooDataset:
    """The tiny zoo with the epochs 0, 1, 6 in place of 0, 1, 2."""
    return split.map(lambda batch: {"epoch": np.where(batch["epoch"] == 2, 6, batch["epoch"])})


@pytest.fixture
def split(tiny_zoo: Path) -> ZooDataset:
    return longer(load_zoo(tiny_zoo)["train"])


def test_the_first_third_of_the_epochs_is_known(tiny_zoo: Path) -> None:
    plan = zoo_plan(small=False)
    assert plan.models == 1000 and zoo_plan(small=True).models == 150
    with pytest.raises(UnsuitableError, match="needs 3 checkpoints in the first third"):
        Horizon.of(load_zoo(tiny_zoo))


def test_runs_hold_known_and_last_checkpoints_of_the_same_models(split: ZooDataset) -> None:
    runs = Runs.of(split, Horizon((0, 1), 6))
    columns = split.columns
    assert len(runs) == 2 and runs.left_out == 0
    assert (columns["epoch"][runs.rows] == [[0, 1], [0, 1]]).all()
    ids = runs.known.columns["model_id"]
    assert (columns["model_id"][runs.last_rows] == ids).all()
    assert (runs.known.columns["epoch"] == 1).all()
    wanted = columns["test_accuracy"][runs.last_rows]
    np.testing.assert_array_equal(runs.known.columns[FINAL_ACCURACY], wanted)
    assert torch.equal(runs.weights()[:, 1], runs.known.weights())


def test_a_diverged_run_is_left_out_and_counted(split: ZooDataset) -> None:
    broken = split.map(
        lambda batch: {
            "status": np.where(
                (batch["model_id"] == 1) & (batch["epoch"] == 6), "diverged", batch["status"]
            ).astype(object)
        }
    )
    runs = Runs.of(broken, Horizon((0, 1), 6))
    assert len(runs) == 1 and runs.left_out == 1


def test_a_run_with_an_unknown_measure_is_left_out(split: ZooDataset) -> None:
    unknown = split.map(
        lambda batch: {
            "generalization_gap": np.where(batch["model_id"] == 0, np.nan, 0.1).astype(np.float32)
        }
    )
    runs = Runs.of(unknown, Horizon((0, 1), 6))
    assert runs.known.columns["model_id"].tolist() == [1] and runs.left_out == 1


def test_a_split_that_is_missing_is_named(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    with pytest.raises(UnsuitableError, match=r"missing are \['val'\]"):
        cut_runs({"train": zoo["train"], "test": zoo["test"]})


def test_no_feature_looks_at_a_later_checkpoint() -> None:
    """Columns whose value at an early checkpoint needs the last one, or is of the last one only."""
    later = ("agreement_with_last", "barrier", "barrier_aligned", "barrier_partner")
    assert not any(map(is_early_measure, later))
    assert not any(map(is_early_measure, ("test_accuracy", "final_gap", "generalization_gap")))
    assert all(map(is_early_measure, ("path_length", "alpha_conv1", "agreement", "hessian_trace")))


def test_the_line_of_a_curve_is_chosen_on_val_and_stays_inside_its_range(split: ZooDataset) -> None:
    runs = Runs.of(split, Horizon((0, 1), 6))
    forecast = CurveForecast("line", Horizon((0, 1), 6))
    forecast.fit(runs.known, runs.known, FINAL_ACCURACY, 0)
    found = forecast.predict(runs.known)
    first, second = (runs.known.columns[f"val_accuracy_{epoch}"] for epoch in (0, 1))
    wanted = np.clip(first + 6 * (second - first), -1, 1)
    assert forecast.setting == "last points: 2"
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_model_that_does_not_move_is_left_out_of_the_errors(split: ZooDataset) -> None:
    runs = Runs.of(split, Horizon((0, 1), 6))
    still = SimpleNamespace(
        weights=runs.weights,
        last_weights=lambda: runs.weights()[:, -1].clone().index_fill_(0, torch.tensor([1]), 0.0),
    )
    errors = _errors(runs.weights()[:, -1], still)  # type: ignore[arg-type]
    assert errors.tolist() == [1]
    assert median_interval(np.ones(9)) == (1, 1)


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = mean_interval(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


@pytest.mark.slow
def test_the_benchmark_answers_its_questions_on_a_small_zoo(tmp_path: Path) -> None:
    recipe = load_recipe("digits-mlp")
    recipe = replace(
        recipe,
        factors=recipe.factors | {"train_fraction": 0.1, "dropout": 0.0},
        seeds=60,
        epochs=6,
        checkpoints=(0, 1, 2, 6),
    )
    build_zoo(recipe, tmp_path / "zoo", workers=1, progress=False)
    options = BenchmarkOptions(
        out=tmp_path / "out", zoos={"zoo": tmp_path / "zoo"}, seeds=(0,), progress=False
    )
    outcome = dynamics_benchmark(options)
    data = json.loads(Path(outcome.data["path"]).read_text())
    assert data["horizon"] == {"known": [0, 1, 2], "last": 6}
    scores = {
        one["predictor"]: one["scores"][0]["r2"]
        for one in data["forecasts"]
        if one["target"] == "final_accuracy"
    }
    assert len(scores) == 11 and scores["early curve + boosting"] > scores["constant"]
    errors = {one["method"]: one["error"] for one in data["nowcasts"]}
    assert errors["last value"] == pytest.approx(1) and errors["true later weights"] == 0
    assert errors["learned steps"] < 1
    assert set(data["gap"]) == {"last", "last, trained", "early"}
    assert "## Weights at epoch 6" in outcome.text


def test_a_finished_analysis_is_not_repeated(
    tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[Path]()
    out = tmp_path / "out"

    def analyse(zoo: Path, folder: Path, **given: object) -> SimpleNamespace:
        calls.append(folder)
        (folder / "tiny").mkdir(parents=True, exist_ok=True)
        data = {"zoo": "tiny", "settings": AnalysisSettings(epochs=(1, 2)).to_json()}
        (folder / "report.json").write_text(json.dumps(data))
        return SimpleNamespace(zoo=folder / "tiny")

    monkeypatch.setattr(benchmark, "analyse_zoo", analyse)
    options = BenchmarkOptions(out=out, progress=False)
    for epochs in ((1, 2), (1, 2), (0, 2)):
        found = benchmark._analysed(tiny_zoo, AnalysisSettings(epochs=epochs), options)
        assert found == out / "analysed" / "tiny"
    assert len(calls) == 2
