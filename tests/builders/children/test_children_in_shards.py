"""Shards of fine-tuning and pruning give the zoo of one process."""

import json
from pathlib import Path

import pytest

from weightzoo.cli.main import main
from weightzoo.zoos.format import checksum
from weightzoo.zoos.index import ZooIndex

COMMANDS = {
    "finetune": ["--images", "digits", "--epochs", "1"],
    "sparsify": ["--method", "magnitude", "--epochs", "1"],
}


def columns(folder: Path) -> list[tuple[str, bytes | str]]:
    """Weights and columns of all files, and the recipe."""
    files = ZooIndex.read(folder).open(folder)
    found = [(name, checksum(one)) for file in files for name, one in file.read_columns().items()]
    weights = [("weights", file.map_weights().tobytes()) for file in files]
    return [*found, *weights, ("recipe", json.dumps(dict(files[0].header.recipe)))]


@pytest.mark.parametrize("command", ["finetune", pytest.param("sparsify", marks=pytest.mark.slow)])
def test_shards_of_children_give_the_zoo_of_one_process(
    command: str, parent_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [command, str(parent_zoo), *COMMANDS[command], "--workers", "1"]
    given += ["--set", "train_fraction=0.1", "--where", "model_id < 4"]
    assert main([*given, "--out", str(tmp_path / "one/zoo"), "--yes"]) == 0
    assert main([*given, "--out", str(tmp_path / "two/zoo"), "--shard", "2/2"]) == 0
    assert "shards that are missing: [1]" in capsys.readouterr().out
    assert main([*given, "--out", str(tmp_path / "two/zoo"), "--shard", "1/2"]) == 0
    assert columns(tmp_path / "two/zoo") == columns(tmp_path / "one/zoo")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["zoo"]


def test_shard_of_children_is_checked(
    parent_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["finetune", str(parent_zoo), "--images", "digits", "--epochs", "1"]
    given += ["--out", str(tmp_path / "zoo")]
    assert main([*given, "--shard", "2"]) == 1
    assert "--shard takes I/N, such as 3/8" in capsys.readouterr().err
    assert main([*given, "--shard", "1/2", "--engine", "ray"]) == 1
    assert "a shard trains with the engine 'process'" in capsys.readouterr().err
