"""to_hf: the stock dataset that `load_dataset` gives the same files."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo.loaders import ZooDataset
from weightzoo.loaders.dataset import arrow


def test_to_hf_equals_what_load_dataset_gives(
    train: ZooDataset, sharded_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    files = str(sharded_zoo / "train-*.h5")
    stock = datasets.load_dataset("hdf5", data_files=files, split="train", cache_dir=str(tmp_path))
    found = train.to_hf()
    assert found.features == stock.features
    assert found[:] == stock[:]


def test_to_hf_copies_the_rows_and_columns_chosen(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "BLOCK_BYTES", 3 * 71 * 4)  # three rows per Arrow chunk
    chosen = train.select([7, 0, 3, 3, 11]).select_columns(["init", "epoch"]).to_hf()
    assert chosen.column_names == ["init", "epoch", "weights"]
    assert chosen["init"][:] == train.columns["init"][[7, 0, 3, 3, 11]].tolist()
    weights = np.array(chosen["weights"][:], np.float32)
    np.testing.assert_array_equal(weights, train.weights([7, 0, 3, 3, 11]))
    assert train.layer("conv1.bias").to_hf().features["weights"].length == 2
