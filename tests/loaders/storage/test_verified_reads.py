"""Rows read without a map: the same values, and an error where a map would end the process."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo.loaders import load_zoo
from weightzoo.loaders.storage import opening, verified_reads
from weightzoo.loaders.storage.rows import WeightRows
from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.index import ZooIndex


@pytest.fixture
def mapped(sharded_zoo: Path) -> WeightRows:
    """12 rows in two files of six."""
    return WeightRows(ZooIndex.read(sharded_zoo).open(sharded_zoo, "train"))


@pytest.fixture
def verified(mapped: WeightRows) -> WeightRows:
    """The same rows, read."""
    return WeightRows(mapped.files, verify_on_read=True)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    "picked", [[11, 0, 6, 5, 0], [3], [], [4, 5, 6, 7], [1, 0], range(12), [2, 3, 9, 4, 5]]
)
def test_verified_rows_equal_mapped_ones(
    mapped: WeightRows, picked: list[int], in_memory: bool
) -> None:
    rows = WeightRows(mapped.files, in_memory, verify_on_read=True)
    index = np.array(picked, np.int64)
    np.testing.assert_array_equal(rows.take(index), mapped.take(index))
    part = pickle.loads(pickle.dumps(rows.part(10, 60))).part(5, 25)
    assert part.verify_on_read
    np.testing.assert_array_equal(part.take(index), mapped.take(index)[:, 15:35])


def test_verified_views_equal_mapped_ones(mapped: WeightRows, verified: WeightRows) -> None:
    index = np.array([11, 0, 6, 5, 0])
    np.testing.assert_array_equal([*verified.views(index)], [*mapped.views(index)])


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no such call in this system")
def test_rows_of_a_batch_are_announced_before_the_first_is_read(
    verified: WeightRows, mapped: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    fill = verified_reads._fill

    def announce(descriptor: int, offset: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        calls.append(("announced", size // 4 // mapped.width))

    def read(opened: Any, offset: int, memory: memoryview, file: Any) -> None:
        calls.append(("read", len(memory) // 4 // mapped.width))
        fill(opened, offset, memory, file)

    monkeypatch.setattr(os, "posix_fadvise", announce)
    monkeypatch.setattr(verified_reads, "_fill", read)
    verified.take(np.array([5, 0, 1]))
    assert calls == [("announced", 1), ("announced", 2), ("read", 1), ("read", 2)]
    verified.take(np.array([2, 3]))
    assert calls[4:] == [("read", 2)]


def test_verified_rows_of_changed_files_are_refused(verified: WeightRows) -> None:
    path = verified.files[1].path
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(verified.take(np.arange(6)), verified.take(np.arange(6)))
    with pytest.raises(ZooFormatError, match="changed since it was opened: load the zoo again"):
        verified.take(np.array([7]))
    path.unlink()
    with pytest.raises(ZooNotFoundError, match="was removed"):
        verified.take(np.array([7]))


def test_a_file_cut_short_while_it_is_read_is_an_error(
    verified: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would end a process that reads a map of it by SIGBUS."""
    fill = verified_reads._fill

    def cutting(*arguments: Any) -> None:
        os.truncate(verified.files[1].path, 5000)
        fill(*arguments)

    monkeypatch.setattr(verified_reads, "_fill", cutting)
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        verified.take(np.array([11]))


def test_a_file_written_to_while_it_is_read_is_an_error(
    verified: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = verified_reads._fill

    def writing(*arguments: Any) -> None:
        fill(*arguments)
        with verified.files[1].path.open("r+b") as file:
            file.write(b"\x89")

    monkeypatch.setattr(verified_reads, "_fill", writing)
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        verified.take(np.array([11, 7]))


def test_a_file_that_cannot_be_read_is_an_error(
    verified: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verified_reads, "_fill", failing)
    with pytest.raises(ZooFormatError, match=r"cannot be read: check the disk .*Input/output"):
        verified.take(np.array([11]))


@pytest.mark.parametrize("format", ["torch", "numpy", "state_dict", "layer_sets"])
def test_load_zoo_reads_the_same_with_verify_on_read(sharded_zoo: Path, format: str) -> None:
    found = [
        load_zoo(sharded_zoo, split="train", verify_on_read=verify).with_format(format)[[7, 2]]
        for verify in (True, False)
    ]
    key = {"state_dict": "state_dict", "layer_sets": "values"}.get(format, "weights")
    one, other = (
        [*batch[key].values()] if key == "state_dict" else [batch[key]] for batch in found
    )
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_load_zoo_verifies_on_network_mounts_unless_told(
    sharded_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load_zoo(sharded_zoo, split="train").source.verify_on_read
    monkeypatch.setattr(opening, "is_on_network", lambda path: True)
    assert load_zoo(sharded_zoo, split="train").source.verify_on_read
    assert load_zoo(sharded_zoo / "test-00000-of-00001.h5")["test"].source.verify_on_read
    assert not load_zoo(sharded_zoo, split="train", verify_on_read=False).source.verify_on_read
