"""The generation benchmark: rows learned from, methods, change of architecture, reports."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.generation import generation_benchmark, run_job
from weightzoo.benchmarks.generation_outcome import (
    GenerationSettings,
    Job,
    Outcome,
    generation_settings,
)
from weightzoo.benchmarks.generation_report import (
    leaderboard_section,
    table,
    write_generation_report,
)
from weightzoo.builders.build import build_zoo
from weightzoo.cli.main import main
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.learnable_rows import best_hyper_parameters, homogeneous
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
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


def test_benchmark_names_a_zoo_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["benchmark", "generation", "--zoo", "nowhere", "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "--zoo must be a zoo folder" in capsys.readouterr().err


def test_generation_benchmark_reports_every_method(
    trained_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"latent": 4, "width": 8, "heads": 1, "blocks": 1}
    tiny = AutoencoderSettings(shape=shape, epochs=1, progress=False)

    def settings(small: bool, seeds: Sequence[int], transfer: str) -> GenerationSettings:
        asked = generation_settings(small, seeds, transfer)
        behaviour = replace(tiny, structure=asked.behaviour.structure, queries=4)
        less: dict[str, Any] = {
            "least_rows": 1,
            "models": 2,
            "epochs": (0, 1),
            "few_epochs": (0,),
            "least_epoch": 1,
        }
        return replace(asked, structure=tiny, behaviour=behaviour, **less)

    monkeypatch.setattr("weightzoo.benchmarks.generation.generation_settings", settings)
    outcome = generation_benchmark(
        BenchmarkOptions(
            out=tmp_path, size="small", seeds=(0,), zoos={"small": trained_zoo}, progress=False
        )
    )
    rows = json.loads((tmp_path / "generation.json").read_text())["rows"]
    own = {row["method"] for row in rows if row["images"] == "digits"}
    assert len(own) == 21 and all(f"| {method} |" in outcome.text for method in own)
    assert {"B_T", "B_F", "B_KDE30", "S_KDE30", "S_KDE30, plain loss", "SUB30 + behaviour"} <= own
    assert "S_KDE30 as in the published code" in own
    assert "comparable with the published 68.6 %" in outcome.text
    moved = {row["method"] for row in rows if row["images"] == "glyphs-digits"}
    assert moved == {"B_T", "B_F", "S_KDE30 + behaviour"}
    assert "No change of architecture" in outcome.text  # an MLP
    assert outcome.path.read_text() == outcome.text
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("curves", "layers"))
