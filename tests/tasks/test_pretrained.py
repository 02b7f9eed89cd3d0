import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weightzoo.encoders import SNE
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.pretrained import from_pretrained, push_to_hub, save_pretrained
from weightzoo.tasks.scoring.targets import TargetMapping
from weightzoo.tasks.training.encoder_making import EncoderSpec, encoder_name, make_encoder
from weightzoo.tasks.training.model_folder import ModelFormatError
from weightzoo.tasks.training.property_predictor import PropertyPredictor
from weightzoo.tasks.training.weight_scaling import WeightScaler

OPTIONS: dict[str, dict[str, Any]] = {
    "sne": {"width": 8, "heads": 1, "blocks": 1},
    "flat-mlp": {"widths": [8]},
    "nfn-np": {},
    "nft": {"width": 8, "heads": 2},
    "padded-mlp": {"length": 50},
}


@pytest.fixture
def train(tiny_zoo: Path) -> ZooDataset:
    return load_zoo(tiny_zoo, split="train")


def predictor(train: ZooDataset, encoder: str = "sne") -> PropertyPredictor:
    torch.manual_seed(0)
    return PropertyPredictor(
        module=make_encoder(EncoderSpec(encoder, OPTIONS[encoder]), [train.layer_table], 1),
        target_mapping=TargetMapping(target="test_accuracy", loss_name="bce"),
        scaler=WeightScaler.measure("tensor", [train]),
        training={"seed": 3, "zoos": [{"name": "tiny", "rows": 6}]},
    )


def test_figures_that_are_not_finite_are_saved_as_null_and_in_words(
    train: ZooDataset, tmp_path: Path
) -> None:
    made = predictor(train)
    made.training = {"val_score": None, "note": "all alike", "history": [{"loss": float("nan")}]}
    folder = save_pretrained(made, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(), parse_constant=lambda _: 1 / 0)
    assert config["training"]["history"] == [{"loss": None}]
    assert "no score on the val split (all alike)" in (folder / "README.md").read_text()
    assert from_pretrained(folder).training["val_score"] is None


@pytest.mark.parametrize("encoder", list(OPTIONS))
def test_saved_encoder_predicts_and_embeds_the_same(
    train: ZooDataset, tmp_path: Path, encoder: str
) -> None:
    before = predictor(train, encoder)
    after = from_pretrained(save_pretrained(before, tmp_path / "model"))
    assert np.array_equal(after.predict(train), before.predict(train))
    assert torch.equal(after.embed(train), before.embed(train))
    assert after.training == before.training
    assert encoder_name(after.module) == encoder
    assert not list(tmp_path.glob("**/*.tmp"))


def test_card_and_config_say_what_was_trained(train: ZooDataset, tmp_path: Path) -> None:
    save_pretrained(predictor(train), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder"] == "sne" and config["config"]["width"] == 8
    assert "tiny (6 rows), seed 3" in (tmp_path / "README.md").read_text()


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folders_of_another_format_are_refused(train: ZooDataset, tmp_path: Path) -> None:
    good = save_pretrained(predictor(train), tmp_path / "good")
    for spoil, message in [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("x"), "is not JSON"),
        (lambda folder: change(folder, format="bert"), "format 'bert', expected"),
        (lambda folder: change(folder, encoder="gpt"), r"one of \[.*'sne'.*got 'gpt'"),
        (lambda folder: change(folder, config={"depth": 3}), r"takes .*got \['depth'\]"),
        (lambda folder: change(folder, config={"width": 16}), "does not fit its config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda folder: save_file({}, folder / "model.safetensors"), "does not fit"),
    ]:
        bad = shutil.copytree(good, tmp_path / "bad")
        spoil(bad)
        with pytest.raises(ModelFormatError, match=message):
            from_pretrained(bad)
        shutil.rmtree(bad)
    with pytest.raises(ModelFormatError, match="no folder 'nowhere'"):
        from_pretrained("nowhere")


def test_encoder_goes_to_the_hub_and_back(
    train: ZooDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, asked = tmp_path / "hub", []

    def upload(self: object, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        shutil.copytree(folder_path, hub)
        return SimpleNamespace(oid="c0ffee")

    def download(repo: str, **options: Any) -> str:
        asked.append((repo, options["revision"], options["allow_patterns"]))
        return str(hub)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    before = predictor(train)
    assert push_to_hub(before, "org/model") == "c0ffee"
    after = from_pretrained("org/model", revision="v1")
    assert np.array_equal(after.predict(train), before.predict(train))
    assert asked == [("org/model", "v1", ["config.json", "model.safetensors"])]


def test_numbers_that_are_not_finite_do_not_spoil_the_config(
    train: ZooDataset, tmp_path: Path
) -> None:
    bad = predictor(train)
    bad.training = {"val_score": None}
    assert from_pretrained(save_pretrained(bad, tmp_path)).training["val_score"] is None


def test_full_disk_leaves_the_saved_encoder_as_it_was(
    train: ZooDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = predictor(train)
    folder = save_pretrained(before, tmp_path / "m")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device: .*model.safetensors"):
            save_pretrained(predictor(train, "padded-mlp"), folder)
    assert np.array_equal(from_pretrained(folder).predict(train), before.predict(train))


@pytest.mark.parametrize(
    "odd", [{"encoder": ["sne"]}, {"encoder": 3}, {"class": 3, "encoder": "x"}]
)
def test_config_of_odd_types_is_refused(
    odd: dict[str, Any], train: ZooDataset, tmp_path: Path
) -> None:
    folder = save_pretrained(predictor(train), tmp_path / "m")
    change(folder, **odd)
    for encoder in (None, SNE):
        with pytest.raises(ModelFormatError, match="config.json"):
            from_pretrained(folder, encoder=encoder)
