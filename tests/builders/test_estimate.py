"""The estimate of a build's time: of every shipped recipe, and without fetching an image."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weightzoo.builders import estimate as build_time
from weightzoo.builders.estimate import Rates, estimate_build, part_sizes, probe
from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images import hub_images
from weightzoo.zoos.images.catalog import ImageSet, load_images
from weightzoo.zoos.images.signals import load_signals
from weightzoo.zoos.recipe import Recipe, load_recipe, recipe_names


@pytest.fixture(autouse=True)
def no_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*arguments: object) -> None:
        raise AssertionError("a dry run must not fetch images")

    monkeypatch.setattr(hub_images, "_fetch", fetch)


def _few(name: str, **changes: object) -> Recipe:
    recipe = load_recipe(name)
    return replace(recipe, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", recipe_names())
def test_sizes_are_known_of_what_every_recipe_learns(name: str) -> None:
    sizes = part_sizes(load_recipe(name).images)
    assert sizes is not None and min(sizes) > 0


@pytest.mark.parametrize("name", ["digits", "glyphs-latin", "sine", "digits-inr"])
def test_sizes_are_those_of_the_set(name: str) -> None:
    if name in ("sine", "digits-inr"):
        data = load_signals(name)
        parts = [len(data.part_inputs(part)) for part in ("train", "val", "test")]
    else:
        images = load_images(name)
        parts = [len(images.train), len(images.val), len(images.test)]
    assert part_sizes(name) == tuple(parts)


def test_sizes_of_own_image_files_are_known(tmp_path: Path) -> None:
    labels = torch.arange(120) % 3
    pixels = torch.randint(0, 256, (120, 8, 8), dtype=torch.uint8)
    images = ImageSet.from_arrays("own", train=(pixels, labels))
    sizes = part_sizes(images.save(tmp_path / "own.npz"))
    assert sizes == (len(images.train), len(images.val), len(images.test))
    recipe = _few("digits-mlp", images="arrays:nowhere.npz")
    with pytest.raises(RecipeError, match=r"no file 'nowhere\.npz'"):
        estimate_build(recipe, recipe.models(16))


def test_stalled_step_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock readings around four steps: a slow first one, a stalled one, and two usual ones."""
    marks = iter([0.0, 5.0, 6.0, 96.0, 97.0])
    monkeypatch.setattr(build_time.time, "perf_counter", lambda: next(marks))
    assert build_time._seconds([torch.zeros(1)] * 4) == 1.0


def test_estimate_counts_what_is_trained_and_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 models of 1,197 train, 300 val and 300 test images, 3 epochs, 2 checkpoints, 2 cores."""
    recipe = _few("digits-mlp", factors={}, seeds=8, epochs=3, checkpoints=(0, 3))
    monkeypatch.setattr(build_time, "probe", lambda *_: Rates(100.0, 1000.0, 8, 32))
    estimate = estimate_build(recipe, recipe.models(), workers=2)
    expected = 8 * (3 * 1197 / 100 + 2 * (1197 + 300 + 300) / 1000) / 2
    assert estimate.seconds == pytest.approx(expected)
    assert "probe here of 8 models" in estimate.basis and "2 cores" in estimate.basis


@pytest.mark.parametrize("name", ["digits-mlp", "cifar10-cnn-l-seed", "mnist-inr", "sine-inr"])
def test_probe_times_a_cohort(name: str) -> None:
    recipe = load_recipe(name)
    models = recipe.models(32)
    rates = probe(recipe, models)
    assert rates.training > 0 and rates.evaluation > 0
    assert rates.batch_size <= models[0].hyper_parameters.batch_size


def test_probe_of_slow_nets_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_time, "PROBE_SECONDS", 0.0)
    recipe = load_recipe("digits-mlp")
    rates = probe(recipe, recipe.models(64))
    assert (rates.models, rates.batch_size) == (1, build_time.SMALL_BATCH)


def test_probe_of_slow_signal_nets_takes_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of eight points lasts about as long as one of a thousand."""
    monkeypatch.setattr(build_time, "PROBE_SECONDS", 0.0)
    recipe = load_recipe("sine-inr")
    rates = probe(recipe, recipe.models(10))
    assert (rates.models, rates.batch_size) == (1, 1000)


def test_estimate_says_what_it_does_not_know() -> None:
    recipe = _few("digits-mlp", images="hub:someone/pictures")
    estimate = estimate_build(recipe, recipe.models(16))
    assert estimate.seconds is None and "hub:someone/pictures" in estimate.basis


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_estimated(name: str) -> None:
    """Trains a few steps of every shipped recipe."""
    recipe = load_recipe(name)
    seconds = estimate_build(recipe, recipe.models(64)).seconds
    assert seconds is not None and seconds > 0
