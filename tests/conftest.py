"""Fixtures shared by all tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "data"))

from make_tiny_zoo import make_tiny_zoo  # noqa: E402


@pytest.fixture
def tiny_zoo(tmp_path: Path) -> Path:
    """A zoo folder with 4 models (2 train, 1 val, 1 test) of 3 checkpoints each."""
    return make_tiny_zoo(tmp_path / "tiny")


@pytest.fixture
def sharded_zoo(tmp_path: Path) -> Path:
    """The same with two train shards: 6 models."""
    return make_tiny_zoo(tmp_path / "sharded", train_shards=2)
