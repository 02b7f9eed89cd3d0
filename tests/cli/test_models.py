"""`weightzoo train` and `weightzoo sample` of autoencoders."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch

from weightzoo.cli.main import main
from weightzoo.encoders.registry import ENCODERS
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.train import KINDS
from weightzoo.tasks.pretrained import from_pretrained
from weightzoo.tasks.processes import listening
from weightzoo.tasks.trainings import TRAIN_KINDS, train_kind
from weightzoo.zoos import progress

QUICK = ["--epochs", "1", "--set", "latent=4", "--set", "width=8", "--out"]


def train(zoo: Path, out: Path, kind: str = "hyper-representation", *more: str) -> int:
    return main(["train", kind, str(zoo), *QUICK, str(out), *more])


def test_train_and_sample_make_a_zoo(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, made = tmp_path / "model", tmp_path / "made"
    assert train(trained_zoo, model) == 0
    assert "val_r2" in capsys.readouterr().out
    sample = ["sample", str(model), "--count", "9", "--draws", "2", "--out", str(made), "--json"]
    assert main(sample) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"] == 9 and result["diverged"] == 0
    rows = load_zoo(made, split="train")
    assert isinstance(rows, ZooDataset) and set(rows.columns["relation"]) == {"generated"}
    assert main(sample) == 1 and "exists" in capsys.readouterr().err


def test_predict_embed_and_sample_show_progress_on_stderr(
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "small").symlink_to(trained_zoo)  # --name chooses it
    zoo, model = [str(tmp_path / "both"), "--name", "small"], str(tmp_path / "model")
    command = ["train", "flat-mlp", *zoo, "--epochs", "1", "--out", model]
    heard: list[str] = []
    with listening(heard.append):  # as inside a benchmark
        assert main(command) == 0
    assert heard == ["FlatMLP, epoch 1 of 1"]
    capsys.readouterr()
    assert main(["predict", model, *zoo, "--json"]) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["rows"]) == 72 and "row/s" in shown.err
    assert main(["embed", model, *zoo, "--out", str(tmp_path / "rows.npz")]) == 0
    assert "row/s" in capsys.readouterr().err
    assert train(trained_zoo, tmp_path / "ae") == 0
    sample = ["sample", str(tmp_path / "ae"), "--count", "9", "--draws", "2", "--out"]
    assert main([*sample, str(tmp_path / "made")]) == 0
    assert "draws:" in (shown := capsys.readouterr()).err and "measures:" in shown.err


@pytest.mark.parametrize("name", ["probegen", "hidden-probe", "probe-statistics", "scale-gmn"])
def test_encoder_that_reads_networks_is_trained_saved_and_loaded(
    name: str, trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = [] if name == "scale-gmn" else ["--set", "probes=4", "--set", "latent=4"]
    size = [*probes, "--set", "width=8"]
    command = ["train", name, str(trained_zoo), "--epochs", "1", *size, "--seed", "0", "--json"]
    results = []
    for out in ("one", "two"):
        assert main([*command, "--out", str(tmp_path / out)]) == 0
        [scores] = json.loads(capsys.readouterr().out)["test"].values()
        results.append(scores)
    test = load_zoo(trained_zoo, split="test")
    loaded, again = (from_pretrained(tmp_path / out) for out in ("one", "two"))
    assert results[0] == results[1] and "above_chance" in results[0]
    assert (loaded.predict(test) == again.predict(test)).all()
    assert loaded.embed(test).shape == (len(test), 8 if name.startswith("probe") else 16)
    assert loaded.scaler.scaling == "none"


def test_sample_takes_a_bandwidth_and_says_its_unit(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    assert train(trained_zoo, model, "hyper-representation", "--behaviour", "0") == 0
    for name, more in {
        "a": ["--bandwidth", "0.2"],
        "b": ["--bandwidth", "0.2", "--bandwidth-unit", "absolute"],
        "c": ["--sampler", "kde-published", "--bandwidth", "0.2"],
    }.items():
        capsys.readouterr()
        out = tmp_path / name
        assert main(["sample", str(model), "--count", "4", "--out", str(out), *more]) == 0
        unit = "relative" if name == "a" else "absolute"
        assert f"bandwidth 0.2 ({unit})" in capsys.readouterr().out
        recipe = next(iter(load_zoo(out).values())).header.recipe
        assert (recipe["bandwidth"], recipe["bandwidth_unit"]) == (0.2, unit)
    refused = ["sample", str(model), "--out", str(tmp_path / "d"), "--sampler", "gan"]
    assert main([*refused, "--bandwidth", "0.2"]) == 1
    assert "'gan' has no bandwidth" in capsys.readouterr().err


def test_sample_of_a_zoo_that_diverged_prints_strict_json(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    assert train(trained_zoo, model, "hyper-representation", "--behaviour", "0") == 0
    capsys.readouterr()
    huge = ["--bandwidth", "1e38", "--bandwidth-unit", "absolute", "--count", "3", "--json"]
    assert main(["sample", str(model), "--out", str(tmp_path / "made"), *huge]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=lambda _: 1 / 0)
    assert result["diverged"] == 3 and result["test_accuracy"] is None


def test_sample_reports_what_is_wrong(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    assert main(["sample", str(model), "--out", str(tmp_path / "made")]) == 1
    assert "no autoencoder at" in capsys.readouterr().err
    model.mkdir()
    (model / "autoencoder.pt").write_text("nothing")
    assert main(["sample", str(model), "--out", str(tmp_path / "made")]) == 1
    assert "holds no autoencoder" in capsys.readouterr().err
    assert train(trained_zoo, model) == 0
    assert main(["sample", str(model), "--sampler", "vae", "--out", str(tmp_path / "made")]) == 1
    assert "sampler must be one of" in capsys.readouterr().err


def test_train_lists_what_it_knows(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(trained_zoo, tmp_path / "m", "hyper-representation", "--invariance", "1") == 1
    assert "unknown arguments ['invariance'], known are" in capsys.readouterr().err
    assert train(trained_zoo, tmp_path / "m", "hyper-representation", "--augment") == 1
    assert "unknown arguments ['augment'], known are" in capsys.readouterr().err
    assert train(trained_zoo, tmp_path / "m", "hyper-representation", "--set", "halo=2") == 1
    assert "unknown arguments ['halo']" in capsys.readouterr().err
    assert train(trained_zoo, tmp_path / "m", "hyper-representation", "--epochs", "0") == 1
    assert "epochs must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "argument", "message"),
    [
        ("hyper-representation", "latent=x", "latent must be a number, got 'x'"),
        ("hyper-representation", "aligned=1", "aligned must be true or false, got 1"),
        ("hyper-representation", "views=canonical", "views must be two of"),
        ("sane", "window=wide", "window must be a number, got 'wide'"),
        ("sane", "least_epoch=last", "least_epoch must be a number, got 'last'"),
    ],
)
def test_train_refuses_arguments_of_another_type(
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    argument: str,
    message: str,
) -> None:
    assert train(trained_zoo, tmp_path / "m", kind, "--set", argument) == 1
    assert message in capsys.readouterr().err


def test_train_takes_rows_from_an_epoch_on(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(trained_zoo, tmp_path / "m", "hyper-representation", "--set", "least_epoch=4") == 1
    assert "no finite checkpoint from epoch 4" in capsys.readouterr().err


def test_sane_is_trained_and_sampled(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--set", "token_size=256", "--set", "latent=2"]
    assert train(trained_zoo, tmp_path / "m", "sane", *size) == 0
    out = ["--count", "3", "--out", str(tmp_path / "made")]
    assert main(["sample", str(tmp_path / "m"), *out]) == 0
    assert "3 models, 0 diverged" in capsys.readouterr().out


def test_kinds_of_training_are_registered() -> None:
    assert all(train_kind(name).args == (name,) for name in TRAIN_KINDS)  # type: ignore[attr-defined]
    assert set(ENCODERS) | {*KINDS, "flow-matching"} == set(TRAIN_KINDS)


@pytest.fixture(scope="module")
def autoencoder(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("autoencoders") / "ae"
    assert train(trained_zoo, out, "hyper-representation", "--behaviour", "0") == 0
    return out


def test_autoencoder_predicts_with_its_probe_or_another(
    autoencoder: Path, trained_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["predict", str(autoencoder), str(trained_zoo), "--json"]
    for more, column in (([], "test_accuracy"), (["--target", "train_loss"], "train_loss")):
        capsys.readouterr()
        assert main([*line, *more]) == 0
        data, rows = json.loads(capsys.readouterr().out), load_zoo(trained_zoo, split="train")
        assert data["scores"]["train"]["rows"] == len(rows)
        assert [row["true"] for row in data["rows"][: len(rows)]] == rows.columns[column].tolist()
    assert main([*line, "--target", "depth"]) == 1
    assert "no column 'depth' to predict" in capsys.readouterr().err


def test_latent_vectors_are_written_and_decoded_to_a_zoo(
    autoencoder: Path, trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo, latent, made = str(trained_zoo), str(tmp_path / "l.npz"), tmp_path / "made"
    assert main(["embed", str(autoencoder), zoo, "--out", str(tmp_path / "e.npz")]) == 0
    assert main(["encode", str(autoencoder), zoo, "--split", "test", "--out", latent]) == 0
    assert main(["decode", str(autoencoder), latent, "--out", str(made)]) == 0
    test, model = load_zoo(trained_zoo, split="test"), from_pretrained(autoencoder)
    decoded = torch.cat([rows.weights() for rows in load_zoo(made).values()])
    wanted = model.decode(model.encode(test))  # type: ignore[union-attr]
    assert sorted(decoded.sum(1).tolist()) == pytest.approx(
        sorted(wanted.sum(1).tolist()), rel=1e-4
    )
    for path, message in (
        ("nowhere.npz", "write one with `weightzoo encode"),
        (str(tmp_path / "e.npz"), "has no array 'latent', it has ['embedding'"),
    ):
        capsys.readouterr()
        assert main(["decode", str(autoencoder), path, "--out", str(tmp_path / "o")]) == 1
        assert message in capsys.readouterr().err


def test_latent_vectors_take_a_zoo_by_name(
    autoencoder: Path, trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        shutil.copytree(trained_zoo, tmp_path / "zoos" / name)
    zoos, latent, made = str(tmp_path / "zoos"), str(tmp_path / "l.npz"), str(tmp_path / "made")
    encode = ["encode", str(autoencoder), zoos, "--split", "test", "--out", latent]
    decode = ["decode", str(autoencoder), latent, "--out", made]
    assert main(encode) == 1
    assert "name must be one of ['one', 'two']" in capsys.readouterr().err
    assert main([*encode, "--name", "two"]) == 0
    assert main([*decode, "--name", "two"]) == 1
    assert "give --zoo too" in capsys.readouterr().err
    assert main([*decode, "--zoo", zoos, "--name", "two"]) == 0


def test_behavioural_loss_is_the_default_where_images_are_known(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"a": [], "b": ["--behaviour", "0"], "c": ["--set", "structure=1.0"]}
    shares = {"a": 0.3, "b": 0, "c": 0}
    for name, options in more.items():
        capsys.readouterr()
        out = tmp_path / name
        assert train(trained_zoo, out, "hyper-representation", *options, "--json") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["behaviour_share"] == shares[name]
        assert ("behaviour" in result) == (name == "a")
        settings = json.loads((out / "config.json").read_text())["settings"]
        assert settings["keep"] == ("last" if name == "a" else "best")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("hyper-representation", ["--behaviour", "2"], "behaviour must lie in [0, 1], got 2.0"),
        ("hyper-representation", ["--behaviour", "0.1", "--set", "structure=1"], "the same share"),
        ("hyper-representation", ["--target", "depth"], "no column 'depth' to predict"),
        ("flat-mlp", ["--behaviour", "0.1"], "'flat-mlp' is none"),
    ],
)
def test_options_of_autoencoders_are_checked(
    kind: str,
    options: list[str],
    message: str,
    trained_zoo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", kind, str(trained_zoo), "--out", str(tmp_path / "m"), *options]) == 1
    assert message in capsys.readouterr().err


def test_trained_models_are_pushed_without_the_path_of_their_zoo(
    autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"

    def upload(self: object, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        shutil.copytree(folder_path, hub)
        return SimpleNamespace(oid="c0ffee")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    assert main(["push", str(autoencoder), "org/ae"]) == 0
    assert json.loads((hub / "config.json").read_text())["origin"] is None
    assert from_pretrained(hub).target == "test_accuracy"


def test_encoder_is_no_autoencoder(
    trained_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--epochs", "1", "--set", "widths=[4]", "--out", str(tmp_path / "m")]
    assert main(["train", "flat-mlp", str(trained_zoo), *options]) == 0
    assert main(["sample", str(tmp_path / "m"), "--out", str(tmp_path / "made")]) == 1
    assert "predicts 'test_accuracy', and no autoencoder: train one" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "m"), str(trained_zoo), "--target", "epoch"]) == 1
    assert "was trained to predict 'test_accuracy', got target 'epoch'" in capsys.readouterr().err
