"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent / "data"))

from hub_client import HubClient  # noqa: E402
from hub_server import HubServer  # noqa: E402
from make_tiny_zoo import make_tiny_zoo  # noqa: E402

from weightzoo.builders.build import build_zoo  # noqa: E402
from weightzoo.zoos.recipe import load_recipe  # noqa: E402


@pytest.fixture
def tiny_zoo(tmp_path: Path) -> Path:
    """A zoo folder with 4 models (2 train, 1 val, 1 test) of 3 checkpoints each."""
    return make_tiny_zoo(tmp_path / "tiny")


@pytest.fixture
def sharded_zoo(tmp_path: Path) -> Path:
    """The same with two train shards: 6 models."""
    return make_tiny_zoo(tmp_path / "sharded", train_shards=2)


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MLPs on digits, 3 checkpoints each; do not change its files."""
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": 0.1, "dropout": 0.0}
    recipe = replace(recipe, factors=factors, seeds=24, epochs=3, checkpoints=(0, 1, 3))
    folder = tmp_path_factory.mktemp("zoos") / "small"
    build_zoo(recipe, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def inr_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 INRs of digits after two steps, 4 of them in test; do not change its files."""
    recipe = replace(load_recipe("digits-inr"), seeds=24, epochs=2, checkpoints=(2,))
    folder = tmp_path_factory.mktemp("zoos") / "inrs"
    build_zoo(recipe, folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A Hub on the loopback."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    """A process whose Hub libraries talk to `hub`."""
    with HubClient(hub.endpoint, tmp_path_factory.mktemp("home")) as process:
        yield process
