"""Generated zoos and their evaluation, on MLPs that were trained on digits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import copy_as_imported

from weightzoo.builders.training.cohort import train_cohort
from weightzoo.loaders import HiddenPermutations, ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.behaviour import accuracies, behaviour_loss, logits
from weightzoo.tasks.autoencoding.canonical import Canonical, last_rows
from weightzoo.tasks.autoencoding.hyper_representation import (
    ZooAutoencoder,
    train_hyper_representation,
)
from weightzoo.tasks.autoencoding.learnable_rows import homogeneous, late_epoch
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.generation.generated_zoo import generate, write_generated_zoo
from weightzoo.tasks.generation.measures import (
    TrainingModels,
    disagreement,
    ensemble_accuracy,
    fine_tune,
    measure,
    noised,
    scratch,
)
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError, RecipeError
from weightzoo.zoos.images.catalog import Images, load_images
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.provenance import parent_provenance
from weightzoo.zoos.recipe import HyperParameters, load_recipe

TINY = AutoencoderSettings(
    shape={"latent": 4, "width": 8, "heads": 1, "blocks": 1}, epochs=1, progress=False
)


@pytest.fixture(scope="module")
def train(trained_zoo: Path) -> ZooDataset:
    return homogeneous(load_zoo(trained_zoo, split="train"), 0, "tanh")


@pytest.fixture(scope="module")
def autoencoder(trained_zoo: Path, train: ZooDataset) -> ZooAutoencoder:
    val = load_zoo(trained_zoo, split="val")
    assert isinstance(val, ZooDataset)
    return train_hyper_representation(train, val, TINY)


@pytest.fixture(scope="module")
def training(train: ZooDataset) -> TrainingModels:
    canonical = Canonical.fit(train)
    last = last_rows(train)
    weights = canonical.weights(train)[last]
    names = train.columns["activation"][last].tolist()
    return TrainingModels.of(canonical, weights, names, load_images("digits").test)


@pytest.fixture
def generated(autoencoder: ZooAutoencoder, train: ZooDataset, tmp_path: Path) -> Iterator[Path]:
    weights = generate(autoencoder, train, 20)
    weights[3, 7] = torch.nan
    made = write_generated_zoo(tmp_path / "made", weights, train, {"sampler": "kde"})
    assert made.models == 20 and made.diverged == 1 and np.isfinite(made.test_accuracy)
    yield tmp_path / "made"


def test_generated_zoo_is_whole_and_counts_broken_models(generated: Path) -> None:
    assert all(check.passed is not False for check in verify_zoo(generated, models=4))
    zoo = load_zoo(generated)
    assert isinstance(zoo, dict) and {"train", "val", "test"} == set(zoo)
    status = np.concatenate([split.columns["status"] for split in zoo.values()])
    assert sorted(status.tolist()).count("diverged") == 1 and len(status) == 20
    assert set(zoo["train"].columns["relation"]) == {"generated"}
    assert set(zoo["train"].columns["parent_zoo"]) == {"digits-mlp"}


@pytest.mark.parametrize("one_file", [False, True])
def test_generated_zoo_of_imported_parents_claims_no_licence(
    trained_zoo: Path, tmp_path: Path, one_file: bool
) -> None:
    folder = copy_as_imported(trained_zoo, tmp_path / "tuned")
    expected = parent_provenance(folder)
    path = folder / ZooIndex.read(folder).shards[0].path
    if one_file:
        path = path.rename(tmp_path / "alone.h5")
        expected = {"name": "digits-mlp", "imported": "smallcnn"}
    rows = load_zoo(path if one_file else folder, split="train").select([0, 1])
    write_generated_zoo(tmp_path / "made", rows.weights(), rows, {})
    made = ZooIndex.read(tmp_path / "made").open(tmp_path / "made")
    assert [file.header.provenance["parent"] for file in made] == [expected] * len(made)
    assert "license: unknown" in (tmp_path / "made" / "README.md").read_text()


def test_generated_zoo_is_not_overwritten(
    generated: Path, autoencoder: ZooAutoencoder, train: ZooDataset
) -> None:
    with pytest.raises(BuildError, match="exists"):
        write_generated_zoo(generated, generate(autoencoder, train, 2), train, {})
    with pytest.raises(ValueError, match=r"weights must be \(M, 16330\)"):
        write_generated_zoo(generated, torch.zeros(0, 16_330), train, {})


def test_generate_refuses_a_sampler_without_rows(
    autoencoder: ZooAutoencoder, train: ZooDataset
) -> None:
    with pytest.raises(ValueError, match="has no rows to fit the sampler to"):
        generate(autoencoder, train.select([]), 2)
    with pytest.raises(ValueError, match="count and draws must be at least 1"):
        generate(autoencoder, train, 0)


def test_generate_repeats_and_keeps_the_best_draws(
    autoencoder: ZooAutoencoder, train: ZooDataset
) -> None:
    one = generate(autoencoder, train, 3, seed=1)
    assert torch.equal(one, generate(autoencoder, train, 3, seed=1))
    assert not torch.equal(one, generate(autoencoder, train, 3, seed=2))
    assert generate(autoencoder, train, 2, draws=3, sampler="gaussian").shape == one[:2].shape


def test_late_epochs_are_the_last_fifth(train: ZooDataset) -> None:
    assert late_epoch(train) == 3  # of 3
    assert late_epoch(train.filter("epoch <= 1")) == 1


def test_homogeneous_says_which_epochs_there_are(trained_zoo: Path) -> None:
    with pytest.raises(ValueError, match=r"no finite checkpoint from epoch 9 on.*\[0, 1, 3\]"):
        homogeneous(load_zoo(trained_zoo, split="train"), 9)


def test_fine_tuning_from_scratch_is_training(train: ZooDataset) -> None:
    recipe = load_recipe("digits-mlp")
    values = HyperParameters(lr=3e-3, train_fraction=0.2)
    start = scratch(recipe.architecture, values, 8, seed=7)
    accuracy = fine_tune(recipe.architecture, start, values, load_images("digits"), (0, 2, 4))
    assert accuracy.shape == (8, 3)
    assert float(accuracy[:, 0].mean()) < 0.3 < 0.5 < float(accuracy[:, 2].mean())
    factors = {"activation": "relu", "lr": 3e-3, "train_fraction": 0.2}
    same = replace(recipe, factors=factors, seeds=8, epochs=4, checkpoints=(0, 4))
    known = train_cohort(same, same.models(), load_images("digits")).metrics["test_accuracy"]
    assert abs(float(known[:, 1].mean() - accuracy[:, 2].mean())) < 0.15


def test_fine_tuning_refuses_falling_epochs(train: ZooDataset) -> None:
    with pytest.raises(RecipeError, match=r"rising epochs from 0 to 1, got \[1, 0\]"):
        architecture = load_recipe("digits-mlp").architecture
        fine_tune(
            architecture, torch.zeros(1, 16_330), HyperParameters(), load_images("digits"), (1, 0)
        )


def test_training_models_are_found_again_in_any_order_of_units(
    train: ZooDataset, training: TrainingModels
) -> None:
    images = load_images("digits")
    values = HyperParameters(activation=str(train.columns["activation"][0]))
    weights = train.weights(last_rows(train)[:3])  # of one activation, as all of them
    permutations = HiddenPermutations.of(training.canonical.architecture)
    drawn = permutations.random_permutations(torch.Generator().manual_seed(0), 3)
    found = measure(permutations.apply(weights, drawn), training, values, images, (0,))
    assert found.nearest_distance < 0.5  # weight matching finds a local optimum
    same = measure(
        training.canonical.weights(train)[last_rows(train)], training, values, images, (0,)
    )
    assert same.nearest_agreement == 1 and same.nearest_distance < 1e-3
    fresh = scratch(training.canonical.architecture, values, 3, 0)
    new = measure(fresh, training, values, images, (0,))
    assert new.nearest_agreement < 0.6 and new.nearest_distance > 0.1


def test_noise_moves_models_away_from_themselves(
    train: ZooDataset, training: TrainingModels
) -> None:
    images, values = load_images("digits"), HyperParameters()
    weights = training.canonical.weights(train)[last_rows(train)[:3]]
    distances = [
        measure(
            noised(weights, training.canonical, sigma, torch.Generator().manual_seed(0)),
            training,
            values,
            images,
            (0,),
        ).nearest_distance
        for sigma in (0.02, 0.2)
    ]
    assert 0 < distances[0] < distances[1]


def test_models_that_are_not_finite_are_counted(
    train: ZooDataset, training: TrainingModels
) -> None:
    weights = train.weights(range(3))
    weights[1, 5] = torch.inf
    found = measure(weights, training, HyperParameters(), load_images("digits"), (0,))
    assert found.broken == 1 and np.isfinite(found.ensemble)
    assert torch.isnan(found.accuracy[1]).all() and torch.isfinite(found.accuracy[0]).all()


def test_disagreement_counts_pairs() -> None:
    predictions = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 2, 4]])
    assert disagreement(predictions) == pytest.approx((0 + 2 / 3 + 1) / 3)


def test_ensemble_takes_the_mean_of_logits() -> None:
    outputs = torch.tensor([[[3.0], [0.0]], [[0.0], [1.0]], [[0.0], [1.0]]])  # (M, O, Q)
    assert ensemble_accuracy(outputs, torch.tensor([0])) == 1.0
    assert ensemble_accuracy(outputs, torch.tensor([1])) == 0.0


def test_behaviour_loss_and_its_gradient_match_a_plain_network() -> None:
    architecture = load_recipe("digits-mlp").architecture
    pixels = load_images("digits").train.pixels[:5]
    images = Images(pixels, torch.zeros(5, dtype=torch.int64))
    true, made = torch.randn(2, 2, 16_330, generator=torch.Generator().manual_seed(0)) * 0.1
    made.requires_grad_()
    loss = behaviour_loss(architecture, made, true, ["tanh", "tanh"], images)
    (gradient,) = torch.autograd.grad(loss * 3, made)
    module, table = architecture.module("tanh"), architecture.layer_table()

    def outputs(row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, table.split(row), (pixels,))

    wanted = torch.stack([outputs(row) for row in true])
    variance = wanted.var(dim=(1, 2)).mean()
    mine = torch.stack([outputs(row) for row in made])
    same = (mine - wanted).square().mean() / variance
    torch.testing.assert_close(loss, same)
    torch.testing.assert_close(gradient, torch.autograd.grad(same * 3, made)[0])
    torch.testing.assert_close(
        logits(architecture, true, ["tanh"] * 2, images).transpose(1, 2), wanted
    )


def test_accuracies_of_broken_models_are_nan() -> None:
    architecture = load_recipe("digits-mlp").architecture
    weights = torch.zeros(2, 16_330)
    weights[1] = torch.nan
    loss, accuracy = accuracies(architecture, weights, ["relu"] * 2, load_images("digits").val)
    assert loss.isfinite().tolist() == [True, False] and torch.isnan(accuracy[1])
