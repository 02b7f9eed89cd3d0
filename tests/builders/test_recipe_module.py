"""Zoos of a torch module that a caller hands over."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from weightzoo.builders.build import build_zoo
from weightzoo.builders.recipe_module import recipe_of_module
from weightzoo.loaders import load_zoo
from weightzoo.zoos.errors import BuildError, RecipeError
from weightzoo.zoos.images.catalog import ImageSet
from weightzoo.zoos.recipe import Recipe, load_recipe


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 2))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3 * 4 * 6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    pixels = rng.integers(100, size=(80, 6, 8)) + 100 * labels[:, None, None]
    name = ImageSet.from_arrays("mine", (pixels, labels)).save(tmp_path / "mine.npz")
    plain = replace(load_recipe("digits-mlp"), images=name, seeds=8, epochs=2, checkpoints=(0, 2))
    return replace(plain, factors={"lr": 0.01})


@pytest.mark.parametrize(("module", "activation"), [(perceptron, "tanh"), (Convolutional, "relu")])
def test_module_of_known_layers_is_trained_as_a_population(
    module: Callable[[], nn.Module], activation: str, recipe: Recipe, tmp_path: Path
) -> None:
    build_zoo(recipe, tmp_path / "zoo", workers=1, progress=False, module=module)
    rows = load_zoo(tmp_path / "zoo", split="train")
    assert set(rows.columns["activation"]) == {activation}
    assert rows.header.architecture.name == module.__name__  # type: ignore[union-attr]
    sizes = [tuple(tensor.shape) for tensor in module().state_dict().values()]
    assert [spec.shape for spec in rows.layer_table] == sizes
    last = rows.filter("epoch == 2")
    assert last.columns["train_accuracy"].mean() > 0.8  # of two classes that differ in brightness
    assert Recipe.from_json(rows.header.recipe).architecture == rows.header.architecture


def test_recipe_keeps_its_own_factors(recipe: Recipe) -> None:
    varied = replace(recipe, factors={"activation": ["relu", "gelu"]})
    assert recipe_of_module(varied, perceptron()).factors == varied.factors
    assert recipe_of_module(recipe, perceptron()).factors["activation"] == "tanh"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 2), nn.Softmax(1)), "is a Softmax"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(47, 2)), r"have the shape \(1, 6, 8\)"),
        (lambda: nn.Linear, "must make a torch module, it made"),
        ("mlp", "must be a torch module or a function that makes one, got 'mlp'"),
    ],
)
def test_module_that_no_zoo_rebuilds_is_refused(
    module: Callable[[], nn.Module], message: str, recipe: Recipe
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of_module(recipe, module)


def test_module_for_another_number_of_classes_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(BuildError, match=r"gives \(3,\), .* needs outputs of \(2,\)"):
        build_zoo(recipe, tmp_path / "zoo", workers=1, progress=False, module=module)
