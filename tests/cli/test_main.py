"""The command line: results on stdout, errors in one line on stderr, exit status."""

import json
import shlex
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo import write_zoo
from weightzoo.builders import build
from weightzoo.builders.imports import FORMATS
from weightzoo.cli import building
from weightzoo.cli.building import IMPORT_FORMATS
from weightzoo.cli.main import _parser, main
from weightzoo.cli.models import SAMPLERS
from weightzoo.loaders import load_zoo
from weightzoo.tasks.generation.sampling import SAMPLERS as KNOWN_SAMPLERS
from weightzoo.zoos.images.catalog import load_images

RECIPE = """
name = "few"
images = "digits"
seeds = 8
epochs = 1
checkpoints = [0, 1]

[architecture]
name = "mlp"
input_shape = [1, 28, 28]
layers = [{ kind = "flatten" }, { kind = "linear", out = 10 }]

[factors]
lr = { log_uniform = [1e-4, 1e-2] }
train_fraction = 0.05

[split]
train = 0.5
val = 0.25
test = 0.25
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "few.toml"
    path.write_text(RECIPE)
    return path


def test_list_names_the_shipped_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert {"digits-cnn", "digits-mlp"} <= set(capsys.readouterr().out.split())
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["digits-cnn"]["models"] == 256


def test_build_info_verify_and_plot_a_zoo(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "zoo", tmp_path / "zoo.png"
    assert main(["build", str(recipe), "--out", str(out), "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 8 models, 16 rows")
    assert main(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["models"] == 4
    assert main(["verify", str(out)]) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert main(["plot", str(out), "--out", str(plot)]) == 0
    assert plot.stat().st_size > 5_000


def test_build_dry_run_builds_nothing(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zoo"
    assert main(["build", str(recipe), "--out", str(out), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["models"], plan["rows"], plan["bytes"]) == (8, 16, 16 * 7850 * 4)
    assert plan["seconds"] > 0 and "a probe here of 8 models" in plan["estimate"]
    assert not out.exists()


def test_build_takes_images_of_files_in_place_of_the_recipes(recipe: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (80, 28, 28), dtype=np.uint8)
    for split, pixels in {"train": images[:60], "t10k": images[60:]}.items():
        labels = np.arange(len(pixels), dtype=np.uint8) % 10
        for kind, values in {"images-idx3": pixels, "labels-idx1": labels}.items():
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (tmp_path / f"{split}-{kind}-ubyte").write_bytes(head + values.tobytes())
    command = ["build", str(recipe), "--out", str(tmp_path / "zoo"), "--workers", "1"]
    assert main([*command, "--images", f"idx:{tmp_path}"]) == 0
    header = load_zoo(tmp_path / "zoo", split="train").header
    assert header.recipe["images"] == f"idx:{tmp_path}"
    wanted = load_images(f"idx:{tmp_path}").fingerprint
    assert wanted in json.dumps(header.provenance)


def test_build_says_models_bytes_and_hours_first(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(recipe), "--out", str(tmp_path / "zoo"), "--workers", "1"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("few: 8 models, 16 rows, 0.000502 GB, about ") and " hours (" in first


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_SECONDS"])
def test_large_builds_stop_with_the_estimate_unless_yes_is_given(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    monkeypatch.setattr(building, limit, 1e-9)
    command = ["build", str(recipe), "--out", str(tmp_path / "zoo"), "--workers", "1"]
    assert main(command) == 1
    assert "hours" in (error := capsys.readouterr().err) and "give --yes" in error
    assert not (tmp_path / "zoo").exists() and not (tmp_path / "zoo.partial").exists()
    assert main([*command, "--yes"]) == 0
    child = ["finetune", str(tmp_path / "zoo"), "--images", "digits", "--epochs", "1"]
    assert main([*child, "--out", str(tmp_path / "child"), "--workers", "1"]) == 1
    assert "give --yes" in capsys.readouterr().err


def test_large_build_is_estimated_before_its_images_are_loaded(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading may be a download of gigabytes, or fail without a network."""
    monkeypatch.setattr(building, "MOST_BYTES", 1)
    loaded: list[str] = []
    monkeypatch.setattr(build, "load_data", loaded.append)
    assert main(["build", str(recipe), "--out", str(tmp_path / "zoo")]) == 1
    assert "give --yes" in capsys.readouterr().err and loaded == []


def test_plot_honours_suffix_and_columns(
    tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plot.svg"
    chosen = ["--x", "epoch", "--y", "test_loss", "--colour", "split"]
    assert main(["plot", str(tiny_zoo), "--out", str(out), "--json", *chosen]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out)}
    assert out.read_text().startswith("<?xml")
    assert main(["plot", str(tiny_zoo), "--out", str(tmp_path / "plot.gif")]) == 1
    assert "a plot must end in one of" in capsys.readouterr().err
    assert main(["plot", str(tiny_zoo), "--out", str(out), "--y", "test_loss"]) == 1
    assert "need --x" in capsys.readouterr().err


def test_zoo_without_measures_is_pushed_without_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = []

    def push(folder: Path, repo: str, *, plot: Path | None, **_: object) -> str:
        plots.append(plot)
        return "c0ffee"

    monkeypatch.setattr("weightzoo.loaders.hub.publishing.push_to_hub", push)
    models = [torch.nn.Linear(2, 1) for _ in range(6)]
    write_zoo(tmp_path / "own", models, name="own", licence="mit")
    assert main(["push", str(tmp_path / "own"), "me/own"]) == 0
    assert plots == [None] and "me/own at c0ffee" in capsys.readouterr().out
    assert main(["plot", str(tmp_path / "own"), "--out", str(tmp_path / "p.png")]) == 1
    assert "choose a column with --x" in capsys.readouterr().err


def test_json_of_info_and_verify_holds_numbers(
    tiny_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tiny_zoo), "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert (columns["epoch"]["min"], columns["epoch"]["max"]) == (0, 2)
    main(["verify", str(tiny_zoo), "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["splits share no model"]["numbers"] == {"models": 4, "faults": 0}


@pytest.mark.parametrize("command", ["info", "verify", "plot", "card"])
def test_name_chooses_a_zoo_of_a_folder(
    command: str, tiny_zoo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    both = tmp_path / "both"
    for name in ("one", "two"):
        shutil.copytree(tiny_zoo, both / name)
    options = ["--out", str(tmp_path / "two.png")] if command == "plot" else []
    assert main([command, str(both), *options]) == 1
    capsys.readouterr()
    assert main([command, str(both), "--name", "two", *options]) == 0


@pytest.mark.parametrize("command", ["info", "verify", "plot"])
def test_zoos_on_the_hub_are_named_like_folders(
    command: str, tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetched = []

    def fetch(repo: str, name: str | None = None, *rest: object, **options: object) -> Path:
        fetched.append((repo, name))
        return tiny_zoo

    for module in ("loaders.load", "loaders.hub.fetching"):
        monkeypatch.setattr(f"weightzoo.{module}.fetch_zoo", fetch)
    assert main([command, "org/zoos", "--name", "small"]) == 0
    assert set(fetched) == {("org/zoos", "small")}


def test_finetune_makes_a_zoo_of_children(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo, out = tmp_path / "zoo", tmp_path / "child"
    assert main(["build", str(recipe), "--out", str(zoo), "--workers", "1"]) == 0
    command = ["finetune", str(zoo), "--images", "digits", "--epochs", "2", "--out", str(out)]
    options = ["--where", "split == 'train'", "--set", "lr=0.01", "--checkpoints", "2"]
    assert main([*command, *options, "--workers", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{out}: 4 models, 4 rows")
    assert main(["verify", str(out)]) == 0
    assert main([*command, "--set", "speed=1", "--overwrite"]) == 1
    assert "unknown hyper-parameters ['speed']" in capsys.readouterr().err


def test_sparsify_makes_a_zoo_of_twins(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo, out = tmp_path / "zoo", tmp_path / "twins"
    assert main(["build", str(recipe), "--out", str(zoo), "--workers", "1"]) == 0
    command = ["sparsify", str(zoo), "--out", str(out), "--epochs", "2", "--workers", "1"]
    assert main([*command, "--method", "magnitude", "--sparsity", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{out}: 8 models, 16 rows")
    assert main(["verify", str(out)]) == 0
    assert main([*command, "--method", "lottery", "--overwrite"]) == 1
    assert "variational-dropout" in capsys.readouterr().err


def test_verify_of_a_damaged_zoo_exits_1(
    tiny_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_zoo / "test-00000-of-00001.h5"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(tiny_zoo)]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "no zoo"),
        (["build", "no-such-recipe"], "digits-cnn"),
        (["build", "digits-cnn", "--models", "0"], "whole number from 1"),
        (["build", "digits-cnn", "--models", "2"], "leave split"),
        (["verify", __file__], "not an HDF5 file"),
        (["import", "no-such-format", "nowhere", "--out", "zoo"], "state-dicts"),
        (["import", "state-dicts", "nowhere", "--out", "zoo"], "nowhere"),
        (["build", "digits-mlp", "--device", "tpu"], "device must be cpu, cuda or cuda:NUMBER"),
        (["build", "digits-mlp", "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (
            ["finetune", "no", "--images", "digits", "--epochs", "1", "--out", "o"],
            "weightzoo build",
        ),
        (["verify", "nowhere"], "weightzoo build"),
        (["card", "nowhere"], "weightzoo build"),
        (["push", "nowhere", "org/name"], "weightzoo build"),
        (["release", __file__], "is a file: name a folder"),
        (["release", "zoos", "--only", "digits-cn"], "did you mean 'digits-cnn'"),
        (["release", "zoos", "--push", "name"], "repo must be 'org/name', got 'name'"),
        (["push", "nowhere", "name"], "repo must be 'org/name', got 'name'"),
        (["plot", "nowhere", "--out", "no/plot.png"], "make 'no' first"),
        (["leaderboard", ".", "--out", "."], "'.' is a folder"),
        (["quickstart", "--out", __file__], "is a file: choose another"),
        (["benchmark", "within-zoo", "--out", __file__], "is a file: choose another"),
        (["train", "sne", "nowhere", "--out", __file__], "is a file: choose another"),
        (["train", "sne", "nowhere", "--out", "m", "--device", "tpu"], "device must be cpu"),
        (["sample", "nowhere", "--out", "zoo"], "weightzoo train hyper-representation"),
        (["predict", "nowhere", "zoo"], "weightzoo train ENCODER ZOO"),
        (["predict", "nowhere", "zoo", "--device", "tpu"], "device must be cpu"),
        (["embed", "nowhere", "zoo", "--out", "no/rows.npz"], "make 'no' first"),
    ],
)
def test_bad_input_exits_1_with_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("weightzoo: ") and message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "digits-mlp", "--workers", "0"], "--workers: must be a whole number from 1"),
        (["verify", "zoo", "--models", "-3"], "--models: must be a whole number from 1, got '-3'"),
        (["quickstart", "--seeds", "0"], "--seeds: must be a whole number from 1, got '0'"),
        (["benchmark", "within-zoo", "--workers", "x"], "must be a whole number from 1, got 'x'"),
        (["sample", "model", "--out", "z", "--seed", "-1"], "must be a whole number from 0"),
    ],
)
def test_numbers_out_of_range_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_help_shows_an_example_that_parses() -> None:
    parser = _parser()
    commands = parser._actions[-1].choices
    assert commands is not None and len(list(commands)) == 38
    for name, command in dict(commands).items():
        example = command.epilog.removeprefix("example: ").split(" > ")[0]
        program, *arguments = shlex.split(example)
        assert (program, arguments[0]) == ("weightzoo", name)
        assert parser.parse_args(arguments).run is command.get_default("run")


def test_help_lists_the_words_that_are_known() -> None:
    assert IMPORT_FORMATS.split(", ") == list(FORMATS)
    assert SAMPLERS.split(", ") == list(KNOWN_SAMPLERS)


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["frobnicate"])
    assert exit_.value.code == 2


def test_build_onto_an_existing_zoo_exits_1(
    recipe: Path, tiny_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tiny_zoo / "zoo.json").read_text()
    assert main(["build", str(recipe), "--out", str(tiny_zoo)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tiny_zoo / "zoo.json").read_text() == before


def test_import_of_a_folder_of_state_dicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets").mkdir()
    for index in range(8):
        torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "nets" / f"n{index}.pt")
    out = tmp_path / "zoo"
    assert main(["import", "state-dicts", str(tmp_path / "nets"), "--out", str(out)]) == 0
    assert main(["info", str(out), "--json"]) == 0
    printed = capsys.readouterr().out
    summary = json.loads(printed[printed.index("{") :])
    assert sum(split["models"] for split in summary["splits"].values()) == 8
    assert summary["parameters"] == 8
