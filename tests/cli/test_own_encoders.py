"""`train`, `predict`, `embed` and `benchmark` with a class of the working folder."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weightzoo.cli.main import main

OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, width=4, outputs=1):
        super().__init__()
        self.first, self.last = nn.Linear(1, width), nn.Linear(width, outputs)

    def embed(self, weights, layer_table):
        return self.first(weights.norm(dim=1, keepdim=True))

    def forward(self, weights, layer_table):
        return self.last(self.embed(weights, layer_table))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


def test_class_of_the_working_folder_is_trained_and_predicts(
    folder: Path, trained_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = str(trained_zoo)
    train = ["train", "mine:Own", zoo, "--epochs", "1", "--set", "width=3", "--out", "model"]
    assert main(train) == 0
    config = json.loads((folder / "model" / "config.json").read_text())
    assert (config["class"], config["config"]) == ("mine:Own", {"width": 3, "outputs": 1})
    capsys.readouterr()
    assert main(["predict", "model", zoo]) == 1
    assert "no file makes weightzoo import code" in capsys.readouterr().err
    assert main(["predict", "model", zoo, "--encoder", "mine:Own", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["test"]["rows"] > 1
    assert main(["embed", "model", zoo, "--encoder", "mine:Own", "--out", "e.npz"]) == 0
    assert "of width 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "mine:Owm", "ZOO", "--out", "m"],
            "has no 'Owm', it has ['Own', 'nn']; did you mean 'Own'?",
        ),
        (
            ["train", "mine:Own", "ZOO", "--out", "m", "--set", "widht=1"],
            "takes ['width', 'outputs'], got ['widht']; did you mean 'width'?",
        ),
        (["train", "snee", "ZOO", "--out", "m"], "did you mean 'sne'?"),
        (["benchmark", "generation", "--encoder", "mine:Own"], "compares no encoders"),
        (["benchmark", "merging", "--only", "SNE"], "leave out --only"),
        (["benchmark", "within-zoo", "--only", "SNF"], "got ['SNF']"),
        (["benchmark", "within-zoo", "--encoder", "yours:Own"], "cannot import 'yours'"),
    ],
)
def test_faulty_names_exit_with_one_line(
    arguments: list[str],
    message: str,
    folder: Path,
    trained_zoo: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(trained_zoo) if word == "ZOO" else word for word in arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
