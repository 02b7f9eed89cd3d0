"""Builders train with one thread, so that sums do not depend on how work is shared out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weightzoo.builders.build import build_zoo
from weightzoo.zoos.recipe import load_recipe


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def parent_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 CNNs that read digits well, 2 checkpoints each; do not change its files."""
    recipe = load_recipe("digits-cnn")
    factors = {"activation": {"choice": ["tanh", "relu"]}, "lr": 5e-3, "dropout": 0.0}
    recipe = replace(
        recipe, name="readers", factors=factors, seeds=10, epochs=4, checkpoints=(0, 4)
    )
    folder = tmp_path_factory.mktemp("parents") / "readers"
    build_zoo(recipe, folder, workers=1, progress=False)
    return folder
