"""Arguments of a wrong type are answered with what to write instead."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo import DeviceLoader, build_zoo, from_hf, load_zoo, save_zoo
from weightzoo.loaders import MixedLoader, ZooDataset
from weightzoo.tasks.training.encoder_regressor import train_encoder


def test_dict_of_splits_is_no_dataset(tiny_zoo: Path) -> None:
    zoo: Any = load_zoo(tiny_zoo)
    hint = r"dict with the keys \['train', 'val', 'test'\].*zoo\['train'\]"
    with pytest.raises(TypeError, match=f"DeviceLoader takes a ZooDataset, got a {hint}"):
        DeviceLoader(zoo, 4)
    with pytest.raises(TypeError, match=f"train_encoder takes .* got a {hint}"):
        train_encoder("statistics", zoo, zoo, "test_accuracy")  # type: ignore[arg-type]


def test_name_of_a_recipe_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"load it first, load_recipe\('digits-cnn'\)"):
        build_zoo("digits-cnn", tmp_path / "z")  # type: ignore[arg-type]


def test_text_is_no_list_of_columns(tiny_zoo: Path) -> None:
    with pytest.raises(TypeError, match=r"got the text 'epoch': \['epoch'\]"):
        load_zoo(tiny_zoo, columns="epoch")


def test_split_in_the_place_of_a_name_is_explained(tiny_zoo: Path) -> None:
    with pytest.raises(ValueError, match="for that split write split='train'"):
        load_zoo(tiny_zoo, "train")
    with pytest.raises(ValueError, match="leave out name='other'$"):
        load_zoo(tiny_zoo, "other")


def test_unknown_split_suggests_one(tiny_zoo: Path) -> None:
    with pytest.raises(ValueError, match="got 'tests', did you mean 'test'"):
        load_zoo(tiny_zoo, split="tests")
    with pytest.raises(TypeError, match="split must be a text"):
        load_zoo(tiny_zoo, split=3)  # type: ignore[call-overload]


def test_filter_for_single_rows_is_explained(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match="takes one row at a time: .* join comparisons by &"):
        train.filter(lambda row: row["epoch"] == 2 and row["test_accuracy"] > 0.5)
    for function in (
        lambda row: row["status"].startswith("o"),
        lambda row: float(row["test_accuracy"]) > 0.5,
        lambda row: row.epoch == 2,
    ):
        with pytest.raises(ValueError, match="fails on whole columns .*join comparisons by &"):
            train.filter(function)
    with pytest.raises(ValueError, match="12 booleans.*with whole columns"):
        train.filter(lambda row: True)
    with pytest.raises(TypeError, match="a text or a function, got ndarray: .* with select"):
        train.filter(np.ones(12, bool))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid literal"):  # an error of the user's own
        train.filter(lambda row: int("x"))
    with pytest.raises(TypeError, match="NoneType"):
        train.filter(lambda row: len(None))  # type: ignore[arg-type]


def test_mixed_loader_takes_loaders_by_name(tiny_zoo: Path) -> None:
    zoo: Any = load_zoo(tiny_zoo)
    with pytest.raises(TypeError, match=r"got ZooDataset under 'train': write DeviceLoader\("):
        MixedLoader(zoo)
    with pytest.raises(TypeError, match="takes a dict of loaders.* got list"):
        MixedLoader([zoo])  # type: ignore[arg-type]


def test_stock_and_own_datasets_name_the_function_that_writes_each(
    train: ZooDataset, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="got a stock Dataset: weightzoo.from_hf writes it"):
        save_zoo(train.to_hf(), tmp_path / "z")  # type: ignore[arg-type]
    named: Any = {"name": "z", "licence": "mit", "architecture": train.header.architecture}
    with pytest.raises(TypeError, match="got ZooDataset: .* written by save_zoo"):
        from_hf(train, tmp_path / "z", **named)  # type: ignore[arg-type]


def test_weights_that_were_not_asked_for_are_named(train: ZooDataset) -> None:
    with pytest.raises(KeyError, match=r"no column 'weights', .*give map\(..., weights=True\)"):
        train.map(lambda batch: {"norm": batch["weights"]})


def test_arguments_of_another_type_say_what_to_write(train: ZooDataset, tiny_zoo: Path) -> None:
    odd: Any = train
    with pytest.raises(TypeError, match=r"name of the column first, got list: add_column\('NAME'"):
        odd.add_column([1] * len(train), "x")
    with pytest.raises(TypeError, match=r"a dict of new names.* got \['lr'\]"):
        odd.rename_columns(["lr"])
    with pytest.raises(IndexError, match="whole numbers or 12 booleans, got str"):
        odd.weights("a")
    for wrong in (3, None, [tiny_zoo]):
        with pytest.raises(TypeError, match="load_zoo takes a path .*org/name"):
            load_zoo(wrong)  # type: ignore[call-overload]


def test_encoder_by_its_name_is_told_to_be_a_spec(train: ZooDataset) -> None:
    with pytest.raises(TypeError, match=r"got the text 'sne': write EncoderSpec\('sne'\)"):
        train_encoder("sne", train, train, "test_accuracy")  # type: ignore[arg-type]


def test_method_of_one_split_is_found_from_the_dict(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    with pytest.raises(AttributeError, match=r"'weights': it is of one split, zoo\['train'\]\.w"):
        zoo.weights()
    with pytest.raises(AttributeError, match="no attribute 'nothing'$"):
        _ = zoo.nothing


def test_columns_that_are_missing_are_suggested(train: ZooDataset) -> None:
    for wrong in (lambda: train.sort("epok"), lambda: train.remove_columns("epok")):
        with pytest.raises(KeyError, match="no columns .*did you mean 'epoch'"):
            wrong()
