"""Saved and joined zoos: whole folders, no two models under one id, nothing lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import load_dataset

from weightzoo import concatenate_zoos, from_hf, load_zoo, save_zoo, write_zoo
from weightzoo.loaders import ZooDataset
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.format import METRICS
from weightzoo.zoos.networks.layer_table import LayerTable


def assert_verified(folder: Path) -> None:
    assert [check.name for check in verify_zoo(folder) if check.passed is False] == []


def test_saved_dict_is_a_whole_zoo(tiny_zoo: Path, tmp_path: Path) -> None:
    zoo = {split: part.filter("epoch >= 1") for split, part in load_zoo(tiny_zoo).items()}
    index = save_zoo(zoo, tmp_path / "late", licence="mit")
    assert (index.name, [shard.models for shard in index.shards]) == ("late", [2, 1, 1])
    again = load_zoo(tmp_path / "late")
    for split, part in zoo.items():
        assert torch.equal(again[split].weights(), part.weights())
        assert list(again[split].columns) == list(part.columns)
    assert again["train"].module(0) is not None
    assert_verified(tmp_path / "late")
    assert "license: mit" in (tmp_path / "late" / "README.md").read_text()
    stock = load_dataset(str(tmp_path / "late"), split="validation", cache_dir=str(tmp_path / "c"))
    assert stock["epoch"][:] == [1, 2]


def test_keys_of_a_saved_dict_are_the_splits(tiny_zoo: Path, tmp_path: Path) -> None:
    train = load_zoo(tiny_zoo, split="train")
    parts = {"train": train.trajectory(0), "validation": train.trajectory(1)}
    save_zoo(parts, tmp_path / "z")
    zoo = load_zoo(tmp_path / "z")
    assert {split: set(part.columns["model_id"].tolist()) for split, part in zoo.items()} == {
        "train": {0},
        "val": {1},
    }
    assert_verified(tmp_path / "z")


def test_split_parts_are_saved_as_they_are(tiny_zoo: Path, tmp_path: Path) -> None:
    whole = concatenate_zoos(list(load_zoo(tiny_zoo).values()))
    save_zoo(whole.train_test_split(0.5), tmp_path / "z")
    assert [len(part) for part in load_zoo(tmp_path / "z").values()] == [6, 6]
    assert_verified(tmp_path / "z")


def test_shuffled_rows_are_grouped_by_model_when_saved(tiny_zoo: Path, tmp_path: Path) -> None:
    train = load_zoo(tiny_zoo, split="train")
    save_zoo(train.shuffle(3), tmp_path / "z")
    again = load_zoo(tmp_path / "z", split="train")
    assert len(set(again.columns["model_id"][:3])) == 1
    for row in again:
        same = train.filter(f"model_id == {row['model_id']} and epoch == {row['epoch']}")
        assert torch.equal(same.weights()[0], row["weights"])


@pytest.mark.parametrize("rows", [[0, 0], []])
def test_rows_that_make_no_zoo_are_refused(tiny_zoo: Path, tmp_path: Path, rows: Any) -> None:
    part = load_zoo(tiny_zoo, split="train").select(rows)
    with pytest.raises(ValueError, match="two rows of epoch|no row to save"):
        save_zoo(part, tmp_path / "z")
    assert not list(tmp_path.glob("z*"))


def test_model_in_two_splits_is_refused(tiny_zoo: Path, tmp_path: Path) -> None:
    train = load_zoo(tiny_zoo, split="train")
    with pytest.raises(ValueError, match="rows in the splits 'train' and 'test'"):
        save_zoo({"train": train.select([0]), "test": train.select([1])}, tmp_path / "z")
    with pytest.raises(ValueError, match="keys must be splits"):
        save_zoo({"dev": train}, tmp_path / "z")
    save_zoo(train, tmp_path / "z")
    with pytest.raises(BuildError, match="exists"):
        save_zoo(train, tmp_path / "z")


def child(parent: ZooDataset, folder: Path) -> ZooDataset:
    """A zoo with the parent's ids, a new column, and without one of the parent's."""
    zoo = parent.map(
        lambda batch: {
            "weights": batch["weights"] + 1,
            "sparsity": batch["lr"],
            "steps": batch["epoch"],
        },
        save_to=folder.with_suffix(".h5"),
    )
    save_zoo(zoo.remove_columns("momentum"), folder, name="child")
    return load_zoo(folder, split="train")


def test_shared_ids_are_never_mixed_in_silence(train: ZooDataset, tmp_path: Path) -> None:
    other = child(train, tmp_path / "child")
    with pytest.raises(ValueError, match="share 4 model ids, such as 0, .*same_ids='renumber'"):
        concatenate_zoos([train, other])
    both = concatenate_zoos([train, other], same_ids="renumber")
    assert len(np.unique(both.columns["model_id"])) == 8
    assert both.columns["zoo"].tolist() == [train.name] * 12 + ["child"] * 12
    np.testing.assert_array_equal(both.columns["zoo_model_id"][12:], other.columns["model_id"])
    assert torch.equal(both.weights(), torch.cat([train.weights(), other.weights()]))
    save_zoo(both, tmp_path / "both")
    assert_verified(tmp_path / "both")


def test_first_zoo_keeps_its_ids_in_all_splits(tiny_zoo: Path, tmp_path: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    save_zoo({split: part.filter("epoch == 2") for split, part in zoo.items()}, tmp_path / "last")
    parts = [*zoo.values(), *load_zoo(tmp_path / "last").values()]
    both = concatenate_zoos(parts, same_ids="renumber")
    old = [part.columns["model_id"].tolist() for part in zoo.values()]
    assert both.columns["model_id"].tolist() == sum(old, []) + [4, 5, 6, 7]
    assert both.columns["zoo_model_id"][12:].tolist() == [0, 1, 2, 3]


def test_other_layer_tables_are_named(train: ZooDataset, tmp_path: Path) -> None:
    rows = np.zeros((2, 6), np.float32)
    table = LayerTable.from_module(torch.nn.Linear(2, 2))
    write_zoo(
        tmp_path / "z", rows, name="z", licence="mit", architecture=table, splits={"train": 1}
    )
    with pytest.raises(ValueError, match=r"first in conv1.weight \[2, 1, 3, 3\] .* and weight \[2"):
        concatenate_zoos([train, load_zoo(tmp_path / "z", split="train")])


def test_columns_that_one_zoo_lacks_are_missing(train: ZooDataset, tmp_path: Path) -> None:
    other = child(train, tmp_path / "child")
    both = concatenate_zoos([train, other], same_ids="keep")
    np.testing.assert_array_equal(both.columns["momentum"][:12], train.columns["momentum"])
    assert np.isnan(both.columns["momentum"][12:]).all()
    assert both.columns["steps"].dtype == np.float64 and np.isnan(both.columns["steps"][:12]).all()
    assert both.columns["model_id"].tolist() == train.columns["model_id"].tolist() * 2
    assert [row["zoo"] for row in both.select([0, 23])] == [train.name, "child"]


def test_lineage_that_one_zoo_lacks_says_trained(train: ZooDataset, tmp_path: Path) -> None:
    lineage = {
        "relation": ["fine-tuned"] * 12,
        "parent_zoo": ["tiny"] * 12,
        "parent_model_id": train.columns["model_id"],
        "parent_epoch": train.columns["epoch"],
    }
    other = child(train, tmp_path / "child")
    for name, values in lineage.items():
        other = other.add_column(name, values)
    both = concatenate_zoos([train, other], same_ids="renumber")
    assert both.columns["relation"].tolist() == ["trained"] * 12 + ["fine-tuned"] * 12
    assert both.columns["parent_model_id"].dtype == np.int64
    save_zoo(both, tmp_path / "both")
    assert_verified(tmp_path / "both")


def test_text_and_numbers_are_not_joined(train: ZooDataset, tmp_path: Path) -> None:
    other = child(train, tmp_path / "child").add_column("x", ["a"] * 12)
    with pytest.raises(ValueError, match="'x' holds text in one zoo and numbers in another"):
        concatenate_zoos([train.add_column("x", [1] * 12), other], same_ids="keep")


def halved_metrics(batch: dict[str, Any]) -> dict[str, Any]:
    """Metrics of the fake zoo as fractions; its training accuracies exceed 1."""
    return {name: batch[name] / 2 for name in METRICS}


def test_stock_dataset_becomes_a_zoo_again(tiny_zoo: Path, tmp_path: Path) -> None:
    zoo = {split: part.map(halved_metrics) for split, part in load_zoo(tiny_zoo).items()}
    stock = {split: part.to_hf() for split, part in zoo.items()}
    stock["validation"] = stock.pop("val")
    architecture = zoo["train"].header.architecture
    written = from_hf(stock, tmp_path / "z", name="again", licence="mit", architecture=architecture)
    assert written.splits == {"train": 2, "val": 1, "test": 1}
    again = load_zoo(tmp_path / "z")
    for split, part in zoo.items():
        assert torch.equal(again[split].weights(), part.weights())
        for name, column in part.columns.items():
            np.testing.assert_array_equal(again[split].columns[name], column)
    assert_verified(tmp_path / "z")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("tiny", "load it first"),
        ([1], "got list"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, given: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        save_zoo(given, tmp_path / "z")


def test_dict_of_splits_is_not_joined(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    with pytest.raises(TypeError, match=r"dict with the keys \['train', 'val', 'test'\].*zoo\['tr"):
        concatenate_zoos(zoo)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write \[dataset\]"):
        concatenate_zoos(zoo["train"])  # type: ignore[arg-type]
