"""One loader for every encoder: its declared input, in every mode, also within an epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows
from torch import Tensor, nn

from weightzoo.loaders import LayerSets, ZooDataset, load_zoo
from weightzoo.tasks.autoencoding import autoencoder_training, views
from weightzoo.tasks.autoencoding.hyper_representation import train_hyper_representation
from weightzoo.tasks.autoencoding.sane import SequenceSettings, train_sane
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.training import encoder_reader, encoder_training
from weightzoo.tasks.training.encoder_making import EncoderSpec
from weightzoo.tasks.training.encoder_reader import EncoderReader, declared_input
from weightzoo.tasks.training.encoder_regressor import train_encoder
from weightzoo.tasks.training.property_predictor import PropertyPredictor
from weightzoo.tasks.training.settings import TrainingSettings
from weightzoo.tasks.training.weight_scaling import WeightScaler
from weightzoo.zoos.errors import DeviceMemoryError, UnsuitableError
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens.windows import Windows

Splits = Mapping[str, ZooDataset]
SNE = EncoderSpec("sne", {"width": 4, "heads": 1, "blocks": 1, "chunk_size": 16})
SHAPE = {"latent": 2, "width": 4, "heads": 1, "blocks": 1}


@pytest.fixture
def zoo(tmp_path: Path) -> Splits:
    """12 models of 3 checkpoints."""
    torch.manual_seed(0)
    columns, weights = tiny_rows(tiny_architecture(), ["train"] * 7 + ["val"] * 3 + ["test"] * 2)
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(tiny_architecture()), columns, weights)
    return load_zoo(tmp_path / "zoo.h5")


class Declaring(nn.Module):
    """An encoder of one's own that keeps what it was given and adds up the values."""

    reads = "flat"

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(1, outputs)
        self.given: Any = None

    def forward(self, given: Any, layer_table: LayerTable) -> Tensor:
        self.given = given
        values = given if isinstance(given, Tensor) else given.get("values", given.get("weights"))
        return self.linear(values.flatten(1).sum(1, keepdim=True))


class OfLayerSets(Declaring):
    reads = "layer_sets"


class OfWindows(Declaring):
    reads = "windows"

    def windows(self, layer_table: LayerTable) -> Windows:
        return Windows(LayerSets(layer_table, 8), length=4)


class OfTrajectories(Declaring):
    reads = "trajectories"


def read(module: nn.Module, rows: ZooDataset, mode: str = "streaming") -> list[Any]:
    reader = EncoderReader(module, WeightScaler("none", {}))
    loader = reader.loader(rows, 2, "cpu", shuffle=False, mode=mode)
    return [reader.given(batch) for batch in loader]


class OfNetworks(Declaring):
    reads = "networks"

    def forward(self, given: Any, layer_table: LayerTable) -> Tensor:
        return super().forward(given.weights, layer_table)


@pytest.mark.parametrize("mode", ["streaming", "resident"])
def test_networks_have_the_weights_and_activations_of_their_rows(zoo: Splits, mode: str) -> None:
    train = zoo["train"]
    batches = read(OfNetworks(), train, mode)
    names = [name for batch in batches for name in batch.activations]
    assert names == train.columns["activation"].tolist()
    assert torch.equal(torch.cat([batch.weights for batch in batches]), train.weights())
    assert batches[0].architecture == train.header.architecture


def test_networks_are_never_scaled(zoo: Splits) -> None:
    scaler = WeightScaler.measure("tensor", [zoo["train"]])
    reader = EncoderReader(OfNetworks(), scaler)
    [batch] = reader.loader(zoo["val"], len(zoo["val"]), "cpu", shuffle=False)
    assert torch.equal(reader.given(batch).weights, zoo["val"].weights())
    settings = TrainingSettings(epochs=1, progress=False, scaling="tensor")
    spec = EncoderSpec("probegen", {"probes": 2, "latent": 2, "width": 4})
    trained = train_encoder(spec, zoo["train"], zoo["val"], "test_accuracy", settings)
    assert trained.scaler.scaling == "none"


def test_permuted_copies_of_networks_keep_their_activations(zoo: Splits) -> None:
    reader = EncoderReader(OfNetworks(), WeightScaler("none", {}))
    twice = reader.loader(
        zoo["val"], 3, "cpu", shuffle=False, change=lambda rows, _: torch.cat([rows, -rows])
    )
    batch = reader.given(next(iter(twice)))
    assert batch.activations == tuple(zoo["val"].columns["activation"][:3].tolist() * 2)
    assert torch.equal(batch.weights[3:], -zoo["val"].weights(range(3)))


def test_activation_is_no_target_of_an_encoder_that_gets_it(zoo: Splits) -> None:
    with pytest.raises(UnsuitableError, match="is handed their activation functions"):
        train_encoder(EncoderSpec("probegen"), zoo["train"], zoo["val"], "activation")


@pytest.mark.parametrize("options", [{"augment": True}, {"invariance": 0.1}])
def test_models_of_trajectories_are_not_reordered(zoo: Splits, options: dict[str, Any]) -> None:
    settings = TrainingSettings(epochs=1, progress=False, **options)
    with pytest.raises(ValueError, match="OfTrajectories reads trajectories, .*augment=False"):
        train_encoder(OfTrajectories, zoo["train"], zoo["val"], "test_accuracy", settings)


def test_networks_that_cannot_run_are_refused(zoo: Splits) -> None:
    with pytest.raises(UnsuitableError, match="no column 'activation'"):
        read(OfNetworks(), zoo["train"].select_columns(["epoch"]))


def trained(
    zoo: Splits, kind: str, folder: Path | None = None, **options: Any
) -> tuple[list[float], np.ndarray]:
    """Losses by epoch, and what the encoder makes of the test rows."""
    common = {"epochs": 2, "batch_size": 4, "progress": False} | options
    train, val = zoo["train"], zoo["val"]
    if kind == "sne":
        settings = TrainingSettings(**common, invariance=0.1)
        model = train_encoder(SNE, train, val, "test_accuracy", settings, 1, folder)
        losses = [epoch["train_loss"] for epoch in model.training["history"]]
        return losses, model.predict(zoo["test"])
    common |= {"shape": SHAPE | {"dropout": 0.1}}
    if kind == "hyper-representation":
        plain = AutoencoderSettings(**common)
        autoencoder: Any = train_hyper_representation(train, val, plain, 1, folder)
    else:
        tokens = {"token_size": 8, "window": 4, "halo": 1, "views": ("canonical", "permuted")}
        autoencoder = train_sane(train, val, SequenceSettings(**common, **tokens), 1, folder)
    losses = [epoch["loss"] for epoch in autoencoder.history]
    return losses, autoencoder.embed(zoo["test"]).numpy()


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_encoder_is_given_the_input_that_it_declares(zoo: Splits, mode: str) -> None:
    rows, sets = zoo["test"], LayerSets(zoo["test"].layer_table)
    flat = torch.cat(read(Declaring(), rows, mode))
    assert torch.equal(flat, rows.weights())
    cut = read(OfLayerSets(), rows, mode)
    assert torch.equal(torch.cat([one["values"] for one in cut]), sets(flat)["values"])
    assert torch.equal(cut[0]["mask"], sets.shared["mask"])
    windows = read(OfWindows(), rows, mode)
    wanted = OfWindows().windows(rows.layer_table).split(flat)
    assert torch.equal(torch.cat([one["values"] for one in windows]), wanted["values"])
    [models] = read(OfTrajectories(), rows, mode)
    assert torch.equal(models["weights"], rows.weights().unflatten(0, (2, 3)))
    assert models["epoch"].tolist() == [[0, 1, 2]] * 2 and models["mask"].all()


def test_trajectory_that_ends_early_repeats_its_last_checkpoint_under_a_mask(zoo: Splits) -> None:
    rows = zoo["test"].select([0, 1, 2, 3, 4])  # the second model lacks its last checkpoint
    [models] = read(OfTrajectories(), rows)
    assert models["mask"].tolist() == [[True] * 3, [True, True, False]]
    assert torch.equal(models["weights"][1, 2], models["weights"][1, 1])


@pytest.mark.parametrize("kind", [Declaring, OfLayerSets, OfWindows, OfTrajectories])
def test_encoder_of_any_input_is_trained_and_predicts(zoo: Splits, kind: type[Declaring]) -> None:
    settings = TrainingSettings(epochs=1, batch_size=4, progress=False)
    model = train_encoder(kind, zoo["train"], zoo["val"], "test_accuracy", settings)
    rows = model.rows_of(zoo["test"])
    assert rows["epoch"].tolist() == ([2, 2] if kind is OfTrajectories else [0, 1, 2] * 2)
    assert model.predict(zoo["test"]).shape == (len(rows),)
    if kind is not OfTrajectories:
        assert len(model.module.given if kind is Declaring else model.module.given["values"]) == 6


def test_subclass_with_a_forward_of_its_own_reads_flat_weights_unless_it_declares() -> None:
    class Changed(OfLayerSets):
        def forward(self, given: Any, layer_table: LayerTable) -> Tensor:
            return super().forward(given / 2, layer_table)

    class Declared(Changed):
        reads = "layer_sets"

    assert declared_input(OfLayerSets()) == declared_input(Declared()) == "layer_sets"
    assert declared_input(Changed()) == declared_input(nn.Linear(2, 1)) == "flat"


def test_wrong_declaration_is_refused() -> None:
    module = OfLayerSets()
    module.reads = "layers"
    with pytest.raises(ValueError, match=r"OfLayerSets.reads must be one of \('flat'.*'layers'"):
        EncoderReader(module, WeightScaler("none", {}))
    module.reads = "windows"
    with pytest.raises(ValueError, match=r"has no method windows\(layer_table\): let it return"):
        EncoderReader(module, WeightScaler("none", {}))


@pytest.mark.parametrize("kind", ["sne", "hyper-representation", "sane"])
def test_rows_from_the_files_train_to_the_same_as_rows_in_memory(
    zoo: Splits, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, made = trained(zoo, kind)
    monkeypatch.setattr(encoder_reader, "RESIDENT_BYTES", 0)
    for module in (encoder_training, views):
        assert module.training_mode([zoo["train"]], "cpu") == "auto"
    again, others = trained(zoo, kind)
    assert again == losses and np.array_equal(made, others)


@pytest.mark.parametrize("resident", [pytest.param(2**28, marks=pytest.mark.slow), 0])
@pytest.mark.parametrize("kind", ["sne", "hyper-representation", "sane"])
def test_training_killed_within_an_epoch_goes_on_to_the_same_result(
    zoo: Splits, kind: str, resident: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, made = trained(zoo, kind)
    monkeypatch.setattr(encoder_reader, "RESIDENT_BYTES", resident)
    training = encoder_training if kind == "sne" else autoencoder_training
    owner: Any = getattr(training, "EncoderTraining" if kind == "sne" else "AutoencoderTraining")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    save, saved = owner._save, []

    def killed(self: Any) -> None:
        save(self)
        saved.append(len(self.history))
        if len(saved) == 10:  # six steps and the end of the first epoch, three of the second
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, "_save", killed)
        trained(zoo, kind, tmp_path / "run")
    assert saved[-1] == 1
    again, others = trained(zoo, kind, tmp_path / "run")
    assert again == losses and np.array_equal(made, others)


@pytest.mark.parametrize("kind", ["sne", "hyper-representation"])
def test_step_that_the_device_has_no_room_for_names_the_batch_size(
    zoo: Splits, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(torch.Tensor, "backward", full)
    message = "a step on 4 rows does not fit the memory of 'cpu': take a batch_size below 4"
    with pytest.raises(DeviceMemoryError, match=message):
        trained(zoo, kind)


def test_prediction_names_the_row_that_is_not_finite(zoo: Splits, tmp_path: Path) -> None:
    module = Declaring()
    columns, weights = tiny_rows(tiny_architecture(), ["test"] * 30)
    weights[70, 3] = np.nan
    write_zoo_file(tmp_path / "bad.h5", tiny_header(tiny_architecture()), columns, weights)
    mapping = train_encoder(
        Declaring,
        zoo["train"],
        zoo["val"],
        "test_accuracy",
        TrainingSettings(epochs=1, progress=False),
    ).target_mapping
    scaler = WeightScaler("none", {})
    predictor = PropertyPredictor(module=module, target_mapping=mapping, scaler=scaler)
    with pytest.raises(ValueError, match="weights of row 70 of zoo"):
        predictor.predict(load_zoo(tmp_path / "bad.h5", split="test"))
