"""Targets, and the fine-tuning of zoos on them as populations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.builders.build import build_zoo
from weightzoo.builders.children.fine_tuning import with_head
from weightzoo.builders.children.parents import choose_parents
from weightzoo.tasks.ranking import fine_tuning_matrix, targets
from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol, fine_tune, finetune_matrix
from weightzoo.tasks.ranking.matrix import read_matrix
from weightzoo.tasks.ranking.model_sources import model_source
from weightzoo.tasks.ranking.samples import image_samples
from weightzoo.tasks.ranking.targets import Target, make_target
from weightzoo.zoos.errors import RecipeError, UnsuitableError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.image_set import make_image_set
from weightzoo.zoos.recipe import load_recipe

PROTOCOL = Protocol(epochs=2, rates=(1e-3, 1e-2), shots=5, seeds=2)
DIGITS = load_images("digits")


def test_targets_take_images_that_no_train_split_holds() -> None:
    target = make_target("digits", shots=5)
    train = image_samples(target.images, target.images.train)
    assert len(train) == 50 and target.family == "digits" and target.images.classes == 10
    assert not np.isin(train, image_samples(DIGITS, DIGITS.train)).any()
    assert np.isin(train, image_samples(DIGITS, DIGITS.val)).all()
    assert np.bincount(target.images.train.labels).tolist() == [5] * 10
    assert make_target("digits", shots=5).images.fingerprint == target.images.fingerprint


def test_changes_of_targets_do_what_they_say() -> None:
    plain = make_target("digits", shots=5).images
    bright = plain.brightness(plain.test.pixels)
    turned = make_target("digits+invert", shots=5).images
    assert torch.allclose(turned.brightness(turned.test.pixels), 1 - bright, atol=1e-6)
    blurred = make_target("digits+blur", shots=5).images
    assert blurred.brightness(blurred.test.pixels).var() < 0.8 * bright.var()
    second = make_target("digits+second+noise", shots=5).images
    assert second.classes == 5 and second.train.labels.unique().tolist() == [0, 1, 2, 3, 4]
    assert make_target("digits+rotate", shots=5).images.fingerprint != plain.fingerprint
    with pytest.raises(RecipeError, match="changes must be of.*got .'mirror'"):
        make_target("digits+mirror")
    with pytest.raises(RecipeError, match="shots must be below that, got 40"):
        make_target("digits", shots=40)


def test_targets_of_files_may_have_changes_and_few_of_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(256, size=(300, 5, 4), dtype=np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "own.npz", train_images=pixels[:200], train_labels=labels[:200],
             test_images=pixels[200:], test_labels=labels[200:])  # fmt: skip
    name = f"arrays:{tmp_path}/own.npz"
    target = make_target(f"{name}+invert", shots=4)
    assert target.family == name and len(target.images.train) == 12
    assert len(target.images.test) == 100
    monkeypatch.setattr(targets, "MOST_MEASURED", 15)
    few = make_target(f"{name}+first", shots=4).images
    assert (len(few.train), len(few.val), len(few.test)) == (8, 12, 15)


def test_unseen_domains_are_in_the_test_images_alone() -> None:
    target = make_target("digits/invert", shots=5)
    assert target.family == "digits" and target.domains is not None
    assert np.unique(target.domains).tolist() == [0, 2, 3, 4]  # of clean, invert, noise, ...
    assert len(target.images.train) == len(target.domains) == 4 * 50
    images = target.images
    bright = [images.brightness(part.pixels).mean() for part in (images.train, images.test)]
    assert bright[1] > bright[0] + 0.2
    clean = make_target("digits/clean", shots=5).images
    seen = np.concatenate([image_samples(clean, part) for part in (clean.train, clean.val)])
    assert not np.isin(image_samples(clean, clean.test), seen).any()
    with pytest.raises(RecipeError, match="the domain must be of"):
        make_target("digits/mirror", shots=5)


def test_matrix_of_a_zoo_is_whole(trained_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    zoos = [trained_zoo, f"{trained_zoo}@0"]
    matrix = finetune_matrix(zoos, ["digits+invert", "digits+first"], out, PROTOCOL, progress=False)
    assert matrix.test.shape == (48, 2, 2) and np.isfinite(matrix.test).all()
    assert matrix.columns["source_accuracy"][:24].mean() > matrix.columns["source_accuracy"][24]
    assert not np.array_equal(matrix.test[..., 0], matrix.test[..., 1])
    assert np.array_equal(read_matrix(out).test, matrix.test)
    assert not out.with_name("m.h5.parts").exists() and (matrix.seconds > 0).all()


def test_fine_tuning_starts_from_the_parents_but_for_the_last_layer(trained_zoo: Path) -> None:
    parents = choose_parents(trained_zoo)
    architecture = with_head(parents.architecture, 4)
    models, weights = parents.models[:3], parents.weights(range(3))
    start = fine_tuning_matrix.with_new_head
    flat = start(architecture, models, parents.architecture, weights)
    new = architecture.layer_table().split(flat)
    old = parents.architecture.layer_table().split(weights)
    body = [name for name in old if not name.startswith(architecture.layer_names()[-1])]
    assert body and all(torch.equal(new[name], old[name]) for name in body)
    same = start(parents.architecture, models, parents.architecture, weights)
    assert not torch.equal(same, weights)  # also where the classes are as many
    assert not any(new[name].any() for name in set(old) - set(body))


@pytest.mark.slow
def test_trained_models_are_ahead_of_untrained_ones_on_their_own_images(tmp_path: Path) -> None:
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"activation": "relu", "optimizer": "adam", "lr": 3e-3}
    factors |= {"dropout": 0.0, "train_fraction": 1.0, "init": "kaiming_uniform"}
    build_zoo(replace(recipe, factors=factors), tmp_path / "z", models=4, progress=False)
    target, protocol = make_target("digits"), Protocol(epochs=10)
    last, first = (model_source(f"{tmp_path / 'z'}{at}")[1] for at in ("", "@0"))
    trained, untrained = (fine_tune([one], target, protocol, 0, 1e-3)[1] for one in (last, first))
    assert trained.mean() > untrained.mean() + 0.03  # a drawn last layer puts untrained ones ahead


def test_zoos_that_are_run_together_give_what_each_gives_alone(
    trained_zoo: Path, tmp_path: Path
) -> None:
    zoos, targets = [trained_zoo, f"{trained_zoo}@0"], ["digits+first"]
    both = finetune_matrix(zoos, targets, tmp_path / "b.h5", PROTOCOL, progress=False)
    alone = finetune_matrix(zoos[1:], targets, tmp_path / "a.h5", PROTOCOL, progress=False)
    assert both.models[24:] == alone.models
    assert both.test[24:] == pytest.approx(alone.test, abs=0.011)  # an image or so of 150


def test_rate_of_a_cell_is_chosen_by_val(
    trained_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(parents: object, target: object, protocol: object, seed: int, rate: float) -> object:
        val, test = (0.9, 0.1) if rate == 1e-3 else (np.nan, 0.8)
        return np.tile(np.array([[val], [test], [1.0]]), (1, 24))

    monkeypatch.setattr(fine_tuning_matrix, "fine_tune", fake)
    matrix = finetune_matrix([trained_zoo], ["digits"], tmp_path / "m.h5", PROTOCOL, progress=False)
    assert (matrix.test == 0.1).all() and (matrix.val == 0.9).all() and (matrix.seconds == 2).all()


def test_matrix_that_was_killed_trains_only_the_rest(
    trained_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, float]] = []

    def counted(*arguments: object) -> object:
        if len(done) == 3:
            done.append((-1, 0.0))
            raise KeyboardInterrupt
        done.append(arguments[3:])  # type: ignore[arg-type]
        return np.full((3, 24), 0.5)

    monkeypatch.setattr(fine_tuning_matrix, "fine_tune", counted)
    run = (  # seeds 0, 1 by rates 1e-3, 1e-2
        [trained_zoo],
        ["digits"],
        tmp_path / "m.h5",
        PROTOCOL,
    )
    with pytest.raises(KeyboardInterrupt):
        finetune_matrix(*run, progress=False)
    finetune_matrix(*run, progress=False)
    assert done == [(0, 1e-3), (0, 1e-2), (1, 1e-3), (-1, 0.0), (1, 1e-2)]


def test_fine_tuning_repeats_exactly(trained_zoo: Path) -> None:
    parents, target = choose_parents(trained_zoo), make_target("digits", shots=5)
    first, again, other = (fine_tune([parents], target, PROTOCOL, seed, 1e-3) for seed in (0, 0, 1))
    assert np.array_equal(first[:2], again[:2]) and not np.array_equal(first[:2], other[:2])


def test_matrix_refuses_what_cannot_be_ranked(trained_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    small = make_image_set("small", [(torch.zeros(4, 1, 8, 8).byte(), torch.arange(4))] * 3, 4)
    other = Target(name="small", family="small", images=small)
    with pytest.raises(UnsuitableError, match=r"take images of shape \(1, 28, 28\)"):
        fine_tuning_matrix.check_parents("zoo", choose_parents(trained_zoo), [other])
    seen = Target(name="seen", family="digits", images=replace(DIGITS, test=DIGITS.train))
    with pytest.raises(UnsuitableError, match="1197 of 1197 images of the train images"):
        fine_tuning_matrix.check_parents("zoo", choose_parents(trained_zoo), [seen])
    with pytest.raises(ValueError, match="must be different"):
        finetune_matrix([trained_zoo], ["digits", "digits"], out, PROTOCOL)
    with pytest.raises(ValueError, match="epoch must be a whole number, got 'last'"):
        finetune_matrix([f"{trained_zoo}@last"], ["digits"], out, PROTOCOL)
    assert not list(tmp_path.iterdir())
