"""Classification of the images that networks render."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.builders.build import build_zoo
from weightzoo.loaders import load_zoo
from weightzoo.tasks.baselines.rendered_images import RenderedImages, grid, rendered
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.images.signals import load_signals
from weightzoo.zoos.recipe import load_recipe


def test_grid_holds_the_points_that_the_networks_are_trained_on() -> None:
    torch.testing.assert_close(grid(28), load_signals("digits-inr").inputs)


def test_rendered_images_are_the_outputs_of_the_modules(inr_zoo: Path) -> None:
    test = load_zoo(inr_zoo, split="test")
    with torch.no_grad():
        wanted = test.module(1)(grid(28)).flatten()
    np.testing.assert_allclose(rendered(test)[1], wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_networks_without_an_image_and_numbers_are_refused(inr_zoo: Path, tiny_zoo: Path) -> None:
    with pytest.raises(UnsuitableError, match="no networks of two coordinates"):
        rendered(load_zoo(tiny_zoo, split="train"))
    inrs = load_zoo(inr_zoo)
    with pytest.raises(UnsuitableError, match="'train_loss' is a number"):
        RenderedImages().fit(inrs["train"], inrs["val"], "train_loss", seed=0)


@pytest.mark.slow
def test_digits_that_networks_store_are_recognised(tmp_path: Path) -> None:
    recipe = replace(load_recipe("digits-inr"), seeds=300, epochs=30, checkpoints=(30,))
    build_zoo(recipe, tmp_path / "inrs", progress=False)
    inrs, ceiling = load_zoo(tmp_path / "inrs"), RenderedImages()
    ceiling.fit(inrs["train"], inrs["val"], "label", seed=0)
    right = ceiling.predict(inrs["test"]) == inrs["test"].columns["label"]
    assert right.mean() > 0.8
