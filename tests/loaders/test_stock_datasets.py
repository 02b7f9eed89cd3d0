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


def test_folder_of_imported_zoos_opens_by_name(tmp_path: Path, offline: None) -> None:
    """The card of the folder has one config per architecture, and the licence of the source."""
    import torch
    from datasets import load_dataset

    from weightzoo.builders.imports import import_zoo
    from weightzoo.zoos.cards.licences import stated_licence

    (tmp_path / "nets").mkdir()
    for seed in range(8):
        state = torch.nn.Linear(3, 2 + seed % 2).state_dict()
        torch.save(state, tmp_path / f"nets/net{seed}.pt")
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "zoos", progress=False)
    for zoo in report.zoos:
        name, cache = Path(zoo.path).name, str(tmp_path / "cache")
        stock = load_dataset(str(tmp_path / "zoos"), name, cache_dir=cache)
        ours = load_zoo(tmp_path / "zoos", name)
        for split, rows in ours.items():
            assert_equal_columns(stock[FILE_SPLITS[split]], rows)
    assert len(report.zoos) == 2 and not stated_licence((tmp_path / "zoos/README.md").read_text())
    import_zoo("state-dicts", tmp_path / "nets", tmp_path / "zoos", overwrite=True, progress=False)
