"""Trajectories: one item is all checkpoints of one model."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from weightzoo.loaders import Row, ZooDataset, load_zoo


def test_trajectory_item_holds_all_epochs_of_a_model(train: ZooDataset) -> None:
    trajectories = train.select([2, 7, 0, 8, 1, 6, 3, 4, 5, 11, 10, 9]).trajectories()
    assert len(trajectories) == 4
    assert trajectories.model_ids.tolist() == [0, 1, 2, 3]
    item = trajectories[2]
    assert isinstance(item, Row)
    assert item["epoch"].tolist() == [0, 1, 2]
    assert torch.equal(item["weights"], train.trajectory(2).weights())
    assert item["init"] == train.columns["init"][6:9].tolist()
    assert [len(one["epoch"]) for one in trajectories] == [3] * 4


def test_trajectories_batch_through_a_dataloader(train: ZooDataset) -> None:
    trajectories = train.select_columns(["model_id", "test_accuracy", "init"]).trajectories()
    batch = next(iter(DataLoader(trajectories, batch_size=3, sampler=[3, 0, 2])))
    assert batch["weights"].shape == (3, 3, 71)
    assert torch.equal(batch["weights"][0], train.trajectory(3).weights())
    assert batch["model_id"].tolist() == [[3] * 3, [0] * 3, [2] * 3]
    assert batch["init"][1] == train.columns["init"][:3].tolist()
    assert torch.equal(trajectories[[3, 0, 2]]["weights"], batch["weights"])


def test_trajectories_of_other_formats(train: ZooDataset) -> None:
    states = train.with_format("state_dict").trajectories()
    assert states[[1, 3]]["state_dict"]["conv1.weight"].shape == (2, 3, 2, 1, 3, 3)
    assert states[1]["state_dict"]["conv1.bias"].shape == (3, 2)
    tokens = train.with_format("layer_sets").trajectories()
    assert tokens[[1, 3]]["values"].shape[:2] == (2, 3)
    assert torch.equal(tokens[[1, 3]]["mask"], train.with_format("layer_sets")[0]["mask"])
    loaded = next(iter(DataLoader(tokens, batch_size=2)))
    assert torch.equal(loaded["mask"], tokens[1]["mask"])


def test_trajectories_of_unequal_length_make_no_batch(train: ZooDataset) -> None:
    uneven = train.filter("model_id != 1 or epoch < 2").trajectories()
    assert uneven.lengths.tolist() == [3, 2, 3, 3]
    assert uneven[1]["weights"].shape == (2, 71)
    with pytest.raises(ValueError, match=r"models with \[2, 3\] checkpoints make no batch"):
        uneven[[0, 1]]
    with pytest.raises(IndexError, match="row 4 is out of range: there are 4 rows"):
        uneven[4]


def test_trajectories_need_model_and_epoch(sharded_zoo: Path) -> None:
    dataset = load_zoo(sharded_zoo, split="train", columns=["model_id"])
    with pytest.raises(ValueError, match="trajectories needs the column 'epoch'"):
        dataset.trajectories()
