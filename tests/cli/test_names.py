"""`--name` chooses a zoo wherever a folder may hold several."""

import json
import shutil
from pathlib import Path

import pytest

from weightzoo.cli.main import _parser, main
from weightzoo.loaders import load_zoo

ZOO_ARGUMENTS = {"zoo", "zoos", "models", "members", "pool", "repo"}
WITHOUT = {"push", "benchmark"}  # publishes all zoos of a folder; takes NAME=PATH


@pytest.fixture
def both(tiny_zoo: Path, tmp_path: Path) -> Path:
    for name in ("one", "two"):
        shutil.copytree(tiny_zoo, tmp_path / "both" / name)
    return tmp_path / "both"


def test_every_command_that_takes_a_zoo_takes_its_name() -> None:
    commands = dict(_parser()._actions[-1].choices or {})
    takes = {
        name
        for name, command in commands.items()
        if ZOO_ARGUMENTS & {one.dest for one in command._actions if one.type is None}
    }
    named = {
        name
        for name, command in commands.items()
        if "--name" in [option for action in command._actions for option in action.option_strings]
    }
    assert {"merge", "families", "glue", "features", "finetune-matrix", "encode"} <= takes & named
    assert takes - named == WITHOUT


@pytest.mark.parametrize(
    "line",
    [
        "families ZOO",
        "merge ZOO --out o",
        "glue ZOO --out o",
        "features ZOO --images digits --out o.h5",
        "features ZOO@2 --images digits --out o.h5",
        "finetune-matrix ZOO --targets digits --out o.h5",
        "edit ZOO --out o",
        "concat ZOO --out o",
        "card ZOO",
        "finetune ZOO --images digits --epochs 1 --out o",
        "attach ZOO --architecture torch.nn:Identity",
        "train sne ZOO --out o",
    ],
)
def test_several_zoos_without_a_name_are_listed(
    line: str,
    both: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.replace("ZOO", "both").split()) == 1
    expected = "name must be one of ['one', 'two'], and none is given (--name NAME)"
    assert expected in capsys.readouterr().err
    assert main([*line.replace("ZOO", "both").split(), "--name", "three"]) == 1
    assert "['one', 'two'], got 'three'" in capsys.readouterr().err


def test_families_and_merge_of_a_named_zoo(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["families", str(both), "--name", "two", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["members"]) == 2
    assert main(["families", str(both), "more", "--name", "two"]) == 1
    assert "a zoo is taken alone, got 2 members" in capsys.readouterr().err


def test_rows_of_a_named_zoo_are_merged(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoos, out = tmp_path / "zoos", tmp_path / "merged"
    shutil.copytree(trained_zoo, zoos / "small")
    shutil.copytree(trained_zoo, zoos / "other")
    rows = ["--split", "train[:4]", "--where", "epoch == 3"]
    assert main(["merge", str(zoos), "--name", "small", *rows, "--align", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("merge of 4 models, test accuracy 0.")
    recipe = tmp_path / "merge.toml"
    recipe.write_text('method = "mean"\n[zoo]\npath = "zoos"\nsplit = "train[:4]"\n')
    run = ["merge", "--recipe", str(recipe), "--overwrite", "--out", str(out)]
    assert main(run) == 1
    assert "name must be one of ['other', 'small']" in capsys.readouterr().err
    assert main([*run, "--name", "other"]) == 0


def test_features_of_named_zoos_keep_them_apart(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(trained_zoo, tmp_path / "zoos" / name)
    run = ["features", f"{tmp_path / 'zoos'}@0", "--name", "a", "--name", "c", "--limit", "20"]
    run += ["--images", "digits+invert", "--split", "target", "--json"]
    assert main([*run, "--out", str(tmp_path / "f.h5")]) == 0
    names = json.loads(capsys.readouterr().out)["models"]
    assert {name.partition("/")[0] for name in names} == {"a@0", "c@0"} and len(names) == 48


def test_concat_joins_zoos_of_a_folder_by_name(both: Path, tmp_path: Path) -> None:
    run = ["concat", str(both), "--name", "one", "--name", "two", "--same-ids", "renumber"]
    assert main([*run, "--out", str(tmp_path / "joined")]) == 0
    assert sum(len(rows) for rows in load_zoo(tmp_path / "joined").values()) == 24
