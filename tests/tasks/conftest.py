"""A small trained zoo for the tests of tasks."""

from dataclasses import replace
from pathlib import Path

import pytest

from weightzoo.builders.build import build_zoo
from weightzoo.zoos.recipe import load_recipe


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MLPs on digits, 3 checkpoints each; do not change its files."""
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": 0.1, "dropout": 0.0}
    recipe = replace(recipe, factors=factors, seeds=24, epochs=3, checkpoints=(0, 1, 3))
    folder = tmp_path_factory.mktemp("zoos") / "small"
    build_zoo(recipe, folder, workers=1, progress=False)
    return folder
