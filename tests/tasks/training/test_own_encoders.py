"""Encoders of users: registered, saved, loaded, and never imported because of a file."""

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from weightzoo.encoders import SNE, register_encoder
from weightzoo.encoders.registry import unregister_encoder
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.pretrained import from_pretrained, save_pretrained
from weightzoo.tasks.processes import worker_pool
from weightzoo.tasks.scoring.targets import TargetMapping
from weightzoo.tasks.training.checks import check_architecture
from weightzoo.tasks.training.encoder_making import (
    EncoderFactory,
    EncoderSpec,
    describe_encoder,
    encoder_name,
    make_encoder,
)
from weightzoo.tasks.training.model_folder import ModelFormatError
from weightzoo.tasks.training.property_predictor import PropertyPredictor
from weightzoo.tasks.training.weight_scaling import WeightScaler
from weightzoo.zoos.networks.layer_table import LayerTable

SOURCE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("imported").touch()

class Hostile(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.line = nn.Linear({width}, outputs)

    def forward(self, weights, layer_table):
        return self.line(weights)
"""


class Norms(nn.Module):
    """The norm of the weights, through a layer of some width; keeps no config of its own."""

    def __init__(self, width: int = 4, outputs: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        return self.layers(weights.norm(dim=1, keepdim=True))


class Flat(nn.Module):
    """One line over all weights of an architecture."""

    def __init__(self, layer_table: LayerTable, outputs: int = 1) -> None:
        super().__init__()
        self.line = nn.Linear(layer_table.width, outputs)

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        return self.line(weights)

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        return weights[:, :3]


class Odd(Norms):
    """Returns no row per model."""

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        return super().forward(weights, layer_table).sum()


class Broken(Norms):
    """Reads a layer that does not exist."""

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        return self.layers(weights)


class Settings(Norms):
    """Keeps a config that is no data."""

    config = nn.Linear(1, 1)


class Norms2(Norms):
    """Another class with the same weights."""


@pytest.fixture
def train(tiny_zoo: Path) -> ZooDataset:
    return load_zoo(tiny_zoo, split="train")


def predictor(train: ZooDataset, encoder: EncoderFactory) -> PropertyPredictor:
    return PropertyPredictor(
        module=make_encoder(encoder, [train.layer_table], 1),
        target_mapping=TargetMapping(target="test_accuracy", loss_name="bce"),
        scaler=WeightScaler.measure("tensor", [train]),
    )


@pytest.mark.parametrize("encoder", [Norms, Flat])
def test_registered_encoder_is_saved_and_loaded_like_ours(
    encoder: type[nn.Module], train: ZooDataset, tmp_path: Path
) -> None:
    register_encoder("norms", encoder)
    try:
        before = predictor(train, EncoderSpec("norms"))
        folder = save_pretrained(before, tmp_path / "m")
        after = from_pretrained(folder)
    finally:
        unregister_encoder("norms")
    assert json.loads((folder / "config.json").read_text())["encoder"] == "norms"
    assert np.array_equal(after.predict(train), before.predict(train))
    with pytest.raises(ModelFormatError, match="hand the class over with"):
        from_pretrained(folder)
    assert isinstance(from_pretrained(folder, encoder=encoder).module, encoder)


@pytest.mark.parametrize("encoder", [partial(Norms, width=3), Flat])
def test_class_that_is_handed_over_is_loaded(
    encoder: EncoderFactory, train: ZooDataset, tmp_path: Path
) -> None:
    before = predictor(train, encoder)
    folder = save_pretrained(before, tmp_path / "m")
    kind = type(before.module)
    after = from_pretrained(folder, encoder=kind)
    assert np.array_equal(after.predict(train), before.predict(train))
    with pytest.raises(ModelFormatError, match=rf"saved from the class '{kind.__name__}'.*Norms2"):
        from_pretrained(folder, encoder=Norms2)
    register_encoder("another name", kind)
    try:
        assert isinstance(from_pretrained(folder).module, kind)
    finally:
        unregister_encoder("another name")


@pytest.mark.parametrize("changed", ["encoder", "class", "both"])
def test_no_file_causes_an_import(
    changed: str, train: ZooDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = save_pretrained(predictor(train, Norms), tmp_path / "hostile")
    (hostile / "hostile.py").write_text(SOURCE.format(width=train.layer_table.width))
    config = json.loads((hostile / "config.json").read_text())
    keys = ("encoder", "class") if changed == "both" else (changed,)
    (hostile / "config.json").write_text(
        json.dumps(config | dict.fromkeys(keys, "hostile:Hostile"))
    )
    monkeypatch.chdir(hostile)
    monkeypatch.syspath_prepend(str(hostile))
    with pytest.raises(ModelFormatError, match="no file makes weightzoo import code"):
        from_pretrained(hostile)
    assert "hostile" not in sys.modules and not (hostile / "imported").exists()


def test_entry_point_is_not_loaded_for_a_file(
    train: ZooDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "plugin-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[weightzoo.encoders]\nplugged = pluginmodule:Hostile\n"
    )
    module = package.parent / "pluginmodule.py"
    module.write_text(SOURCE.format(width=train.layer_table.width))
    monkeypatch.syspath_prepend(str(package.parent))
    before = predictor(train, EncoderSpec("plugged"))
    folder = save_pretrained(before, tmp_path / "m")
    unregister_encoder("plugged")
    (package.parent / "imported").unlink()
    del sys.modules["pluginmodule"]
    with pytest.raises(ModelFormatError, match="hand the class over"):
        from_pretrained(folder)
    assert not (package.parent / "imported").exists()
    loaded = from_pretrained(folder, encoder="plugged")
    assert np.array_equal(loaded.predict(train), before.predict(train))
    unregister_encoder("plugged")
    del sys.modules["pluginmodule"]


def test_handed_class_cannot_replace_an_encoder_of_ours(train: ZooDataset, tmp_path: Path) -> None:
    spec = EncoderSpec("padded-mlp", {"length": 50})
    folder = save_pretrained(predictor(train, spec), tmp_path / "m")
    with pytest.raises(ModelFormatError, match="holds the encoder 'padded-mlp' of weightzoo"):
        from_pretrained(folder, encoder=Norms)


def test_faults_of_ones_own_encoder_are_explained(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match=r"must return a tensor \(B, outputs\).* shape \(\)"):
        check_architecture(Odd(), train)
    message = r"Broken fails on zoo 'tiny': RuntimeError: .*line \d+ of .*weights \(2, 71\)"
    with pytest.raises(ValueError, match=message):
        check_architecture(Broken(), train)
    with pytest.raises(ValueError, match="Settings.config must be a dict of constructor"):
        save_pretrained(predictor(train, Settings), Path("nowhere"))


def test_registered_encoder_goes_along_to_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # spawned processes inherit the search path
    (tmp_path / "travelling.py").write_text(SOURCE.format(width=3))
    register_encoder("lines", importlib.import_module("travelling").Hostile)
    try:
        with worker_pool(1) as pool:
            [described] = pool.map(describe_encoder, [EncoderSpec("lines", {"outputs": 1})])
    finally:
        unregister_encoder("lines")
        del sys.modules["travelling"]
    assert (described["encoder"], described["options"]) == ("lines", {"outputs": 1})


def test_changed_source_is_another_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "changing.py"
    file.write_text(SOURCE.format(width=3))
    before = describe_encoder(EncoderSpec("changing:Hostile"))
    file.write_text(SOURCE.format(width=4))
    assert describe_encoder(EncoderSpec("changing:Hostile")) != before
    assert "source" not in describe_encoder(EncoderSpec("sne"))
    del sys.modules["changing"]


def test_saved_encoder_has_the_name_of_its_configuration() -> None:
    names = [encoder_name(one) for one in (SNE(), SNE.paper(outputs=3), SNE.paper(width=8))]
    assert names == ["sne", "sne-paper", "sne"]  # the config of the last says the rest
