"""`weightzoo train`, `predict` and `embed`, on a small trained zoo."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks.prediction.trained import plain_lines, score_rows
from weightzoo.tasks.training.encoder_training import EncoderTraining


@pytest.fixture(scope="module")
def model(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "flat"
    options = ["--out", str(out), "--epochs", "2", "--set", "widths=[8]"]
    assert main(["train", "flat-mlp", str(trained_zoo), *options]) == 0
    return out


def test_train_saves_an_encoder_and_prints_its_scores(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "flat-mlp", str(trained_zoo), "--target", "activation"]
    options = ["--out", str(tmp_path / "m"), "--epochs", "2", "--set", "widths=[8, 4]"]
    assert main([*arguments, *options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert 0 <= printed["test"]["digits-mlp"]["accuracy"] <= 1 and printed["epochs"] == 2
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["config"]["widths"] == [8, 4] and config["link"]["target"] == "activation"


@pytest.mark.parametrize(
    ("options", "augment", "batch_size"),
    [([], True, 32), (["--no-augment", "--batch-size", "8"], False, 8)],
)
def test_sne_learns_with_settings_of_its_own_that_can_be_changed(
    trained_zoo: Path, tmp_path: Path, options: list[str], augment: bool, batch_size: int
) -> None:
    small = ["--out", str(tmp_path / "m"), "--epochs", "1", "--set", "width=8", "--set", "heads=1"]
    assert main(["train", "sne", str(trained_zoo), *small, *options]) == 0
    settings = json.loads((tmp_path / "m" / "config.json").read_text())["training"]["settings"]
    assert (settings["augment"], settings["batch_size"]) == (augment, batch_size)


def test_train_saves_an_encoder_without_a_score_and_says_why(
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EncoderTraining, "_val_score", lambda self: float("nan"))  # of a constant
    options = ["--out", str(tmp_path / "m"), "--epochs", "1", "--set", "widths=[8]", "--json"]
    assert main(["train", "flat-mlp", str(trained_zoo), *options]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda _: 1 / 0)
    assert printed["val_score"] is None and "equal in all rows" in printed["note"]
    config = json.loads(
        (tmp_path / "m" / "config.json").read_text(), parse_constant=lambda _: 1 / 0
    )
    assert config["training"]["val_score"] is None


def test_predictions_that_are_not_finite_are_counted_instead_of_scored(trained_zoo: Path) -> None:
    rows = load_zoo(trained_zoo, split="test")
    predicted = np.linspace(0, 1, len(rows))
    assert score_rows(rows, "test_accuracy", predicted)["rows"] == len(rows)  # type: ignore[index]
    predicted[0] = np.nan
    scores = score_rows(rows, "test_accuracy", predicted)
    assert scores == {"rows": len(rows), "predictions_not_finite": 1}


def test_train_takes_several_zoos(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoos, out = [str(trained_zoo)] * 2, str(tmp_path / "m")
    assert main(["train", "flat-mlp", *zoos, "--out", out, "--epochs", "1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["test"]) == {"digits-mlp-0", "digits-mlp-1"}


def test_predict_writes_a_line_per_row(
    model: Path, trained_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["predict", str(model), str(trained_zoo), "--split", "test"]) == 0
    out, err = capsys.readouterr()
    rows, test = list(csv.DictReader(io.StringIO(out))), load_zoo(trained_zoo, split="test")
    assert len(rows) == len(test)
    assert [float(row["true"]) for row in rows] == test.columns["test_accuracy"].tolist()
    assert main(["predict", str(model), str(trained_zoo), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data["scores"]) == {"train", "val", "test"}
    assert f"test: tau_b {data['scores']['test']['tau_b']:.4g}, " in err


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_embed_writes_a_vector_per_row(
    model: Path, trained_zoo: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"e.{suffix}"
    assert main(["embed", str(model), str(trained_zoo), "--out", str(out)]) == 0
    arrays = np.load(out) if suffix == "npz" else load_file(out)
    rows = sum(len(split) for split in load_zoo(trained_zoo).values())
    assert arrays["embedding"].shape == (rows, 8) and arrays["model_id"].shape == (rows,)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "resnet", "ZOO", "--out", "OUT"], "encoder must be one of"),
        (
            ["train", "sne", "ZOO", "--out", "OUT", "--set", "epochs=3"],
            "set ['epochs'] in Train",
        ),
        (["train", "sne", "ZOO", "--out", "OUT", "--target", "x"], "no column 'x'"),
        (["train", "sne", "ZOO", "--out", "OUT", "--target", "batch_size"], "nothing to learn"),
        (["train", "sne", "ZOO", "--out", "OUT", "--set", "wide"], "KEY=VALUE"),
        (["train", "sne", "ZOO", "--out", "OUT", "--scaling", "z"], "scaling must be one of"),
        (["train", "sne", "ZOO", "--out", "OUT", "--rows", "first"], "rows must be one of"),
        (
            ["train", "sne", "ZOO", "--out", "OUT", "--epochs", "0"],
            "epochs must be at least 1, got 0",
        ),
        (["train", "sne", "ZOO", "--out", "OUT", "--lr", "nan"], "lr must be positive and finite"),
        (["train", "flat-mlp", "ZOO", "--out", "OUT", "--set", "widths=x"], "with {'widths': 'x'}"),
        (["predict", "ZOO", "ZOO"], "has no config.json"),
        (["embed", "MODEL", "ZOO", "--out", "e.csv"], "must end in one of"),
        (["benchmark", "speed"], "benchmark must be one of"),
        (["leaderboard", "OUT"], "run one first"),
    ],
)
def test_bad_input_exits_1_with_one_line(
    arguments: list[str],
    message: str,
    model: Path,
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    places = {"ZOO": trained_zoo, "OUT": tmp_path / "out", "MODEL": model}
    assert main([str(places.get(word, word)) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("weightzoo: ") and message in error and error.count("\n") == 1


def test_plain_lines_show_scores_of_all_rows_only() -> None:
    scores = {"tau_b": 0.51234, "rows": 9, "strata": {"init": {"mean": 0.1}}, "intervals": {}}
    assert plain_lines({"path": "m", "val_score": 0.25, "test": {"zoo": scores}}) == [
        "path: m",
        "val_score: 0.25",
        "test, zoo: tau_b 0.5123, rows 9",
    ]
