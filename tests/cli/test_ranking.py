"""The commands about pre-trained models, from a zoo to a ranking and an ensemble."""

import json
from pathlib import Path

import numpy as np
import pytest
from published_tables import needs_tables, path

from weightzoo.cli.main import main
from weightzoo.tasks.ranking.features import Task, create_features
from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix
from weightzoo.tasks.ranking.plots import plot_scores
from weightzoo.tasks.ranking.ranking import rank_models
from weightzoo.zoos.errors import UnsuitableError


def write_features(out: Path, name: str = "toy/val", rows: int = 60, seed: int = 0) -> Path:
    """Models of falling quality, one of them with features that are not finite."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    task = Task(name=name, samples=np.arange(rows, dtype="u8"), labels=labels)
    means = np.random.default_rng(9).normal(size=(3, 4))
    with create_features(out, task, {}) as file:
        for index, noise in enumerate((0.3, 1.0, 3.0)):
            file.append(f"m{index}", means[labels] + noise * rng.normal(size=(rows, 4)), None, {})
        file.append("broken", np.full((rows, 4), np.nan), None, {})
    return out


def test_zoo_to_ranking_by_commands(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, matrix = tmp_path / "f.h5", tmp_path / "m.h5"
    zoos = [str(trained_zoo)]
    run = ["features", *zoos, "--images", "digits+invert", "--split", "target", "--shots", "5"]
    assert main([*run, "--out", str(features)]) == 0
    assert capsys.readouterr().out == f"{features}: features of 24 models\n"
    run = ["finetune-matrix", *zoos, "--targets", "digits", "digits+invert", "--epochs", "1"]
    assert main([*run, "--shots", "5", "--seeds", "1", "--workers", "1", "--out", str(matrix)]) == 0
    assert "24 models x 2 targets x 1 seeds" in capsys.readouterr().out
    assert main(["rank", str(features), "--matrix", str(matrix), "--top", "3"]) == 0
    printed = capsys.readouterr().out
    assert "task digits+invert/train, 24 models" in printed and "fixed order" in printed
    assert "'digits+invert' itself, which was not looked at" in printed
    assert "fine-tuning all of them took" in printed and printed.count("small/") == 3
    assert main(["rank", str(features), "--json", "--scores", "logme", "leep"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["ranking"]) == 24 and data["ranking"][0]["prior"] is None


def test_models_are_ranked_for_images_in_one_command(
    trained_zoo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    zoos, protocol = [str(trained_zoo)], Protocol(epochs=1, rates=(1e-3,), shots=5, seeds=2)
    finetune_matrix(zoos, ["digits", "digits/blur"], Path("m.h5"), protocol, progress=False)
    run = ["rank", *zoos, "--images", "digits/blur", "--shots", "5", "--matrix", "m.h5"]
    assert main([*run, "--plot", "p.png", "--scores", "zood-discriminability"]) == 0
    printed = capsys.readouterr()
    assert "features: digits-blur-features.h5" in printed.err
    assert "24 models" in printed.out and "'digits/blur' itself" in printed.out
    assert Path("p.png").read_bytes()[:4] == b"\x89PNG"
    kept = Path("digits-blur-features.h5").stat().st_mtime_ns
    assert main(["rank", "digits-blur-features.h5"]) == 0  # the file is kept
    assert Path("digits-blur-features.h5").stat().st_mtime_ns == kept
    assert main(["rank", *zoos, *zoos]) == 1 and "give --images" in capsys.readouterr().err


def test_plot_of_a_ranking_needs_the_truth(tmp_path: Path) -> None:
    scores, accuracy = np.arange(6.0), np.linspace(0.2, 0.8, 12).reshape(6, 2)
    tau, low, high = plot_scores(scores, accuracy, tmp_path / "p.svg")
    assert tau == pytest.approx(1) and low <= tau <= high + 1e-9
    with pytest.raises(UnsuitableError, match="at least 3 models.*got 0"):
        plot_scores(scores, np.full((6, 2), np.nan), tmp_path / "q.svg")
    assert not (tmp_path / "q.svg").exists()


def test_ranking_leaves_broken_models_out_and_says_so(tmp_path: Path) -> None:
    ranking = rank_models(write_features(tmp_path / "f.h5"))
    assert ranking.models == ("m0", "m1", "m2")
    assert "are not finite" in ranking.left_out["broken"]
    assert "rests on scores alone" in ranking.to_text(2)
    with pytest.raises(UnsuitableError, match="no model of .*reads the logits"):
        rank_models(tmp_path / "f.h5", ["leep"])
    with pytest.raises(ValueError, match="score must be one of"):
        rank_models(tmp_path / "f.h5", ["best"])


def test_ensemble_command_trains_a_head_of_the_first_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write_features(tmp_path / f"{i}.h5", seed=i)) for i in range(3)]
    run = ["ensemble", files[0], "--val", files[1], "--test", files[2], "--top", "2", "--json"]
    assert main(run) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"] == ["m0", "m1"] and result["of"] == 8
    assert result["test_accuracy"] > 0.8 and result["features"] <= 8


def test_referee_on_a_table_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = [f"m{i}," + ",".join(f"{x:.3f}" for x in rng.uniform(size=5)) for i in range(6)]
    (tmp_path / "m.csv").write_text("\n".join(["model,a,b,c,d,e", *lines]) + "\n")
    run = [
        "benchmark",
        "ranking",
        "--matrix",
        str(tmp_path / "m.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(run) == 0
    assert "| **fixed order** |" in capsys.readouterr().out
    assert json.loads((tmp_path / "o" / "result.json").read_text())["verdict"]["models"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark", "within-zoo", "--matrix", "m.h5"], "is of the benchmark 'ranking'"),
        (["benchmark", "ranking", "--scores", "s.csv"], "--scores needs --matrix"),
        (["benchmark", "ranking", "--matrix", "none.h5"], "weightzoo finetune-matrix"),
        (["rank", "none.h5"], "weightzoo features"),
        (["features", "none", "--images", "digits", "--out", "f.h5"], "weightzoo build"),
        (["finetune-matrix", "none", "--targets", "digits", "--out", "m.h5"], "weightzoo build"),
        (["features", "none", "--images", "digits", "--out", "no/f.h5"], "make 'no' first"),
    ],
)
def test_bad_input_exits_1_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("weightzoo: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@needs_tables
def test_referee_of_the_published_matrix_by_command(tmp_path: Path) -> None:
    run = ["benchmark", "ranking", "--matrix", str(path("ft_model_spider_single10.csv"))]
    scores = ["--scores", str(path("model_spider_baseline_scores.csv"))]
    assert main([*run, *scores, "--out", str(tmp_path)]) == 0
    assert "| prior + LogME | 0.778 |" in (tmp_path / "report.md").read_text()
