"""Parts of the weights: the right values, and only their bytes read."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import ZooHeader, write_zoo_file
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens.layer_windows import cut_table, find_layer


@pytest.fixture
def train(sharded_zoo: Path) -> ZooDataset:
    """12 rows in two files."""
    return load_zoo(sharded_zoo, split="train")


def test_layer_gives_the_tensors_of_one_layer(train: ZooDataset) -> None:
    layer = train.layer("linear1")
    whole = train.layer_table.split(train.weights())
    assert {
        name: tuple(layer.layer_table.split(layer.weights())[name].shape)
        for name in whole
        if name.startswith("linear1")
    } == {
        "linear1.weight": (12, 4, 8),
        "linear1.bias": (12, 4),
    }
    for name, value in layer.with_format("state_dict")[:]["state_dict"].items():
        assert torch.equal(value, whole[name])
    assert list(train.layer("linear1.bias").state_dict(3)) == ["linear1.bias"]
    assert torch.equal(
        train.layer("linear1").layer("linear1.bias").weights(), whole["linear1.bias"]
    )


def test_window_gives_a_range_of_values_in_a_dataloader(train: ZooDataset) -> None:
    part = train.window(15, 25)
    assert part.features["weights"] == "float32[10]"
    loader = DataLoader(part, batch_size=4, sampler=[7, 1, 11, 0])
    assert torch.equal(next(iter(loader))["weights"], train.weights()[[7, 1, 11, 0], 15:25])
    pieces = [(tensor.name, tensor.shape, tensor.offset) for tensor in part.layer_table]
    assert pieces == [
        ("conv1.weight[15:18]", (3,), 0),
        ("conv1.bias", (2,), 3),
        ("linear1.weight[0:5]", (5,), 5),
    ]


def test_window_and_layer_refuse_what_is_not_there(train: ZooDataset) -> None:
    for window in ((5, 5), (-1, 3), (70, 72)):
        with pytest.raises(IndexError, match=r"window must lie within 0 and 71"):
            train.window(*window)
    with pytest.raises(KeyError, match=r"no layer or tensor 'conv2', the layers are \['conv1'"):
        train.layer("conv2")
    with pytest.raises(ValueError, match="a `layer` or `window` makes no module"):
        train.layer("conv1").module(0)


def test_find_layer_takes_a_block_of_layers() -> None:
    block = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    table = LayerTable.from_module(torch.nn.Sequential(torch.nn.Linear(4, 2), block))
    assert find_layer(table, "1") == (10, 10 + 9 + 4)
    assert find_layer(table, "1.1") == (19, 23)
    assert cut_table(table, 10, 23).width == 13


def test_layer_reads_no_other_bytes_from_a_cold_disk(tmp_path: Path, train: ZooDataset) -> None:
    header = wide_header(width=300_000)
    path, rows = tmp_path / "wide.h5", 10
    columns = {name: np.repeat(column[:1], rows) for name, column in train.columns.items()}
    weights = np.arange(rows * 300_000, dtype=np.float32).reshape(rows, -1)
    write_zoo_file(path, header, columns, weights)
    window = load_zoo(path, split="train").window(100_000, 105_000)
    forget_pages(path)
    before = bytes_read_from_disk()
    found = window.weights(np.arange(rows)[::-1])
    moved = bytes_read_from_disk() - before
    np.testing.assert_array_equal(found, weights[::-1, 100_000:105_000])
    if moved == 0:
        pytest.skip("this file system keeps no count of bytes, or never forgets pages")
    assert moved < 2 * found.nbytes < weights.nbytes / 20


def wide_header(width: int) -> ZooHeader:
    """Of a zoo of one neuron."""
    table = LayerTable.from_module(torch.nn.Linear(width - 1, 1))
    names = ("activation", "dropout")
    return ZooHeader(architecture=None, layer_table=table, hyper_parameters=names)


def forget_pages(path: Path) -> None:
    """Let the next read of a file come from the disk."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system cannot be asked to forget pages")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read_from_disk() -> int:
    """By this process, as Linux counts them; 0 elsewhere."""
    counts = Path("/proc/self/io")
    lines = counts.read_text().splitlines() if counts.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def test_part_of_a_changed_file_is_refused(train: ZooDataset) -> None:
    layer = train.layer("conv1")
    path = train.source.files[0].path
    path.write_bytes(path.read_bytes())
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        layer[0]
