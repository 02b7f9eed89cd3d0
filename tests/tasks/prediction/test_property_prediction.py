import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import EPOCHS, tiny_architecture, tiny_header, tiny_rows

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.baselines.regressors import (
    Constant,
    HyperParameterBoosting,
    Predictor,
    StatisticsBoosting,
    StatisticsRidge,
)
from weightzoo.tasks.prediction.property_prediction import (
    MIN_MODELS,
    default_predictors,
    predict_property,
    usable_rows,
)
from weightzoo.zoos.format import write_zoo_file

Zoo = dict[str, ZooDataset]
Change = Callable[[dict[str, np.ndarray], np.ndarray], None]
SPLITS = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
MODELS = len(SPLITS)


def leave(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
    """Change nothing: metrics are random numbers."""


def make_zoo(folder: Path, change: Change = leave, splits: list[str] = SPLITS) -> Zoo:
    """Models with random weights at three checkpoints, then changed in place."""
    torch.manual_seed(0)  # of the tiny zoo's weights
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, splits)
    change(columns, weights)
    write_zoo_file(folder / "zoo.h5", tiny_header(architecture), columns, weights)
    zoo = load_zoo(folder / "zoo.h5")
    assert isinstance(zoo, dict)
    return zoo


def accuracy_from_lr(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
    columns["test_accuracy"][:] = 0.5 + 0.1 * np.log10(columns["lr"])


def accuracy_from_weights(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
    """The spread of the first layer's kernels sets the accuracy."""
    scale = np.random.default_rng(0).uniform(0.5, 2, len(weights)).astype(np.float32)
    weights[:, :18] *= scale[:, None]
    columns["test_accuracy"][:] = weights[:, :18].std(axis=1)


def test_statistics_predict_what_lies_in_the_weights_and_hyper_parameters_do_not(
    tmp_path: Path,
) -> None:
    predictors: list[Predictor] = [
        HyperParameterBoosting(),
        StatisticsRidge(),
        StatisticsBoosting(),
    ]
    report = predict_property(make_zoo(tmp_path, accuracy_from_weights), predictors=predictors)
    blind, ridge, boosting = report.results
    assert blind.mean("tau_b") < 0.3
    assert ridge.mean("tau_b") > 0.7 and boosting.mean("tau_b") > 0.7
    assert ridge.mean("r2") > 0.7 and boosting.mean("r2") > 0.7


def test_hyper_parameters_recover_a_target_that_depends_on_lr(tmp_path: Path) -> None:
    predictors: list[Predictor] = [Constant(), HyperParameterBoosting(), StatisticsBoosting()]
    report = predict_property(make_zoo(tmp_path, accuracy_from_lr), predictors=predictors)
    constant, from_lr, blind = report.results
    assert from_lr.mean("tau_b") > 0.8 and from_lr.mean("r2") > 0.9
    assert blind.mean("tau_b") < 0.5
    assert np.isnan(constant.mean("tau_b")) and abs(constant.mean("r2")) < 0.2


def test_report_counts_seeds_rows_and_ceiling(tmp_path: Path) -> None:
    predictors: list[Predictor] = [Constant(), HyperParameterBoosting()]
    zoo = make_zoo(tmp_path, accuracy_from_lr)
    report = predict_property(zoo, predictors=predictors, seeds=(3, 4))
    test = report.counts["test"]
    assert (test.models, test.rows, test.dropped_rows) == (20, 60, 0)
    pairs, tied = 60 * 59 / 2, 20 * 3  # each model has the same accuracy three times
    assert report.tau_ceiling == pytest.approx(np.sqrt((pairs - tied) / pairs))
    assert [result.seeds for result in report.results] == [(3,), (3, 4)]
    assert report.true.shape == report.results[1].predicted.shape == (60,)


def test_report_as_markdown_and_json(tmp_path: Path) -> None:
    predictors: list[Predictor] = [Constant(), HyperParameterBoosting()]
    report = predict_property(make_zoo(tmp_path), predictors=predictors, seeds=(0, 1))
    header, _, constant, boosting, *notes = report.to_markdown().splitlines()
    assert header.split(" | ")[1] == "τ_b" and constant.split(" | ")[1:3] == ["–", "–"]
    assert "±" in boosting and "±" not in constant
    assert any(note.startswith("–: τ_b is undefined for equal predictions") for note in notes)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["predictors"][0]["tau_b"] is None
    assert data["predictors"][1]["mae"] == report.results[1].mean("mae")


def test_report_without_constant_has_no_note_about_it(tmp_path: Path) -> None:
    report = predict_property(make_zoo(tmp_path), predictors=[StatisticsRidge()])
    assert "–" not in report.to_markdown()


def test_last_takes_one_row_per_model(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    last = usable_rows(zoo["train"], "test_accuracy", "last")
    assert len(last) == 60 and set(last.columns["epoch"]) == {EPOCHS[-1]}


def test_unusable_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    def spoil(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        weights[0, 5] = np.nan
        columns["test_accuracy"][4] = np.nan
        columns["status"][7:9] = "diverged"
        weights[-1, 0] = np.inf

    zoo = make_zoo(tmp_path, spoil)
    counts = predict_property(zoo, predictors=[Constant(), StatisticsRidge()]).counts
    assert [counts[split].dropped_rows for split in ("train", "val", "test")] == [4, 0, 1]
    assert counts["train"].rows == 60 * len(EPOCHS) - 4


def test_worker_processes_give_the_same_report(tmp_path: Path) -> None:
    predictors: list[Predictor] = [Constant(), HyperParameterBoosting()]
    zoo = make_zoo(tmp_path)
    here = predict_property(zoo, predictors=predictors, seeds=(0, 1))
    there = predict_property(zoo, predictors=predictors, seeds=(0, 1), workers=2)
    for one, other in zip(here.results, there.results, strict=True):
        assert np.array_equal(one.predicted, other.predicted)
        assert [score.mae for score in one.scores] == [score.mae for score in other.scores]


class NeverFitted:
    name, seeded = "never", True

    def fit(self, *_: object) -> None:
        raise AssertionError("training started")

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        raise AssertionError("prediction started")


def refused(zoo: Zoo, message: str, **options: object) -> None:
    arguments = {"predictors": [NeverFitted()], **options}
    with pytest.raises(ValueError, match=message):
        predict_property(zoo, **arguments)  # type: ignore[arg-type]


def test_bad_arguments_are_refused_before_training(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    refused(zoo, "numeric column, one of .*'test_loss'.*got 'accuracy'", target="accuracy")
    refused(zoo, "numeric column", target="activation")
    refused(zoo, "rows must be one of", rows="first")
    refused(zoo, "seeds must be different", seeds=(1, 1))
    refused(zoo, "at least one", seeds=())
    refused(zoo, "workers must be at least 1", workers=0)
    refused(zoo, "different names", predictors=[NeverFitted(), NeverFitted()])
    refused({"train": zoo["train"]}, r"no split \['val', 'test'\]")
    refused(zoo | {"val": zoo["test"]}, "20 models are in more than one split")


def test_constant_target_is_refused_before_training(tmp_path: Path) -> None:
    refused(make_zoo(tmp_path), "'bias_init' is 0.01 in every row", target="bias_init")


def test_too_few_models_are_refused_before_training(tmp_path: Path) -> None:
    few = ["train"] * MIN_MODELS["train"] + ["val"] * 2 + ["test"] * 3
    refused(make_zoo(tmp_path, splits=few), "split 'val' has 2 usable models, at least 3")


def test_too_few_models_are_refused_in_a_tiny_zoo(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    assert isinstance(zoo, dict)
    refused(zoo, "split 'train' has 2 usable models")


def test_hyper_parameters_that_do_not_vary_are_refused(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    lr = zoo["train"].columns["lr"][0]
    one = {split: rows.filter(lambda columns: columns["lr"] == lr) for split, rows in zoo.items()}
    one = {split: rows.filter(lambda columns: columns["epoch"] == 2) for split, rows in one.items()}
    with pytest.raises(ValueError, match="none of the hyper-parameters"):
        HyperParameterBoosting().fit(one["train"], one["val"], "test_accuracy", 0)


def test_hyper_parameter_baseline_reads_no_weights_and_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, baseline = make_zoo(tmp_path, accuracy_from_lr), HyperParameterBoosting()
    monkeypatch.setattr(ZooDataset, "weights", None)
    baseline.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
    hyper_parameters = [*zoo["test"].header.hyper_parameters, "epoch"]
    told = zoo["test"].select_columns(hyper_parameters)
    assert np.array_equal(baseline.predict(told), baseline.predict(zoo["test"]))
    with pytest.raises(ValueError, match=r"has no hyper-parameters .*'lr'"):
        baseline.predict(zoo["test"].select_columns(["test_accuracy"]))


def test_default_predictors_are_named_in_order() -> None:
    names = [predictor.name for predictor in default_predictors()]
    assert names[0] == "constant" and names[1].startswith("hyper") and names[-1] == "SNE"


def test_report_names_the_ceilings_of_test_accuracy(tmp_path: Path) -> None:
    def counted(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        for name in ("test_accuracy", "val_accuracy"):
            columns[name] = (np.round(columns[name] * 300) / 300).astype(np.float32)

    zoo = make_zoo(tmp_path, counted)
    report = predict_property(zoo, predictors=[Constant()])
    assert report.accuracy is not None and report.accuracy.images == 300
    text, data = report.to_markdown(), report.to_json()
    assert f"Measurement ceiling of τ_b: {report.accuracy.measurement:.3f}" in text
    assert f"Oracle, accuracy on val images: τ_b {report.accuracy.oracle:.3f}" in text
    assert f"Above chance: {report.accuracy.above_chance:.0%} of the test rows" in text
    assert data["accuracy"]["images"] == 300
    other = predict_property(zoo, "generalization_gap", predictors=[Constant()])
    assert other.accuracy is None and "accuracy" not in other.to_json()
