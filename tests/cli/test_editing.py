"""`weightzoo edit` and `weightzoo concat`: what they write opens, and mistakes are one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from weightzoo import load_zoo
from weightzoo.cli.main import main
from weightzoo.tasks.inspection.verification import verify_zoo


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
