"""`weightzoo train flow-matching` and `weightzoo sample` of its flows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks.inspection.verification import verify_zoo

QUICK = ["--epochs", "2", "--batch-size", "8", "--set", "widths=[8]", "--set", "components=2"]


def train(zoo: Path, out: Path, *more: str) -> int:
    return main(["train", "flow-matching", str(zoo), *QUICK, *more, "--out", str(out)])


@pytest.fixture(scope="module")
def flow(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flows") / "flow"
    assert train(trained_zoo, out, "--set", "top=1.0") == 0
    return out


def test_flow_is_sampled_into_a_zoo_that_verifies(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        sample = ["sample", str(flow), "--count", "5", "--seed", seed, "--json"]
        capsys.readouterr()
        assert main([*sample, "--out", str(tmp_path / name)]) == 0
        rows = load_zoo(tmp_path / name)
        weights.append(np.concatenate([part.weights() for part in rows.values()]))
    result = json.loads(capsys.readouterr().out)
    assert (result["models"], result["diverged"], result["sampler"]) == (5, 0, "flow-matching")
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])
    assert all(check.passed is not False for check in verify_zoo(tmp_path / "a", models=4))
    recipe = rows["train"].header.recipe
    assert (recipe["generator"], recipe["sampler"]) == (str(flow), "flow-matching")


def test_best_of_several_draws_are_kept(flow: Path, tmp_path: Path) -> None:
    sample = ["sample", str(flow), "--count", "3", "--draws", "4", "--out", str(tmp_path / "best")]
    assert main(sample) == 0
    assert sum(map(len, load_zoo(tmp_path / "best").values())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "kde"], "leave out ['sampler']"),
        (["--bandwidth", "0.1"], "leave out ['bandwidth']"),
        (["--top", "0.5"], "leave out ['top']"),
    ],
)
def test_options_of_latent_samplers_are_refused(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["sample", str(flow), "--out", str(tmp_path / "m"), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "latent=4"], "unknown arguments ['latent'], known are ['aligned'"),
        (["--set", "widths=8"], "widths must be like (512, 512), got 8"),
        (["--set", "aligned=1"], "aligned must be like True, got 1"),
        (["--set", "least_epoch=last"], "least_epoch must be a whole number, got 'last'"),
        (["--loss", "mse"], "unknown arguments ['loss']"),
        (["--target", "epoch"], "predicts no column: leave out --target"),
        (["--behaviour", "0.3"], "leave out --target and --behaviour"),
        (["--rows", "first"], "rows must be one of ('all', 'last'), got 'first'"),
        (["--set", "top=0.01", "--rows", "last"], "at least 2 rows, got 1"),
    ],
)
def test_training_says_what_is_wrong(
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert train(trained_zoo, tmp_path / "m", *options) == 1
    assert message in capsys.readouterr().err


def test_flow_neither_predicts_nor_encodes(
    flow: Path, trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(flow), str(trained_zoo)]) == 1
    assert "holds a flow, which draws networks and encodes none" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "latent.npz")]
    assert main(["encode", str(flow), str(trained_zoo), *out]) == 1
    assert "holds a flow, which has no latent vectors" in capsys.readouterr().err


def test_zoo_of_another_architecture_is_refused(
    flow: Path, tiny_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = ["sample", str(flow), "--zoo", str(tiny_zoo), "--out", str(tmp_path / "made")]
    assert main(sample) == 1
    assert "architecture 'tiny-cnn', the model is for" in capsys.readouterr().err


def test_last_checkpoints_alone_are_learned(trained_zoo: Path, tmp_path: Path) -> None:
    counts = []
    for which in ("all", "last"):
        assert train(trained_zoo, tmp_path / which, "--rows", which, "--set", "top=1.0") == 0
        checkpoint = torch.load(tmp_path / which / "checkpoint.pt", weights_only=True)
        counts.append(checkpoint["identity"]["zoos"][0]["rows"])
    assert counts[0] == 3 * counts[1]


def test_pushed_flow_names_no_path_of_this_machine(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: dict[str, Any] = {}

    def upload(self: Any, *, repo_id: str, folder_path: str, **options: Any) -> Any:
        pushed["config"] = json.loads((Path(folder_path) / "config.json").read_text())
        return SimpleNamespace(oid="c0ffee")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *args, **options: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    assert main(["push", str(flow), "org/flow"]) == 0
    assert pushed["config"]["origin"] is None
