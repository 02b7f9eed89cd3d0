"""Autoencoders in folders: saved, loaded, probed, and refused if they are damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo.loaders import ZooDataset
from weightzoo.tasks.autoencoding.hyper_representation import train_hyper_representation
from weightzoo.tasks.autoencoding.sane import SequenceSettings, train_sane
from weightzoo.tasks.autoencoding.saved import load_autoencoder
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.autoencoding.token_autoencoder import Origin, TokenAutoencoder
from weightzoo.tasks.pretrained import from_pretrained, save_pretrained
from weightzoo.tasks.training.model_folder import ModelFormatError

Splits = dict[str, ZooDataset]
SMALL: dict[str, Any] = {"epochs": 2, "progress": False}
SHAPE = {"width": 16, "heads": 2, "blocks": 1}


def trained(zoo: Splits, kind: str = "hyper-representation", **options: Any) -> TokenAutoencoder:
    if kind == "sane":
        given = {"shape": SHAPE | {"latent": 4}, "token_size": 8, "window": 4, "halo": 2}
        return train_sane(zoo["train"], zoo["val"], SequenceSettings(**SMALL | given | options))
    settings = AutoencoderSettings(**SMALL | {"shape": SHAPE | {"latent": 8}} | options)
    return train_hyper_representation(zoo["train"], zoo["val"], settings)


@pytest.mark.parametrize("kind", ["hyper-representation", "sane"])
def test_saved_autoencoder_maps_and_predicts_as_before(
    kind: str, zoo: Splits, tmp_path: Path
) -> None:
    made = trained(zoo, kind).fit_probe(zoo["train"], zoo["val"], "test_accuracy")
    made.origin = Origin(zoo="some/zoo", least_epoch=1)
    loaded = from_pretrained(save_pretrained(made, tmp_path / "m"))
    assert isinstance(loaded, type(made)) and loaded.origin == made.origin
    latent = made.encode(zoo["test"])
    assert torch.equal(loaded.encode(zoo["test"]), latent)
    assert torch.equal(loaded.decode(latent), made.decode(latent))
    assert torch.equal(loaded.embed(zoo["test"]), made.embed(zoo["test"]))
    assert np.array_equal(loaded.predict(zoo["test"]), made.predict(zoo["test"]))
    assert (loaded.history, loaded.kept_epoch) == (made.history, made.kept_epoch)
    assert (loaded.settings, loaded.target) == (made.settings, "test_accuracy")
    assert "# " + kind in (tmp_path / "m" / "README.md").read_text()


def test_autoencoder_without_reference_and_probe_is_saved(zoo: Splits, tmp_path: Path) -> None:
    made = trained(zoo, aligned=False)
    loaded = from_pretrained(save_pretrained(made, tmp_path / "m"))
    assert torch.equal(loaded.embed(zoo["test"]), made.embed(zoo["test"]))
    with pytest.raises(ValueError, match="has no probe.*call fit_probe"):
        loaded.predict(zoo["test"])


def test_probe_predicts_what_the_embedding_holds(zoo: Splits) -> None:
    made = trained(zoo, epochs=40, gamma=0.0, lr=5e-3, erasing=0.0, noise=0.0)
    made.fit_probe(zoo["train"], zoo["val"], "test_accuracy")
    true, predicted = zoo["test"].columns["test_accuracy"], made.predict(zoo["test"])
    assert np.corrcoef(true, predicted)[0, 1] > 0.7
    shuffled = np.random.default_rng(0).permutation(true)
    assert abs(np.corrcoef(shuffled, predicted)[0, 1]) < 0.5
    made.fit_probe(zoo["train"], zoo["val"], "activation")
    assert set(made.predict(zoo["test"])) <= set(zoo["train"].columns["activation"])
    with pytest.raises(ValueError, match="no column 'depth' to predict"):
        made.fit_probe(zoo["train"], zoo["val"], "depth")


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_folders_say_what_is_wrong(zoo: Splits, tmp_path: Path) -> None:
    good = save_pretrained(trained(zoo), tmp_path / "good")
    settings = json.loads((good / "config.json").read_text())["settings"]
    for spoil, message in [
        (lambda folder: change(folder, kind="vae"), "kind must be one of .* got 'vae'"),
        (lambda folder: change(folder, settings=settings | {"odd": 1}), "config.json: .*'odd'"),
        (lambda folder: change(folder, settings=settings | {"shape": {"latent": 4}}), "not fit"),
        (lambda folder: change(folder, history=[], probe={"target": "x"}), "config.json: "),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot be read"),
    ]:
        bad = shutil.copytree(good, tmp_path / "bad")
        spoil(bad)
        with pytest.raises(ModelFormatError, match=message):
            from_pretrained(bad)
        shutil.rmtree(bad)
    with pytest.raises(ModelFormatError, match="holds an autoencoder of weightzoo: leave out"):
        from_pretrained(good, encoder="sne")


def test_file_that_is_no_autoencoder_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ValueError, match="holds no autoencoder"):
        load_autoencoder(tmp_path / "text.pt")
    torch.save({"kind": "sane"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="KeyError: 'architecture'"):
        load_autoencoder(tmp_path / "other.pt")
