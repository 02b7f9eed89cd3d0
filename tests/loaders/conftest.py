"""Fixtures shared by the tests of the loaders."""

import shutil
from pathlib import Path

import pytest
from make_tiny_zoo import make_tiny_zoo

from weightzoo.loaders import ZooDataset, load_zoo


@pytest.fixture
def train(sharded_zoo: Path) -> ZooDataset:
    """12 rows in two files."""
    return load_zoo(sharded_zoo, split="train")


@pytest.fixture
def seven(tmp_path: Path, folders: Path) -> ZooDataset:
    """42 rows in seven files."""
    return load_zoo(shutil.copytree(folders / "seven", tmp_path / "seven"), split="train")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zoo folders made once; tests get copies."""
    folder = tmp_path_factory.mktemp("zoos")
    for name, shards in (("tiny", 1), ("sharded", 2), ("seven", 7)):
        make_tiny_zoo(folder / name, train_shards=shards)
    return folder


@pytest.fixture
def tiny_zoo(tmp_path: Path, folders: Path) -> Path:
    """The fixture of all tests, copied instead of made."""
    return shutil.copytree(folders / "tiny", tmp_path / "tiny")


@pytest.fixture
def sharded_zoo(tmp_path: Path, folders: Path) -> Path:
    """The fixture of all tests, copied instead of made."""
    return shutil.copytree(folders / "sharded", tmp_path / "sharded")
