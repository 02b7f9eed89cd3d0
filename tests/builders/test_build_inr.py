"""A zoo of implicit neural representations: built, loaded, verified, of known signals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightzoo.builders.build import build_zoo
from weightzoo.loaders import load_zoo
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.images.signals import load_signals
from weightzoo.zoos.recipe import load_recipe


def test_sine_zoo_knows_the_frequency_of_every_model(tmp_path: Path) -> None:
    recipe = replace(load_recipe("sine-inr"), epochs=30, checkpoints=(0, 30))
    build_zoo(recipe, tmp_path / "zoo", models=10, workers=1, progress=False)
    zoo = load_zoo(tmp_path / "zoo")
    signals = load_signals("sine")
    for dataset in zoo.values():
        drawn = [signals.draw(seed)["frequency"] for seed in dataset.columns["seed"].tolist()]
        np.testing.assert_array_equal(dataset.columns["frequency"], drawn)
        assert np.isnan(dataset.columns["test_accuracy"]).all()
        assert set(dataset.columns["status"]) == {"ok"}
        first, last = dataset.columns["epoch"] == 0, dataset.columns["epoch"] == 30
        loss = dataset.columns["test_loss"]
        assert loss[last].mean() < 0.5 * loss[first].mean()
    assert "frequency" not in zoo["train"].header.hyper_parameters
    checks = {check.name: check for check in verify_zoo(tmp_path / "zoo")}
    assert all(check.passed for check in checks.values()), checks


def test_architecture_must_fit_the_signal(tmp_path: Path) -> None:
    recipe = replace(load_recipe("sine-inr"), images="digits-inr")
    with pytest.raises(BuildError, match=r"takes \(1,\) and gives \(1,\), .* has inputs of \(2,\)"):
        build_zoo(recipe, tmp_path / "zoo", models=10, workers=1, progress=False)


def test_one_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    recipe = replace(load_recipe("digits-inr"), seed_kind="random")
    with pytest.raises(BuildError, match="would be in the splits .* give the recipe seed_kind"):
        build_zoo(recipe, tmp_path / "zoo", workers=1, progress=False)
    assert not (tmp_path / "zoo").exists()
