"""Shards: listed at once, opened and checked when first read."""

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_tiny_zoo import make_tiny_zoo

from weightzoo.loaders import load_zoo
from weightzoo.loaders.storage.shards import Shards
from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.format import open_zoo_file, write_zoo_file
from weightzoo.zoos.index import ZooIndex, describe_shard


@pytest.fixture(scope="module")
def many_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; tests get copies."""
    return make_tiny_zoo(tmp_path_factory.mktemp("zoos") / "many", train_shards=17)


@pytest.fixture
def many(tmp_path: Path, many_folder: Path) -> Path:
    """A zoo folder with 17 train shards, more than are opened at once."""
    return shutil.copytree(many_folder, tmp_path / "many")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were opened, in order."""
    names: list[str] = []

    def noted(path: Path) -> object:
        names.append(Path(path).name)
        return open_zoo_file(path)

    monkeypatch.setattr("weightzoo.loaders.storage.shards.open_zoo_file", noted)
    return names


def test_load_zoo_opens_many_shards_only_when_read(many: Path, opened: list[str]) -> None:
    dataset = load_zoo(many, split="train")
    assert len(dataset) == 17 * 6
    assert opened == ["train-00000-of-00017.h5"]
    dataset.weights([5 * 6, 5 * 6 + 2])
    assert opened == ["train-00000-of-00017.h5", "train-00005-of-00017.h5"]
    files = ZooIndex.read(many).open(many, "train")
    wanted = np.concatenate([np.array(file.map_weights()) for file in files])
    np.testing.assert_array_equal(dataset.weights(), wanted)
    epochs = np.concatenate([file.read_columns(["epoch"])["epoch"] for file in files])
    np.testing.assert_array_equal(dataset.columns["epoch"], epochs)


def test_load_zoo_names_a_missing_or_cut_shard_without_opening_it(many: Path) -> None:
    path = many / "train-00012-of-00017.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ZooFormatError, match="train-00012-of-00017.h5 is truncated"):
        load_zoo(many, split="train")
    path.unlink()
    with pytest.raises(ZooNotFoundError, match="train-00012-of-00017.h5"):
        load_zoo(many, split="train")


def test_shards_name_a_file_whose_columns_differ(many: Path) -> None:
    path = many / "train-00003-of-00017.h5"
    file = open_zoo_file(path)
    columns = file.read_columns() | {"extra": np.arange(file.rows)}
    write_zoo_file(path, file.header, columns, np.array(file.map_weights()))
    index = ZooIndex.read(many)
    shards = list(index.shards)
    shards[3] = describe_shard(many, path.name, "train", 2)
    replace(index, shards=tuple(shards)).write(many)
    dataset = load_zoo(many, split="train")
    dataset.weights([0])
    with pytest.raises(ZooFormatError, match="00003-of-00017.h5 and .* differ in the columns"):
        dataset.weights([3 * 6])


def test_shards_name_a_file_that_contradicts_the_index(many: Path) -> None:
    index = ZooIndex.read(many)
    wrong = replace(index.shards[2], rows=7)
    shards = Shards.listed(many, [*index.shards[:2], wrong])
    assert shards.counts.tolist() == [6, 6, 7]
    with pytest.raises(ZooFormatError, match=r"has 6 rows in \d+ bytes, zoo.json lists 7"):
        shards[2]
    with pytest.raises(ZooFormatError, match="has 6 rows"):
        shards.open_all()


def test_shards_pickle_with_what_was_opened(many: Path) -> None:
    shards = Shards.listed(many, ZooIndex.read(many).shards)
    first = shards[0]
    copy = pickle.loads(pickle.dumps(shards))
    os.truncate(first.path, 100)
    assert copy[0] == first
    assert copy[1].path.name == "train-00001-of-00017.h5"
    assert [file.rows for file in copy[1:3]] == [6, 6]
