"""Saved rows: what is read again equals what was saved, and half a file is never left."""

from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.loaders.dataset import saving


@pytest.mark.parametrize("block_bytes", [1, 2**26])
def test_saved_rows_are_read_again(
    train: ZooDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(saving, "BLOCK_BYTES", block_bytes)
    some = train.select([11, 2, 3, 7])
    again = load_zoo(some.save(tmp_path / "some.h5"), split="train")
    assert torch.equal(again.weights(), some.weights())
    assert list(again.columns) == list(some.columns)
    for name, column in some.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
    assert again.header.architecture == train.header.architecture
    assert again.header.checksums != train.header.checksums
    assert [path.name for path in tmp_path.glob("some*")] == ["some.h5"]


def test_saved_layer_has_its_own_table(train: ZooDataset, tmp_path: Path) -> None:
    layer = train.layer("linear1")
    again = load_zoo(layer.save(tmp_path / "layer.h5"), split="train")
    assert again.layer_table == layer.layer_table and again.header.architecture is None
    assert torch.equal(again.weights(), layer.weights())


def test_save_refuses_no_rows_and_missing_columns(sharded_zoo: Path, tmp_path: Path) -> None:
    dataset = load_zoo(sharded_zoo, split="train")
    with pytest.raises(ValueError, match="no rows to save"):
        dataset.filter("epoch == 99").save(tmp_path / "x.h5")
    with pytest.raises(ValueError, match=r"needs the columns \['split', 'seed'"):
        load_zoo(sharded_zoo, split="train", columns=["model_id", "epoch"]).save(tmp_path / "x.h5")
    assert not list(tmp_path.glob("x.h5*"))
