"""Training of autoencoders, on a zoo of random weights around one model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo.loaders import HiddenPermutations, ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.autoencoder_training import AutoencoderTraining
from weightzoo.tasks.autoencoding.batch_share import BatchShare
from weightzoo.tasks.autoencoding.canonical import Canonical
from weightzoo.tasks.autoencoding.canonical_rows import CanonicalRows
from weightzoo.tasks.autoencoding.hyper_representation import (
    ModelTraining,
    ZooAutoencoder,
    train_hyper_representation,
)
from weightzoo.tasks.autoencoding.sane import (
    SequenceAutoencoder,
    SequenceSettings,
    SequenceTraining,
    make_sane,
    train_sane,
)
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.autoencoding.token_autoencoder import TokenAutoencoder
from weightzoo.zoos.errors import DivergedError, ZooFormatError
from weightzoo.zoos.format import write_zoo_file

Splits = dict[str, ZooDataset]


def settings(**options: object) -> AutoencoderSettings:
    small = {"shape": {"latent": 8, "width": 16, "heads": 2, "blocks": 1}, "progress": False}
    quick = {"epochs": 2, "erasing": 0.0, "noise": 0.0, **small, **options}
    return AutoencoderSettings(**quick)  # type: ignore[arg-type]


def sequence(**options: object) -> SequenceSettings:
    given = {"token_size": 8, "window": 4, "halo": 2, **options}
    plain = {key: value for key, value in vars(settings()).items() if key not in given}
    return SequenceSettings(**plain | {"shape": plain["shape"] | {"latent": 4}} | given)  # type: ignore[arg-type]


def trained(zoo: Splits, seed: int = 0, **options: object) -> ZooAutoencoder:
    return train_hyper_representation(zoo["train"], zoo["val"], settings(**options), seed)


def test_autoencoder_learns_to_reconstruct_models_it_never_saw(zoo: Splits) -> None:
    autoencoder = trained(zoo, epochs=40, gamma=0.0, lr=5e-3)
    losses = [epoch["loss"] for epoch in autoencoder.history]
    r2 = autoencoder.r2(autoencoder.canonical.weights(zoo["test"]))
    assert losses[-1] < losses[0] / 3
    assert r2["all"] > 0.5 and set(r2) == {"conv1", "linear1", "linear2", "all"}


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_autoencoder_keeps_the_epoch_that_is_best_on_val(
    zoo: Splits, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    scores, states = iter([0.1, 0.5, 0.2, 0.3]), []

    def val_r2(self: ModelTraining) -> float:
        states.append(self.module.compress.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(ModelTraining, "val_r2", val_r2)
    made = trained(zoo, epochs=4, keep=keep)
    assert len(states) == len(made.history) == 4 and made.kept_epoch == epoch
    assert torch.equal(made.module.compress.weight, states[epoch])
    assert not torch.equal(states[1], states[3])


def test_autoencoder_that_diverges_keeps_the_best_epoch_before(
    zoo: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, np.nan, np.nan])
    monkeypatch.setattr(ModelTraining, "val_r2", lambda self: next(scores))
    made = trained(zoo, epochs=4)
    assert made.kept_epoch == 1 and len(made.history) == 2
    assert made.note is not None and "diverged in epoch 2" in made.note
    assert "the weights of epoch 1 are kept" in made.note
    with pytest.raises(DivergedError, match="diverged in epoch 0: take a smaller lr"):
        trained(zoo, epochs=4)


@pytest.mark.parametrize("kind", ["models", "windows from files"])
def test_killed_autoencoder_goes_on_to_the_same_result(
    zoo: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shape = {"latent": 4, "width": 8, "heads": 1, "blocks": 1, "dropout": 0.1}
    options: dict[str, object] = {"epochs": 4, "noise": 0.1, "lr": 0.01}

    def train(folder: Path | None) -> TokenAutoencoder:
        if kind == "models":
            given = settings(shape=shape, **options)
            return train_hyper_representation(zoo["train"], zoo["val"], given, 1, folder)
        files = sequence(aligned=False, from_files=True, **options)
        return train_sane(zoo["train"], zoo["val"], files, 1, folder)

    whole, epoch, calls = train(None), AutoencoderTraining._epoch, []

    def killed(self: AutoencoderTraining, *arguments: Any) -> dict[str, float]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls.append(epoch(self, *arguments)) or calls[-1]  # type: ignore[func-returns-value]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AutoencoderTraining, "_epoch", killed)
        train(tmp_path)
    resumed = train(tmp_path)
    assert resumed.history == whole.history and resumed.kept_epoch == whole.kept_epoch
    weights = zoo["test"].weights()
    assert torch.equal(resumed.encode(weights), whole.encode(weights))


def test_checkpoint_of_another_autoencoder_is_refused(zoo: Splits, tmp_path: Path) -> None:
    splits = zoo["train"], zoo["val"]
    train_hyper_representation(*splits, settings(epochs=1), 0, tmp_path)
    with pytest.raises(ValueError, match=r"to a training run with other \['settings'\]"):
        train_hyper_representation(*splits, settings(epochs=2), 0, tmp_path)
    made = train_hyper_representation(*splits, settings(epochs=2), 0, tmp_path, resume=False)
    assert len(made.history) == 2


def test_alignment_is_what_makes_them_alike(zoo: Splits) -> None:
    spreads = []
    for aligned in (True, False):
        canonical = Canonical.fit(zoo["train"], aligned)
        weights = canonical.standardization.apply(canonical.weights(zoo["train"]))
        spreads.append(float((weights - weights.mean(0)).square().mean()))
    assert spreads[0] < 0.9 * spreads[1]


def test_all_checkpoints_of_a_model_are_reordered_alike(zoo: Splits) -> None:
    canonical = Canonical.fit(zoo["train"])
    weights = canonical.weights(zoo["train"])
    for model in range(3):  # its three checkpoints are equal in this zoo
        of_model = weights[3 * model : 3 * model + 3]
        assert torch.equal(of_model[0], of_model[1]) and torch.equal(of_model[0], of_model[2])


def test_losses_are_read_from_the_device_once_per_epoch(
    zoo: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, read, counts = torch.Tensor.tolist, list[torch.Tensor](), []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read.append(self) or plain(self))
    for batch_size in (60, 12):  # 2 and 10 steps
        read.clear()
        trained(zoo, epochs=1, batch_size=batch_size)
        counts.append(len(read))
    assert counts[0] == counts[1] > 0


def test_equal_seeds_give_equal_autoencoders(zoo: Splits) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights = Canonical.fit(zoo["train"]).weights(zoo["test"])
    first = trained(zoo, seed=1, views=("canonical", "permuted"), erasing=0.5, noise=0.1)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = trained(zoo, seed=1, views=("canonical", "permuted"), erasing=0.5, noise=0.1)
    assert torch.equal(first.encode(weights), again.encode(weights))
    assert not torch.equal(first.encode(weights), trained(zoo, seed=2).encode(weights))


def test_contrast_brings_permuted_views_together(zoo: Splits) -> None:
    apart = []
    for gamma in (0.0, 0.9):
        views = ("permuted", "permuted")
        autoencoder = trained(zoo, epochs=25, gamma=gamma, views=views, aligned=False)
        permutations = HiddenPermutations.of(autoencoder.canonical.architecture)
        weights = zoo["test"].weights()
        drawn = permutations.random_permutations(torch.Generator().manual_seed(3), len(weights))
        one = autoencoder.encode(weights)
        other = autoencoder.encode(permutations.apply(weights, drawn))
        apart.append(float((one - other).norm() / (one - one.mean(0)).norm()))
    assert apart[1] < 0.8 * apart[0]


def test_plain_loss_neglects_layers_of_small_weights(zoo: Splits, tmp_path: Path) -> None:
    table = zoo["train"].layer_table
    first = table[0].size + table[1].size
    shrunk = {}
    for split, rows in zoo.items():
        columns = {name: rows.columns[name].copy() for name in rows.columns}
        weights = rows.weights().clone()
        weights[:, :first] *= 0.01
        write_zoo_file(tmp_path / f"{split}.h5", rows.header, columns, weights.numpy())
        loaded = load_zoo(tmp_path / f"{split}.h5", split=split)
        assert isinstance(loaded, ZooDataset)
        shrunk[split] = loaded
    explained = []
    for normalised in (True, False):
        made = trained(shrunk, epochs=15, gamma=0.0, normalised=normalised, lr=5e-3)
        explained.append(made.r2(made.canonical.weights(shrunk["train"]))["conv1"])
    assert explained[0] > explained[1] + 0.1


def test_zoo_too_small_for_the_latent_is_refused(zoo: Splits) -> None:
    with pytest.raises(ValueError, match="120 train rows are too few for a latent vector of 200"):
        trained(zoo, shape={"latent": 200})


def test_checkpoints_of_another_architecture_are_refused(zoo: Splits, tiny_zoo: Path) -> None:
    canonical = Canonical.fit(zoo["train"])
    table = zoo["test"].window(0, 20)
    with pytest.raises(ZooFormatError, match="'tiny-cnn', the model is for 'tiny-cnn'"):
        canonical.weights(table)


def test_rows_that_are_not_finite_are_refused(zoo: Splits, tmp_path: Path) -> None:
    rows = zoo["train"]
    weights = rows.weights().clone()
    weights[0, 0] = torch.nan
    columns = {name: rows.columns[name].copy() for name in rows.columns}
    write_zoo_file(tmp_path / "nan.h5", rows.header, columns, weights.numpy())
    broken = load_zoo(tmp_path / "nan.h5", split="train")
    assert isinstance(broken, ZooDataset)
    with pytest.raises(ValueError, match="status == 'ok'"):
        train_hyper_representation(broken, zoo["val"], settings())


def test_zoo_without_images_has_no_behaviour(zoo: Splits) -> None:
    with pytest.raises(ValueError, match="does not name the image set"):
        trained(zoo, structure=0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"contrast": "cosine"},
        {"reduction": "sum"},
        {"keep": "first"},
        {"views": ("canonical", "shuffled")},
        {"gamma": 1.5},
        {"epochs": 0},
        {"batch_size": 1},
        {"lr": 0.0},
    ],
)
def test_settings_refuse_bad_values(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|must lie"):
        settings(**bad)


def test_sane_learns_and_gives_one_latent_vector_per_token(zoo: Splits) -> None:
    made = train_sane(zoo["train"], zoo["val"], sequence(epochs=40, gamma=0.0, lr=5e-3))
    weights = made.canonical.weights(zoo["test"])
    tokens = made.tokenizer.shape[0]
    assert made.encode(weights).shape == (30, 4 * tokens)
    assert made.embed(weights).shape == (30, 4)
    assert made.r2(weights)["all"] > 0.3


def test_sane_from_files_sees_the_same_windows(zoo: Splits) -> None:
    options = {"aligned": False, "epochs": 3}
    made = train_sane(zoo["train"], zoo["val"], sequence(from_files=True, **options))
    assert made.history[-1]["structure"] < made.history[0]["structure"]
    with pytest.raises(ValueError, match="from_files reads only windows"):
        sequence(from_files=True)


@pytest.mark.parametrize("from_files", [True, False])
def test_sane_with_published_positions_has_smaller_tables(zoo: Splits, from_files: bool) -> None:
    made = {}
    for positions in ("running", "published"):
        options = sequence(aligned=False, from_files=from_files, positions=positions, epochs=1)
        made[positions] = train_sane(zoo["train"], zoo["val"], options)
    tables = {name: one.module.position.sizes for name, one in made.items()}
    assert tables["running"][0] == tables["published"][0] == made["running"].tokenizer.shape[0]
    assert tables["published"][2] < tables["running"][2]
    with pytest.raises(ValueError, match="positions must be one of"):
        sequence(positions="neuron")


def test_windows_from_files_are_standardised_as_those_from_memory(zoo: Splits) -> None:
    made = {}
    for from_files in (True, False):
        options = sequence(aligned=False, from_files=from_files, window=100)
        canonical = Canonical.fit(zoo["train"], aligned=False)
        module = make_sane(zoo["train"].layer_table, options)
        mean = torch.zeros(zoo["train"].layer_table.width)
        autoencoder = SequenceAutoencoder(canonical, module, options, mean)
        rows = CanonicalRows(canonical, zoo["train"], 4)
        training = SequenceTraining(autoencoder, rows, zoo["val"], 0)
        training.share = BatchShare(0, 4, 4)
        [weights] = training.read([torch.arange(4)])
        made[from_files] = training.cut(torch.arange(4), weights)[0]
        training.close()
    assert all(torch.allclose(made[True][key], made[False][key], atol=1e-5) for key in made[True])
