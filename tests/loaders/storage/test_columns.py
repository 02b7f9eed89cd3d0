"""Packed columns: every type comes out as it went in, whole, in batches and decoded."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.loaders.storage import columns as columns_module
from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import ZooFile, open_zoo_file, write_zoo_file


@pytest.fixture
def every_type(tmp_path: Path) -> Path:
    """A file with a column of every type of number, and texts of all lengths."""
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"] * 4)
    rng = np.random.default_rng(0)
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"):
        columns[f"number_{kind}"] = rng.integers(0, 100, 12).astype(kind)
    columns["number_f4"][3] = np.nan
    texts = ["", "ä", "a" * 1000, "b", "b", "é"]
    columns["note"] = np.array(texts * 2, dtype=object)
    path = tmp_path / "types.h5"
    write_zoo_file(path, tiny_header(architecture), columns, weights)
    return path


def test_columns_of_every_type_equal_the_file(every_type: Path) -> None:
    dataset, rows = load_zoo(every_type, split="train"), [7, 0, 2, 7]
    wanted = open_zoo_file(every_type).read_columns()
    assert list(dataset.columns) == list(wanted)
    batch = dataset.with_format("numpy")[rows]
    tensors = dataset[rows]
    for name, column in wanted.items():
        assert dataset.columns[name].dtype == batch[name].dtype == column.dtype, name
        np.testing.assert_array_equal(dataset.columns[name], column)
        np.testing.assert_array_equal(batch[name], column[rows])
        if column.dtype.kind == "O":
            assert tensors[name] == column[rows].tolist()
        else:
            assert torch.equal(
                torch.nan_to_num(tensors[name]), torch.nan_to_num(torch.tensor(column[rows]))
            )


def test_columns_chosen_come_in_the_order_asked_for(every_type: Path) -> None:
    names = ["number_f8", "note", "number_i1", "epoch", "number_f2"]
    chosen = load_zoo(every_type, split="train", columns=names)[[3, 5]]
    whole = load_zoo(every_type, split="train")[[3, 5]]
    assert list(chosen) == [*names, "weights"]
    for name in names:
        assert list(chosen[name]) == list(whole[name])


def test_columns_of_large_files_are_read_in_blocks(
    every_type: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_zoo(every_type, split="train")[:]
    monkeypatch.setattr(columns_module, "ROWS_AT_ONCE", 5)
    blocks = load_zoo(every_type, split="train")[:]
    assert list(blocks) == list(whole)
    assert blocks["note"] == whole["note"]
    assert torch.equal(blocks["number_u2"], whole["number_u2"])


def test_batches_own_their_columns(train: ZooDataset) -> None:
    before = train.columns["epoch"].copy()
    batch = train[[0, 1, 2]]
    batch["epoch"] += 5
    assert train.columns["epoch"].tolist() == before.tolist()
    assert train[[0, 1, 2]]["epoch"].tolist() == [0, 1, 2]


def test_pickled_columns_leave_their_cache_behind(train: ZooDataset) -> None:
    assert train.columns["init"] is train.columns["init"]
    size = len(pickle.dumps(train))
    for name in train.columns:
        assert len(train.columns[name]) == 12
    train.__getitems__([0])
    assert len(pickle.dumps(train)) == size
    assert pickle.loads(pickle.dumps(train))[3]["init"] == train[3]["init"]


def test_load_zoo_refuses_an_unknown_split_in_a_file(every_type: Path) -> None:
    file = open_zoo_file(every_type)
    columns = file.read_columns()
    columns["split"][4] = "dev"
    write_zoo_file(every_type, file.header, columns, np.array(file.map_weights()))
    with pytest.raises(ZooFormatError, match=r"'dev'\], allowed are \['train', 'val', 'test'\]"):
        load_zoo(every_type)


def test_table_refuses_a_file_that_changes_while_it_is_read(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_columns = ZooFile.read_columns

    def changing(file: ZooFile, names: list[str]) -> dict[str, np.ndarray]:
        found = read_columns(file, names)
        os.utime(file.path, ns=(0, 0))
        return found

    monkeypatch.setattr(ZooFile, "read_columns", changing)
    table = columns_module.ColumnTable(train.source.files, ["epoch"])
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        table.read()
