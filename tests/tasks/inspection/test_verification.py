"""`verify` passes on a true zoo and fails, by name, on each kind of damage."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from weightzoo.tasks.inspection import rebuilt_models
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import RecipeError, ZooNotFoundError
from weightzoo.zoos.format import open_zoo_file
from weightzoo.zoos.index import ZooIndex, describe_shard
from weightzoo.zoos.lineage import Lineage, lineage_columns

TRAIN = "train-00000-of-00001.h5"


@pytest.fixture
def zoo(trained_zoo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_zoo, tmp_path / "zoo"))


def _failed(folder: Path, models: int = 4) -> set[str]:
    return {check.name for check in verify_zoo(folder, models) if check.passed is False}


def _list_again(folder: Path) -> None:
    """Make the index agree with changed files."""
    index = ZooIndex.read(folder)
    shards = [describe_shard(folder, s.path, s.split, s.models) for s in index.shards]
    ZooIndex(name=index.name, shards=tuple(shards)).write(folder)


def test_file_that_the_index_does_not_list_is_found(zoo: Path) -> None:
    index = ZooIndex.read(zoo)
    ZooIndex(name=index.name, shards=index.shards[:-1]).write(zoo)
    (check,) = verify_zoo(zoo)
    assert check.passed is False
    assert check.detail == f"{index.shards[-1].path} is not listed"


def test_verify_zoo_passes_a_built_zoo(zoo: Path) -> None:
    checks = verify_zoo(zoo, models=12)
    assert all(check.passed for check in checks)
    assert len(checks) == 6


def test_verify_zoo_rebuilds_at_least_one_model(zoo: Path) -> None:
    with pytest.raises(ValueError, match="models must be a whole number from 1, got 0"):
        verify_zoo(zoo, models=0)


def test_verify_zoo_finds_a_flipped_byte(zoo: Path) -> None:
    data = bytearray((zoo / TRAIN).read_bytes())
    data[open_zoo_file(zoo / TRAIN).weights_offset + 100] ^= 1
    (zoo / TRAIN).write_bytes(data)
    assert _failed(zoo) == {"files match zoo.json"}
    assert _failed(zoo / TRAIN) == {"columns match their checksums"}


def test_verify_zoo_finds_a_missing_file(zoo: Path) -> None:
    (zoo / TRAIN).unlink()
    assert _failed(zoo) == {"files match zoo.json"}


def test_verify_zoo_finds_a_model_in_two_splits(zoo: Path) -> None:
    with h5py.File(zoo / TRAIN, "r+") as file:
        file["split"][0] = "test"
    _list_again(zoo)
    assert "splits share no model" in _failed(zoo)


def test_verify_zoo_finds_unflagged_nan(zoo: Path) -> None:
    with h5py.File(zoo / TRAIN, "r+") as file:
        file["weights"][0, 5] = np.nan
    assert "weights are finite where status is ok" in _failed(zoo / TRAIN)


def test_verify_zoo_finds_weights_that_do_not_give_the_accuracy(zoo: Path) -> None:
    for path in zoo.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["weights"][...] = file["weights"][...][:, ::-1]
    _list_again(zoo)
    assert "rebuilt models reproduce their recorded test measures" in _failed(zoo, models=8)


def test_verify_zoo_takes_a_single_file_and_skips_what_it_cannot_rebuild(tiny_zoo: Path) -> None:
    checks = verify_zoo(tiny_zoo / TRAIN)
    assert [check.passed for check in checks] == [True, True, True, True, None]


def test_verify_zoo_without_its_image_set_says_so(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a set from the Hub and no network: the check is left out, not failed."""

    def refuse(name: str) -> None:
        raise RecipeError(f"cannot load {name!r}")

    monkeypatch.setattr(rebuilt_models, "load_data", refuse)
    checks = {check.name: check for check in verify_zoo(zoo / TRAIN)}
    check = checks["rebuilt models reproduce their recorded test measures"]
    assert check.passed is None and "cannot load 'digits'" in check.detail


def test_verify_zoo_reports_a_missing_zoo(tmp_path: Path) -> None:
    with pytest.raises(ZooNotFoundError, match="nowhere"):
        verify_zoo(tmp_path / "nowhere")


def test_verify_zoo_finds_a_contradictory_lineage(zoo: Path) -> None:
    with h5py.File(zoo / TRAIN, "r+") as file:
        rows = len(file["epoch"])
        for name, column in lineage_columns([Lineage(relation="pruned")], rows).items():
            kind = h5py.string_dtype() if column.dtype == object else None
            file.create_dataset(name, data=column, dtype=kind)
        file["relation"][0] = "cloned"
    failed = {check.name: check.detail for check in verify_zoo(zoo / TRAIN) if not check.passed}
    assert "'cloned'" in failed["splits, statuses and lineage are known words"]
