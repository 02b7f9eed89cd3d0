"""`weightzoo edit`, `concat` and `attach`: what they write opens, and mistakes are one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import make_tiny_zoo

from weightzoo import load_zoo, write_zoo
from weightzoo.cli.main import main
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import ZooFormatError


def test_edit_writes_chosen_rows_and_columns(
    tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.csv"
    scores.write_text("model_id,score,note\n0,1.5,good\n2,,x\n3,2,\n")
    out = tmp_path / "out"
    arguments = ["edit", str(tiny_zoo), "--where", "epoch >= 1", "--add-column", str(scores)]
    arguments += ["--drop", "momentum", "augmentation", "--rename", "lr=rate", "--out", str(out)]
    assert main([*arguments, "--licence", "mit", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["models"], printed["rows"]) == (4, 8)
    zoo = load_zoo(out)
    np.testing.assert_array_equal(zoo["train"].columns["score"], [1.5, 1.5, np.nan, np.nan])
    assert zoo["val"].columns["note"].tolist() == ["x", "x"]
    assert zoo["test"].columns["score"].tolist() == [2.0, 2.0]
    assert "rate" in zoo["val"].columns and not {"lr", "momentum"} & set(zoo["val"].columns)
    assert all(check.passed is not False for check in verify_zoo(out))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--drop", "nothing"], "no columns ['nothing']"),
        (["--drop", "epoch"], "every zoo has the columns ['epoch']"),
        (["--where", "epoch == 99"], "no row to save"),
        (["--sort", "nothing"], "no columns ['nothing']"),
    ],
)
def test_edit_refuses_in_one_line(
    tiny_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    assert main(["edit", str(tiny_zoo), *options, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,score\na,1\n", "column model_id"),
        ("model_id,score\n0,1\n0,2\n", "twice"),
        ("model_id,score\n77,1\n", "no such row"),
        ("model_id,score\n0,1,2\n", "more or fewer cells"),
        ("model_id,score\nx,1\n", "whole numbers"),
        ("model_id,lr\n0,1\n", "name is taken"),
    ],
)
def test_csv_file_that_does_not_fit_is_refused(
    tiny_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    reason: str,
) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(text)
    out = str(tmp_path / "out")
    assert main(["edit", str(tiny_zoo), "--add-column", str(file), "--out", out]) == 1
    assert reason in capsys.readouterr().err


def test_concat_writes_zoos_with_shared_ids_as_one(
    tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child, out = str(tmp_path / "child"), str(tmp_path / "out")
    assert main(["edit", str(tiny_zoo), "--where", "epoch == 2", "--out", child]) == 0
    assert main(["concat", str(tiny_zoo), child, "--out", out]) == 1
    assert "share 4 model ids" in capsys.readouterr().err
    assert main(["concat", str(tiny_zoo), child, "--same-ids", "renumber", "--out", out]) == 0
    assert capsys.readouterr().out.startswith("8 models, 16 checkpoints")
    assert all(check.passed is not False for check in verify_zoo(tmp_path / "out"))


MODULE = """
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))

class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()
"""
TOML = """
[architecture]
name = "tiny"
input_shape = [1, 8, 8]
layers = [
  { kind = "conv", out = 2, kernel = 3 },
  { kind = "max_pool", size = 3 },
  { kind = "activation" },
  { kind = "flatten" },
  { kind = "linear", out = 4 },
  { kind = "activation" },
  { kind = "linear", out = 3 },
]
"""


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a zoo of state dicts, a module and a TOML file."""
    (tmp_path / "attached_networks.py").write_text(MODULE)
    (tmp_path / "tiny.toml").write_text(TOML)
    (tmp_path / "broken.toml").write_text("[architecture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "attached_networks", raising=False)
    table = load_zoo(make_tiny_zoo(tmp_path / "tiny"), split="train").layer_table
    weights = np.random.default_rng(0).random((4, table.width))
    columns = {"activation": ["relu", "tanh"] * 2}
    write_zoo("plain", weights, columns, architecture=table, name="plain", licence="mit")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [["attached_networks:network", "--input-shape", "1", "8", "8"], ["tiny.toml"]],
    ids=["module", "file"],
)
def test_attach_takes_a_module_or_a_file(
    working_folder: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    with pytest.raises(ZooFormatError, match="holds no architecture"):
        load_zoo("plain", split="train").module(0)
    assert main(["attach", "plain", "--architecture", *options]) == 0
    assert "checked by shapes only; give --images" in capsys.readouterr().out
    zoo = load_zoo("plain", split="train")
    assert zoo.module(0)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
    assert all(check.passed is not False for check in verify_zoo(Path("plain")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiny", "must be a file FILE.toml or a class MODULE:CLASS"),
        ("absent.toml", "no file 'absent.toml'"),
        ("broken.toml", "cannot be read as TOML"),
        ("absent_networks:network", "cannot import 'absent_networks'"),
        ("attached_networks.py:network", "write 'mine:Own'"),
        ("attached_networks:other", "it has ['Needy', 'network', 'nn']"),
        ("attached_networks:Needy", "cannot be made without arguments"),
        ("attached_networks:nn", "cannot be made without arguments"),
        ("builtins:dict", "must be a torch module, got dict"),
    ],
)
def test_attach_refuses_what_is_no_architecture(
    working_folder: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    assert main(["attach", "plain", "--architecture", text]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
