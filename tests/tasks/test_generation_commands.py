"""`weightzoo train hyper-representation` and `weightzoo sample`."""

import json
from pathlib import Path

import pytest

from weightzoo.cli import BENCHMARKS, main
from weightzoo.loaders import ZooDataset, load_zoo

QUICK = ["--epochs", "1", "--latent", "4", "--width", "8", "--out"]


def train(zoo: Path, out: Path) -> int:
    return main(["train", "hyper-representation", str(zoo), *QUICK, str(out)])


def test_train_and_sample_make_a_zoo(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, made = tmp_path / "model.pt", tmp_path / "made"
    assert train(trained_zoo, model) == 0
    assert "val R2" in capsys.readouterr().out
    sample = ["sample", str(model), "--count", "9", "--draws", "2", "--out", str(made), "--json"]
    assert main(sample) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"] == 9 and result["diverged"] == 0
    rows = load_zoo(made, split="train")
    assert isinstance(rows, ZooDataset) and set(rows.columns["relation"]) == {"generated"}
    assert main(sample) == 1 and "exists" in capsys.readouterr().err


def test_sample_reports_what_is_wrong(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.pt"
    assert main(["sample", str(model), "--out", str(tmp_path / "made")]) == 1
    assert "No such file" in capsys.readouterr().err
    model.write_text("nothing")
    assert main(["sample", str(model), "--out", str(tmp_path / "made")]) == 1
    assert "holds no autoencoder" in capsys.readouterr().err
    assert train(trained_zoo, model) == 0
    assert main(["sample", str(model), "--sampler", "vae", "--out", str(tmp_path / "made")]) == 1
    assert "sampler must be one of" in capsys.readouterr().err


def test_benchmarks_are_registered() -> None:
    assert {"generation", "hyper-representation-probes"} <= set(BENCHMARKS)
