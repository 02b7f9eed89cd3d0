"""Edited datasets: rows keep their weights, columns get what was said, files stay as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo.loaders import ZooDataset, load_zoo


def test_added_column_is_there_in_every_view(train: ZooDataset) -> None:
    zoo = train.filter("epoch >= 1").add_column("grade", list("abababab"))
    assert zoo["grade"] == list("abababab") and zoo[3]["grade"] == "b"
    assert zoo.filter("grade == 'a'").columns["epoch"].tolist() == [1, 1, 1, 1]
    assert torch.equal(zoo.weights(), train.filter("epoch >= 1").weights())
    assert "grade" not in train.shown and zoo.features["grade"] == "text"


def test_added_column_with_missing_values_is_stored_as_the_format_says(train: ZooDataset) -> None:
    zoo = train.select([0, 1]).add_column("width", [3, None]).add_column("flag", [True, False])
    np.testing.assert_array_equal(zoo.columns["width"], [3.0, np.nan])
    assert zoo.columns["flag"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "values", "kind", "reason"),
    [
        ("lr", [1.0] * 12, ValueError, "name is taken"),
        ("my lr", [1.0] * 12, ValueError, "no name"),
        ("x", [1.0] * 11, ValueError, "11 values, and the dataset 12 rows"),
        ("x", 3, TypeError, "single value 3"),
        ("x", [{}] * 12, TypeError, "all of one kind"),
    ],
)
def test_wrong_column_is_refused(
    train: ZooDataset, name: str, values: Any, kind: Any, reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        train.add_column(name, values)


def test_repeated_row_cannot_have_two_values(train: ZooDataset) -> None:
    twice = train.select([3, 3])
    assert twice.add_column("x", [7, 7]).columns["x"].tolist() == [7, 7]
    with pytest.raises(ValueError, match="holds twice has two values"):
        twice.add_column("x", [7, 8])


def test_renamed_and_removed_columns_stay_so_when_saved(train: ZooDataset, tmp_path: Path) -> None:
    zoo = train.rename_columns({"lr": "rate"}).rename_columns({"rate": "step"})
    zoo = zoo.remove_columns(["momentum", "train_loss"])
    again = load_zoo(zoo.save(tmp_path / "z.h5"), split="train")
    np.testing.assert_array_equal(again.columns["step"], train.columns["lr"])
    assert not {"lr", "momentum", "train_loss"} & set(again.columns)
    assert "step" in again.header.hyper_parameters
    assert "momentum" not in again.header.hyper_parameters


def test_column_that_rebuilds_networks_cannot_go(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match="rebuilt with the column 'activation': keep it"):
        train.remove_columns("activation")
    with pytest.raises(ValueError, match="rebuilt with the column 'activation': keep it"):
        train.rename_columns({"activation": "nonlinearity"})
    assert "activation" not in train.select_columns(["lr"]).columns


def test_columns_of_every_zoo_cannot_go(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match="every zoo has the columns"):
        train.remove_columns("epoch")
    with pytest.raises(ValueError, match="every zoo has the columns"):
        train.rename_columns({"split": "part"})
    with pytest.raises(KeyError, match="no columns"):
        train.remove_columns("nothing")
    with pytest.raises(ValueError, match="taken"):
        train.rename_columns({"lr": "momentum"})


def test_map_computes_columns_from_weights_batch_by_batch(train: ZooDataset) -> None:
    sizes: list[int] = []

    def norms(batch: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(batch["epoch"]))
        return {"norm": batch["weights"].norm(dim=1), "lr": batch["lr"] * 10}

    zoo = train.map(norms, weights=True, batch_rows=5)
    assert sizes == [5, 5, 2]
    torch.testing.assert_close(torch.tensor(zoo.columns["norm"]), train.weights().norm(dim=1))
    np.testing.assert_array_equal(zoo.columns["lr"], train.columns["lr"] * 10)


def test_map_writes_new_weights_to_a_file(train: ZooDataset, tmp_path: Path) -> None:
    def double(batch: dict[str, Any]) -> dict[str, Any]:
        return {"weights": 2 * batch["weights"], "row": batch["epoch"]}

    part = train.select([7, 2, 9])
    zoo = part.map(double, batch_rows=2, save_to=tmp_path / "double.h5")
    assert torch.equal(zoo.weights(), 2 * part.weights())
    assert zoo.columns["row"].tolist() == part.columns["epoch"].tolist()
    with pytest.raises(ValueError, match="give save_to"):
        part.map(double, weights=True)


@pytest.mark.parametrize(
    ("made", "kind", "reason"),
    [
        ([1], TypeError, "must return a dict"),
        ({"x": 3}, ValueError, "must return 12 values"),
        ({"x": [3]}, ValueError, "must return 12 values"),
    ],
)
def test_map_refuses_what_is_not_one_value_per_row(
    train: ZooDataset, made: Any, kind: Any, reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        train.map(lambda batch: made)


def test_sort_is_stable_and_puts_missing_numbers_last(train: ZooDataset) -> None:
    zoo = train.select([0, 1, 2, 3]).add_column("x", [2.0, np.nan, 1.0, 2.0])
    assert zoo.sort("x").rows.tolist() == [2, 0, 3, 1]
    assert zoo.sort("x", descending=True).rows.tolist() == [0, 3, 2, 1]
    assert (
        train.sort(["epoch", "model_id"]).columns["epoch"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    )


def test_shuffle_keeps_every_row_and_depends_on_the_seed(train: ZooDataset) -> None:
    one = train.shuffle(1)
    assert sorted(one.rows) == sorted(train.rows) and one.rows.tolist() != train.rows.tolist()
    assert one.rows.tolist() == train.shuffle(1).rows.tolist() != train.shuffle(2).rows.tolist()


def test_train_test_split_is_by_model(train: ZooDataset) -> None:
    parts = train.train_test_split(0.25, seed=3)
    ids = {name: set(part.columns["model_id"].tolist()) for name, part in parts.items()}
    assert len(ids["train"]) == 3 and len(ids["test"]) == 1 and not ids["train"] & ids["test"]
    assert set(parts["test"].columns["split"]) == {"test"}
    with pytest.raises(ValueError, match="leave a split empty"):
        train.trajectory(0).train_test_split(0.25)


def test_pandas_frame_holds_the_shown_columns(train: ZooDataset) -> None:
    frame = train.select_columns(["epoch", "optimizer"]).to_pandas()
    assert list(frame) == ["epoch", "optimizer"]
    assert frame["optimizer"].tolist() == train.columns["optimizer"].tolist()
