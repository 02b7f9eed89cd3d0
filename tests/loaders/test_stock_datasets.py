"""The stock `datasets` library reads the same files, and finds the same values."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.zoos.index import FILE_SPLITS


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look for the network; the libraries read the environment at import only."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def assert_equal_columns(stock: object, ours: ZooDataset) -> None:
    """Equal names, types of numbers and values, read without formatting, which would cast."""
    table = stock.with_format("arrow")[:]
    assert table.column_names == [*ours.columns, "weights"]
    for name, column in ours.with_format("numpy")[:].items():
        found = table[name].combine_chunks()
        found = (found.flatten() if name == "weights" else found).to_numpy(zero_copy_only=False)
        assert found.dtype == column.dtype, name
        np.testing.assert_array_equal(found.reshape(column.shape), column)


def test_stock_hdf5_builder_equals_load_zoo(
    sharded_zoo: Path, tmp_path: Path, offline: None
) -> None:
    from datasets import load_dataset

    files = {split: str(sharded_zoo / f"{hub}-*.h5") for split, hub in FILE_SPLITS.items()}
    stock = load_dataset("hdf5", data_files=files, cache_dir=str(tmp_path / "cache"))
    ours = load_zoo(sharded_zoo)
    assert list(stock) == list(ours)
    for split, dataset in ours.items():
        assert_equal_columns(stock[split], dataset)


def test_stock_load_dataset_of_the_folder_equals_load_zoo(
    sharded_zoo: Path, tmp_path: Path, offline: None
) -> None:
    from datasets import load_dataset

    stock = load_dataset(str(sharded_zoo), cache_dir=str(tmp_path / "cache"))
    assert list(stock) == list(FILE_SPLITS.values())
    for split in stock:
        assert_equal_columns(stock[split], load_zoo(sharded_zoo, split=split))
