"""Row numbers, the gather, and memory that is never overwritten while somebody reads it."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.loaders.storage.rows import WeightRows, positions
from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.format import ZooFile
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.tokens.buffers import POOLED_BUFFERS, BufferPool


@pytest.fixture
def sharded_rows(sharded_zoo: Path) -> WeightRows:
    """12 rows in two files of six."""
    return WeightRows(ZooIndex.read(sharded_zoo).open(sharded_zoo, "train"))


def every_row(rows: WeightRows) -> np.ndarray:
    """All rows, read without WeightRows."""
    return np.concatenate([np.array(file.map_weights()) for file in rows.files])


@pytest.mark.parametrize(
    "indices",
    [
        [4, 1, 1, -1],
        np.array([4, 1, 1, -1], np.int32),
        torch.tensor([4, 1, 1, -1]),
        np.array([4, 1, 1, 4], np.uint8),
    ],
)
def test_positions_reads_lists_arrays_and_tensors(indices: object) -> None:
    found = positions(indices, 5)
    assert found.dtype == np.int64
    assert found.tolist() == [4, 1, 1, 4]


def test_positions_reads_slices_ranges_booleans_and_nothing() -> None:
    assert positions(slice(-2, None), 5).tolist() == [3, 4]
    assert positions(slice(None, None, -2), 5).tolist() == [4, 2, 0]
    assert positions(range(1, 3), 5).tolist() == [1, 2]
    assert positions([False, True, False, False, True], 5).tolist() == [1, 4]
    assert positions([], 5).tolist() == []


@pytest.mark.parametrize("index", [5, -6])
def test_positions_names_the_row_out_of_range_and_the_length(index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} is out of range: there are 5 rows"):
        positions([0, index], 5)


@pytest.mark.parametrize("indices", [[0.5], [True, False], [[0, 1]], ["a"]])
def test_positions_rejects_what_is_no_list_of_whole_numbers(indices: object) -> None:
    with pytest.raises(IndexError, match="indices must be a list of whole numbers"):
        positions(indices, 5)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("picked", [[11, 0, 6, 5, 0], [3], [], [4, 5, 6, 7], [1, 0], range(12)])
def test_take_equals_plain_indexing_over_two_files(
    sharded_rows: WeightRows, picked: list[int], in_memory: bool
) -> None:
    rows = WeightRows(sharded_rows.files, in_memory)
    index = positions(picked, len(rows))
    np.testing.assert_array_equal(rows.take(index), every_row(rows)[index])


def test_take_equals_plain_indexing_in_one_file(sharded_rows: WeightRows) -> None:
    rows = WeightRows(sharded_rows.files[:1])
    index = np.array([5, 2, 2])
    np.testing.assert_array_equal(rows.take(index), every_row(rows)[index])


@pytest.mark.parametrize("picked", [[11, 0, 6, 5, 0], [3], [4, 5, 6, 7], [10, 9, 8, 7, 3, 2, 1, 0]])
@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_part_reads_a_window_of_every_row(
    sharded_rows: WeightRows,
    picked: list[int],
    files: int,
    compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not compiled:
        monkeypatch.setattr("weightzoo.loaders.storage.rows.library", lambda: None)
    rows = WeightRows(sharded_rows.files[:files])
    index = np.array(picked) % len(rows)
    expected = every_row(rows)[index]
    part = rows.part(10, 60).part(5, 25)
    np.testing.assert_array_equal(part.take(index), expected[:, 15:35])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)).take(index), expected[:, 15:35])
    copied = WeightRows(rows.files, in_memory=True).part(15, 35)
    np.testing.assert_array_equal(copied.take(index), expected[:, 15:35])


def test_take_writes_into_memory_that_is_given(sharded_rows: WeightRows) -> None:
    out = np.zeros((3, 71), np.float32)
    assert sharded_rows.take(np.array([7, 1, 7]), out=out) is out
    np.testing.assert_array_equal(out, every_row(sharded_rows)[[7, 1, 7]])


def test_take_refuses_memory_of_another_size(sharded_rows: WeightRows) -> None:
    rows = WeightRows(sharded_rows.files[:1])
    for shape in ((1, rows.width), (2, rows.width - 1)):
        with pytest.raises(ValueError):
            rows.take(np.array([4, 1]), np.zeros(shape, np.float32))
    memory = np.zeros((2, rows.width), np.float32)
    memory.flags.writeable = False
    with pytest.raises(ValueError):
        rows.take(np.array([4, 1]), memory)


def test_take_maps_no_more_files_than_allowed(
    sharded_rows: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightzoo.loaders.storage.rows._map_limit", lambda: 1)
    rows = WeightRows(sharded_rows.files)
    for index in ([11, 0, 6, 5], [0, 11, 1], [3, 9]):
        np.testing.assert_array_equal(rows.take(np.array(index)), every_row(rows)[index])
        assert len(rows._maps._maps) == 1


def test_take_never_overwrites_a_batch_in_use(sharded_rows: WeightRows) -> None:
    rows = WeightRows(sharded_rows.files[:1])
    expected = every_row(rows)
    generator = np.random.default_rng(0)
    held = []
    for step in range(40):
        index = generator.permutation(6)[:3]
        tensor = torch.from_numpy(rows.take(index))
        kept = [tensor, tensor[1:], tensor.unbind(), tensor.numpy()[:, :7]][step % 4]
        held.append((kept, index, step % 4))
    for kept, index, how in held:
        full = torch.stack(kept) if how == 2 else torch.as_tensor(kept)
        wanted = [expected[index], expected[index[1:]], expected[index], expected[index, :7]][how]
        np.testing.assert_array_equal(full.numpy(), wanted)


def test_take_in_many_threads_gives_each_its_own_rows(sharded_rows: WeightRows) -> None:
    expected = every_row(sharded_rows)

    def read(seed: int) -> bool:
        index = np.random.default_rng(seed).permutation(12)[:5]
        return np.array_equal(sharded_rows.take(index), expected[index])

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(400)))


def test_take_reuses_memory_that_nobody_holds(sharded_rows: WeightRows) -> None:
    index = np.array([3, 1, 7])
    places = {torch.from_numpy(sharded_rows.take(index)).data_ptr() for _ in range(20)}
    assert len(places) <= POOLED_BUFFERS


def test_pool_gives_a_free_buffer_again_and_a_held_one_never() -> None:
    pool = BufferPool()
    first = pool.take(4, 3)
    second = pool.take(4, 3)
    assert not np.shares_memory(first, second)
    address = first.ctypes.data
    del first
    assert pool.take(2, 3).ctypes.data == address


def test_pickle_holds_no_weights_and_maps_again(sharded_rows: WeightRows) -> None:
    sharded_rows.take(np.array([3, 1, 7]))
    copy = pickle.loads(pickle.dumps(sharded_rows))
    np.testing.assert_array_equal(every_row(copy), copy.take(np.arange(12)))
    assert len(pickle.dumps(sharded_rows)) < 40_000


@pytest.mark.parametrize("row", [7, 11])
def test_take_refuses_a_file_that_changed(sharded_rows: WeightRows, row: int) -> None:
    os.truncate(sharded_rows.files[1].path, 100)
    sharded_rows.take(np.array([0, 5, 3]))
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        sharded_rows.take(np.array([row, 0, 3]))
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        sharded_rows.take(np.array([row]))


def test_take_refuses_a_file_that_was_removed(sharded_rows: WeightRows) -> None:
    sharded_rows.files[0].path.unlink()
    with pytest.raises(ZooNotFoundError, match="was removed"):
        sharded_rows.take(np.array([0]))


def test_rows_in_memory_outlive_their_file(sharded_rows: WeightRows) -> None:
    rows = WeightRows(sharded_rows.files, in_memory=True)
    expected = every_row(rows)
    os.truncate(rows.files[0].path, 100)
    np.testing.assert_array_equal(rows.take(np.array([2, 0])), expected[[2, 0]])


@pytest.mark.parametrize("block_bytes", [1, 600, 2**20])
def test_blocks_hold_the_rows_in_order(
    sharded_rows: WeightRows, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("weightzoo.loaders.storage.rows.BLOCK_BYTES", block_bytes)
    wanted = np.array([11, 0, 6, 5, 7, 7, 2, 10, 1])
    blocks = [block.copy() for block in sharded_rows.blocks(wanted)]
    assert len(blocks) == {1: 9, 600: 5, 2**20: 1}[block_bytes]
    np.testing.assert_array_equal(np.concatenate(blocks), every_row(sharded_rows)[wanted])


def overwrite(path: Path) -> None:
    """Write other values over some of the rows, as a careless build would."""
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\1" * 8)


@pytest.mark.parametrize("picked", [[7, 9, 11], [11, 0, 6], [6, 7, 8], [3, 10, 1, 7, 9, 0, 11, 8]])
@pytest.mark.parametrize("files", [slice(None), slice(1, 2)], ids=["two files", "one file"])
def test_take_refuses_a_file_that_changes_while_it_is_read(
    sharded_rows: WeightRows, monkeypatch: pytest.MonkeyPatch, picked: list[int], files: slice
) -> None:
    rows = WeightRows(sharded_rows.files[files])
    path, shard = rows.files[-1].path, rows._shard

    def changing(place: int) -> np.ndarray:
        found = shard(place)
        overwrite(path)
        return found

    monkeypatch.setattr(rows, "_shard", changing)
    with pytest.raises(ZooFormatError, match="changed since it was opened.*never write into"):
        rows.take(np.array(picked) % len(rows))


def test_views_refuse_a_file_that_changes_while_they_are_used(sharded_rows: WeightRows) -> None:
    views = sharded_rows.views(np.array([7, 1]))
    assert np.array_equal(next(views), every_row(sharded_rows)[7])
    overwrite(sharded_rows.files[1].path)
    next(views)
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        next(views)


def test_rows_in_memory_are_no_copy_of_a_file_that_changed(
    sharded_rows: WeightRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    map_weights = ZooFile.map_weights

    def changing(file: ZooFile) -> np.ndarray:
        rows = map_weights(file)
        overwrite(file.path)
        return rows

    monkeypatch.setattr(ZooFile, "map_weights", changing)
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        WeightRows(sharded_rows.files, in_memory=True)
