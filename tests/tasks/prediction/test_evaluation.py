"""`weightzoo evaluate`: scores on another zoo, constants beside them, models that were seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weightzoo import write_zoo
from weightzoo.cli.main import main
from weightzoo.tasks.prediction.evaluation import evaluate_model
from weightzoo.tasks.prediction.trained import train_property
from weightzoo.tasks.training.settings import TrainOptions
from weightzoo.zoos.strict_json import json_text

SPLITS = ["train"] * 36 + ["val"] * 12 + ["test"] * 12


def networks(first_seed: int, labels: bool = False) -> tuple[list[nn.Module], dict[str, list[Any]]]:
    """60 linear networks whose target is written in the mean of their weights."""
    modules, values = [], []
    for seed in range(60):
        torch.manual_seed(first_seed + seed)
        network, value = nn.Linear(4, 3), seed % 12 / 12
        with torch.no_grad():
            network.weight += 4 * (seed % 3 if labels else value)
        modules.append(network)
        values.append(seed % 3 if labels else value)
    return modules, {"label" if labels else "test_accuracy": values}


def written(folder: Path, first_seed: int, labels: bool = False) -> Path:
    modules, columns = networks(first_seed, labels)
    write_zoo(folder, modules, columns, name=folder.name, licence="mit", splits=SPLITS)
    return folder


def trained(zoo: Path, out: Path, target: str = "test_accuracy") -> Path:
    settings = {"epochs": 60, "patience": 60, "batch_size": 8, "lr": 0.01, "progress": False}
    settings |= {} if target == "label" else {"select": "mse"}
    options = TrainOptions(zoos=[zoo], out=out, target=target, settings=settings)
    train_property("flat-mlp", options)
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained encoder, and the zoo that it was trained on."""
    folder = tmp_path_factory.mktemp("evaluation")
    return trained(zoo := written(folder / "own", 0), folder / "model"), zoo


def test_held_out_zoo_is_scored_beside_constants(model: tuple[Path, Path], tmp_path: Path) -> None:
    found = evaluate_model(model[0], written(tmp_path / "other", 100))
    scores, constants = found.scores, found.baselines
    assert scores["models"] == 60 and found.seen.is_known and found.seen.rows == 0
    low, high = scores["intervals"]["mae"]
    assert low <= scores["mae"] <= high < constants["mean here"]["mae"]
    assert constants["mean here"]["r2"] == pytest.approx(0)
    true = np.array([seed % 12 / 12 for seed in range(60)])
    constant = float(true[:36].mean())
    wanted = float(np.abs(true - constant).mean())
    assert constants["mean of the training"]["mae"] == pytest.approx(wanted, abs=1e-6)
    assert "warning" not in found.to_text() and "ceiling of tau_b" in found.to_text()


def test_models_of_the_training_are_found_and_left_out_of_a_second_score(
    model: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate_model(*model)
    assert (found.seen.models, found.seen.rows) == (48, 48)
    assert found.unseen_scores is not None and found.unseen_scores["models"] == 12
    assert (
        "warning: 48 models (48 rows) of this zoo were in the model's training" in found.to_text()
    )
    assert main(["evaluate", *map(str, model), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["seen"]["models"] == 48 and data["scores"]["rows"] == 60


def test_model_that_lists_no_training_is_said_to_be_unknown(
    model: tuple[Path, Path], tmp_path: Path
) -> None:
    config = json.loads((model[0] / "config.json").read_text())
    del config["training"]["fingerprints"], config["training"]["train_constant"]
    for name in ("model.safetensors", "README.md"):
        (tmp_path / name).write_bytes((model[0] / name).read_bytes())
    (tmp_path / "config.json").write_text(json_text(config))
    found = evaluate_model(tmp_path, model[1])
    assert list(found.baselines) == ["mean here"]
    assert "the model does not list its training" in found.to_text()


def test_classes_are_scored_with_confusion(tmp_path: Path) -> None:
    model = trained(written(tmp_path / "own", 0, labels=True), tmp_path / "model", "label")
    found = evaluate_model(model, written(tmp_path / "other", 100, labels=True))
    scores = found.scores
    counts = np.array(scores["confusion"]["counts"])
    assert scores["confusion"]["categories"] == [0, 1, 2] and counts.sum() == 60
    assert scores["accuracy"] == pytest.approx(np.trace(counts) / 60) and scores["accuracy"] > 0.8
    recalls = np.diag(counts) / counts.sum(axis=1)
    assert scores["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found.baselines["most frequent class here"]["accuracy"] == pytest.approx(1 / 3)
    low, high = scores["intervals"]["balanced_accuracy"]
    assert low <= scores["balanced_accuracy"] <= high


def test_zoo_without_the_target_is_an_error(model: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 usable rows with a finite 'test_accuracy'"):
        evaluate_model(model[0], written(tmp_path / "classes", 0, labels=True))
