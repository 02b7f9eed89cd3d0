"""What the generation benchmark learns from, and its change of architecture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.generation import run_job
from weightzoo.benchmarks.generation_outcome import Job, Outcome, generation_settings
from weightzoo.benchmarks.generation_report import (
    leaderboard_section,
    table,
    write_generation_report,
)
from weightzoo.builders.build import build_zoo
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.learnable_rows import best_hyper_parameters, homogeneous
from weightzoo.zoos.recipe import load_recipe

METHODS = ("B_T", "B_F", "B_KDE30")
SETTINGS = replace(
    generation_settings(True, (0,), None),
    models=2,
    epochs=(0, 1),
    few_epochs=(0,),
    least_epoch=1,
)


@pytest.fixture(scope="module")
def mixed_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 CNN-s of two activations and many learning rates."""
    recipe = load_recipe("digits-cnn-seed")
    factors = recipe.factors | {
        "activation": {"choice": ["relu", "tanh"]},
        "lr": {"log_uniform": [1e-3, 2e-2]},
    }
    recipe = replace(recipe, factors=factors, seeds=16, epochs=2, checkpoints=(0, 1, 2))
    folder = tmp_path_factory.mktemp("zoos") / "mixed"
    build_zoo(recipe, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def train(mixed_zoo: Path) -> ZooDataset:
    rows = load_zoo(mixed_zoo, split="train")
    assert isinstance(rows, ZooDataset)
    return rows


@pytest.fixture(scope="module")
def outcome(mixed_zoo: Path) -> Outcome:
    return run_job(mixed_zoo, SETTINGS, Job("weights", 0))


@pytest.mark.parametrize(("winner", "other"), [("relu", "tanh"), ("tanh", "relu")])
def test_learnable_rows_are_of_the_activation_that_leads(
    train: ZooDataset, winner: str, other: str
) -> None:
    columns = train.columns
    trained = np.where(columns["activation"] == winner, columns["val_accuracy"], -1)
    kept = (columns["activation"] == other) & (columns["epoch"] == 0)
    kept[trained.argsort()[-2:]] = True
    rows = train.filter(lambda columns: kept)
    assert (rows.columns["activation"] == other).sum() > 2  # the commonest
    assert set(homogeneous(rows, 0).columns["activation"]) == {winner}


def test_fine_tuning_is_as_of_the_best_model(train: ZooDataset) -> None:
    for epoch in (0, 1, 2):
        rows = train.filter(f"epoch == {epoch}")
        best = rows.columns["val_accuracy"].argmax()
        values = best_hyper_parameters(rows)
        assert values.lr == rows.columns["lr"][best] and type(values.lr) is float
        assert values.activation == rows.columns["activation"][best] and values.dropout == 0


def test_benchmark_moves_weights_into_related_architectures(outcome: Outcome) -> None:
    moved = [row for row in outcome.rows if row.architecture != "cnn-s"]
    names = ("cnn-s + conv", "cnn-s + skipped conv")
    assert [(row.architecture, row.method) for row in moved] == [
        (name, method) for name in names for method in METHODS
    ]
    assert all(row.found.epochs == (0, 1) and row.found.broken == 0 for row in moved)
    assert all(np.isnan(row.found.nearest_distance) for row in moved)


@pytest.fixture(scope="module")
def whole(outcome: Outcome) -> Outcome:
    """With what an autoencoder's job adds."""
    share = {split: {"all": 0.5} for split in ("train", "val")}
    latent = {"latent": np.eye(3), "test_accuracy": np.ones(3), "epoch": np.ones(3)}
    return replace(outcome, reconstruction={"autoencoder": share}, latent=latent)


def test_report_has_tables_of_the_change_of_architecture(
    outcome: Outcome, whole: Outcome, tmp_path: Path
) -> None:
    text = write_generation_report(tmp_path, "mixed", SETTINGS, {Job("weights", 0): whole}, "run")
    assert f"Learned from {outcome.learned['rows']} train rows" in text
    for name in ("cnn-s + conv", "cnn-s + skipped conv"):
        part = text.split(f"## Change of architecture to {name}\n\n")[1].split("\n\n")[0]
        assert [line.split(" | ")[0] for line in part.splitlines()[2:]] == [
            f"| {method}" for method in METHODS
        ]


def test_leaderboard_says_which_row_is_comparable_with_the_published_one(
    outcome: Outcome, whole: Outcome, tmp_path: Path
) -> None:
    folder = tmp_path / "generation"
    text = write_generation_report(folder, "mixed", SETTINGS, {Job("weights", 0): whole}, "run")
    data = json.loads((folder / "generation.json").read_text())
    own = [row for row in outcome.rows if row.architecture == "cnn-s"]
    assert table(own) in text and table(own) in leaderboard_section(data)
    assert "comparable with the published 68.6 %" in leaderboard_section(data)
