"""What test accuracy can be predicted to at all."""

from pathlib import Path

import numpy as np
import pytest
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.baselines.regressors import ValAccuracy
from weightzoo.tasks.scoring.accuracy_ceilings import (
    accuracy_ceilings,
    image_count,
    measurement_ceiling,
    rows_above_chance,
)
from weightzoo.tasks.scoring.evaluator import Evaluator, evaluation_inputs
from weightzoo.tasks.scoring.metrics import kendall_tau
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.format import write_zoo_file


def accuracies(images: int, models: int = 200, seed: int = 0) -> np.ndarray:
    """Half of the models at chance, half anywhere above."""
    rng = np.random.default_rng(seed)
    true = np.where(np.arange(models) % 2, 0.1, rng.uniform(0.3, 0.95, models))
    return (rng.binomial(images, true) / images).astype(np.float32)


@pytest.mark.parametrize("images", [10, 300, 359, 5000, 10_000])
def test_image_count_is_found_from_float32_accuracies(images: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, images + 1, 400) / images
    assert image_count(values.astype(np.float32)) == images


def test_image_count_is_unknown_for_means_and_few_values() -> None:
    assert image_count(np.random.default_rng(0).random(100)) is None
    assert image_count(np.array([0.1, 0.2, 0.1])) is None
    assert image_count(np.arange(100.0)) is None


def test_measurement_ceiling_is_the_tau_of_two_measurements_and_rises_with_images() -> None:
    true = np.linspace(0.1, 0.9, 300)
    rng = np.random.default_rng(1)
    measured = [kendall_tau(*(rng.binomial(300, true) for _ in range(2))) for _ in range(30)]
    assert measurement_ceiling(true, 300) == pytest.approx(np.mean(measured), abs=0.005)
    assert measurement_ceiling(true, 30) + 0.05 < measurement_ceiling(true, 300) < 1
    assert measurement_ceiling(true, 100_000) > 0.99


@pytest.fixture
def rows(tmp_path: Path) -> ZooDataset:
    """Checkpoints of 60 models with accuracies on 300 val and 300 test images."""
    columns, weights = tiny_rows(tiny_architecture(), ["test"] * 60)
    for seed, name in enumerate(("test_accuracy", "val_accuracy")):
        columns[name] = accuracies(300, len(weights), seed)
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(tiny_architecture()), columns, weights)
    return load_zoo(tmp_path / "zoo.h5", split="test")


def test_models_at_chance_are_told_from_those_above(rows: ZooDataset) -> None:
    true = rows.columns["test_accuracy"]
    classes = tiny_architecture().shapes()[-1][0]
    above = rows_above_chance(rows, "test_accuracy")
    assert above is not None and 0.4 < above.mean() < 0.52
    assert true[above].min() > 1 / classes > np.median(true[~above]) - 0.05
    assert rows_above_chance(rows, "val_accuracy") is None
    assert evaluation_inputs(rows, "test_accuracy", true)["above_chance"].tolist() == above.tolist()


def test_ceilings_of_a_zoo_hold_the_oracle_and_the_measurement(rows: ZooDataset) -> None:
    found = accuracy_ceilings(rows, "test_accuracy")
    assert found is not None and found.images == 300
    assert found.measurement is not None and 0.5 < found.measurement < 0.95
    columns = rows.columns
    oracle = ValAccuracy()
    oracle.fit(rows, rows, "test_accuracy", seed=0)
    assert np.array_equal(oracle.predict(rows), columns["val_accuracy"])
    assert found.oracle == kendall_tau(columns["test_accuracy"], columns["val_accuracy"])
    without = rows.remove_columns("val_accuracy")
    with pytest.raises(UnsuitableError, match="no column 'val_accuracy'"):
        oracle.predict(without)
    bare = accuracy_ceilings(without, "test_accuracy")
    assert bare is not None and bare.oracle is None and bare.measurement == found.measurement


def test_oracle_is_of_test_accuracy_alone(rows: ZooDataset) -> None:
    with pytest.raises(UnsuitableError, match="predicts 'test_accuracy', not 'epoch'"):
        ValAccuracy().fit(rows, rows, "epoch", seed=0)
    assert accuracy_ceilings(rows, "epoch") is None


def test_evaluator_scores_rows_above_chance_apart() -> None:
    true = accuracies(300).astype(np.float64)
    rng = np.random.default_rng(2)
    above = true > 0.2
    predicted = np.where(above, true, rng.random(len(true)) * 0.1)
    inputs = {"true": true, "predicted": predicted, "model_id": np.arange(len(true))}
    scores = Evaluator("test_accuracy").eval(inputs | {"above_chance": above}, resamples=0)
    assert scores["above_chance"]["tau_b"] == pytest.approx(1) and scores["tau_b"] < 0.9
    assert scores["above_chance"]["rows"] == above.sum()
    assert scores["above_chance"]["share"] == pytest.approx(above.mean())
    assert "above_chance" not in Evaluator("test_accuracy").eval(inputs, resamples=0)
