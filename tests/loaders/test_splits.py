"""Split expressions: parsed, and cut by whole models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.loaders import load_zoo
from weightzoo.loaders.splits import SplitPart, parse_split

MODELS = np.repeat([7, 3, 9, 1, 4], [2, 3, 1, 2, 2])  # in the order of appearance


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("train", [7, 3, 9, 1, 4]),
        ("train[:2]", [7, 3]),
        ("train[1:3]", [3, 9]),
        ("train[-2:]", [1, 4]),
        ("train[:50%]", [7, 3]),
        ("train[50%:]", [9, 1, 4]),
        ("train[-40%:]", [1, 4]),
        ("train[20%:-1]", [3, 9, 1]),
        ("train[3:99]", [1, 4]),
        ("train[:]", [7, 3, 9, 1, 4]),
    ],
)
def test_split_part_takes_whole_models(text: str, models: list[int]) -> None:
    [part] = parse_split(text)
    rows = part.rows(MODELS)
    assert MODELS[rows].tolist() == [model for model in MODELS if model in models]


def test_split_part_finds_models_whose_rows_are_apart() -> None:
    assert parse_split("train[:1]")[0].rows(np.array([2, 1, 2, 1])).tolist() == [0, 2]


@pytest.mark.parametrize("percent", range(0, 101, 7))
def test_split_part_percent_lose_and_share_no_model(percent: int) -> None:
    ids = np.arange(13)
    parts = [SplitPart("train", None, f"{percent}%"), SplitPart("train", f"{percent}%", None)]
    sizes = [13 * percent // 100, 13 - 13 * percent // 100]
    for part, size in zip(parts, sizes, strict=True):
        if size:
            assert len(part.rows(ids)) == size
        else:
            with pytest.raises(ValueError, match="is empty: 'train' has 13 models"):
                part.rows(ids)


def test_parse_split_reads_sums_and_the_hubs_word() -> None:
    parts = parse_split("train[:50%] + validation[1:]+test")
    assert parts == [
        SplitPart("train", None, "50%"),
        SplitPart("val", "1", None),
        SplitPart("test"),
    ]
    assert [str(part) for part in parts] == ["train[:50%]", "val[1:]", "test"]


@pytest.mark.parametrize(
    "text", ["dev", "train[", "train[1]", "train[::2]", "train[a:]", "train[:150%]", "train+", ""]
)
def test_parse_split_refuses_what_is_no_split(text: str) -> None:
    with pytest.raises(ValueError, match="split"):
        parse_split(text)


def test_load_zoo_takes_parts_and_sums_of_splits(sharded_zoo: Path) -> None:
    everything = load_zoo(sharded_zoo)
    train, val = everything["train"], everything["val"]
    half = load_zoo(sharded_zoo, split="train[:50%]")
    assert half.columns["model_id"].tolist() == train.columns["model_id"][:6].tolist()
    both = load_zoo(sharded_zoo, split="train[50%:]+val")
    assert both.columns["split"].tolist() == ["train"] * 6 + ["val"] * 3
    assert torch.equal(both.weights(), torch.cat([train.weights()[6:], val.weights()]))
    assert both[7]["lr"] == val[1]["lr"]
    assert both.columns["activation"].tolist() == [
        *train.columns["activation"][6:].tolist(),
        *val.columns["activation"].tolist(),
    ]


def test_load_zoo_slice_of_models_needs_their_ids(sharded_zoo: Path) -> None:
    with pytest.raises(ValueError, match=r"'train\[:1\]' needs the column 'model_id'"):
        load_zoo(sharded_zoo, split="train[:1]", columns=["lr"])
