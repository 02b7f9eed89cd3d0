"""Windows read from files are those cut from whole rows, and nothing else is read."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header

from weightzoo.loaders import RowChunks, Windows, ZooDataset, load_zoo
from weightzoo.loaders.batching.window_reader import WindowReader
from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.networks.layer_table import LayerTable

WORDS = {"split": "train", "status": "ok"}


def rows(path: Path) -> ZooDataset:
    loaded = load_zoo(path, split="train")
    assert isinstance(loaded, ZooDataset)
    return loaded


@pytest.mark.parametrize("size", [1, 3, 9, 10, 64])
def test_read_windows_equal_those_of_whole_rows(sharded_zoo: Path, size: int) -> None:
    train = rows(sharded_zoo)
    with WindowReader(train, size, 5) as reader:
        last = reader.tokenizer.shape[0] - reader.length
        starts = torch.arange(last + 1)
        index = starts % len(train)
        read = reader.read(index, starts)
    cut = Windows(RowChunks(train.layer_table, size), reader.length)(train.weights(index), starts)
    assert set(read) == set(cut)
    assert all(torch.equal(read[key], cut[key]) for key in cut)


def test_read_bytes_are_those_of_the_window(tiny_zoo: Path) -> None:
    with WindowReader(rows(tiny_zoo), 4, 3) as reader:
        for start in range(reader.tokenizer.shape[0] - 2):
            before = reader.counts.read_bytes
            window = reader.read([0], [start])
            assert reader.counts.read_bytes - before == 4 * int(window["mask"].sum())
    assert reader.counts.value_bytes == reader.counts.read_bytes


def test_windows_of_a_wide_row_touch_few_pages(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(64, 512, 3), torch.nn.Linear(512, 100))
    table = LayerTable.from_module(module)
    weights = torch.arange(table.width, dtype=torch.float32)[None]
    columns = {name: np.array([0]) for name in ("model_id", "epoch", "seed")}
    columns |= {name: np.array([word], object) for name, word in WORDS.items()}
    header = replace(
        tiny_header(tiny_architecture()), architecture=None, layer_table=table, hyper_parameters=()
    )
    write_zoo_file(tmp_path / "wide.h5", header, columns, weights.numpy())
    with WindowReader(rows(tmp_path / "wide.h5"), 288, 256) as reader:
        reader.read([0] * 8, reader.random_starts(8, torch.Generator().manual_seed(0)))
    assert reader.counts.read_bytes == reader.counts.value_bytes
    assert reader.counts.page_bytes <= 1.1 * reader.counts.value_bytes


def test_reader_rejects_windows_beyond_the_end(tiny_zoo: Path) -> None:
    with (
        WindowReader(rows(tiny_zoo), 4, 3) as reader,
        pytest.raises(IndexError, match="windows must start at token 0 to"),
    ):
        reader.read([0], [1000])


def test_reader_rejects_a_part_of_the_rows(tiny_zoo: Path) -> None:
    with pytest.raises(ValueError, match="whole rows"):
        WindowReader(rows(tiny_zoo).window(0, 10), 4, 3)


def test_reader_refuses_files_that_change_between_windows(tiny_zoo: Path) -> None:
    train = rows(tiny_zoo)
    with WindowReader(train, 4, 3) as reader:
        reader.read([0], [0])
        path = train.source.files[0].path
        os.utime(path, ns=(0, 0))
        with pytest.raises(ZooFormatError, match="changed since it was opened"):
            reader.read([0], [0])
        os.truncate(path, 100)
        with pytest.raises(ZooFormatError, match="changed since it was opened"):
            reader.read([0], [0])
