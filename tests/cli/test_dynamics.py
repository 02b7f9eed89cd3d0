"""The command `analyse`."""

import json
from pathlib import Path

import pytest

from weightzoo.cli import dynamics
from weightzoo.cli.main import main
from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.dynamics.measures import FAMILIES
from weightzoo.tasks.dynamics.settings import AnalysisSettings


def test_names_and_defaults_are_those_of_the_library() -> None:
    assert tuple(FAMILIES) == dynamics.MEASURES
    assert AnalysisSettings().image_count == dynamics.IMAGE_COUNT


def test_analyse_writes_zoo_report_and_plots(
    tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["analyse", str(tiny_zoo.parent), "--name", "tiny", "--out", str(out)]
    given += ["--plots", "svg", "--workers", "1"]
    assert main([*given, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["rows"] == 12 and data["path"] == {"zoo": str(out / "tiny"), "folder": str(out)}
    assert "sharpness: left out" in captured.err
    assert "path_length" in load_zoo(out / "tiny")["train"].columns
    assert {"report.md", "report.json", "paths.svg"} <= {path.name for path in out.iterdir()}


def test_analyse_refuses_what_it_cannot_do_in_one_line(
    tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["analyse", str(tiny_zoo), "--out", str(tmp_path / "out"), "--measures", "fisher"]
    assert main(given) == 1
    error = capsys.readouterr().err
    assert "'fisher' cannot be computed" in error and error.count("\n") == 1
