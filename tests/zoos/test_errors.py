"""Suggestions at the end of errors about unknown names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from weightzoo import load_recipe, load_zoo
from weightzoo.benchmarks.registry import load_benchmark
from weightzoo.encoders import encoder_entry
from weightzoo.tasks.trainings import train_kind
from weightzoo.zoos.errors import did_you_mean
from weightzoo.zoos.images.catalog import check_image_set


def test_a_similar_name_is_suggested_and_a_strange_one_is_not() -> None:
    assert did_you_mean("digit-cnn", ["digits-cnn", "sine"]) == "; did you mean 'digits-cnn'?"
    assert did_you_mean(["lrr", "zz"], ["lr", "seed"]) == "; did you mean 'lr'?"
    assert did_you_mean("quantum", ["digits-cnn", "sine"]) == ""


@pytest.mark.parametrize(
    ("take", "wrong", "right"),
    [
        (load_recipe, "digit-cnn", "digits-cnn"),
        (encoder_entry, "nueral-graph", "neural-graph"),
        (train_kind, "hyper-represention", "hyper-representation"),
        (check_image_set, "glyph-digits", "glyphs-digits"),
        (load_benchmark, "crossdataset", "cross-dataset"),
    ],
)
def test_unknown_recipes_encoders_images_and_benchmarks_suggest_one(
    take: Callable[[str], object], wrong: str, right: str
) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{right}'"):
        take(wrong)


def test_unknown_columns_suggest_one(tiny_zoo: Path) -> None:
    train = load_zoo(tiny_zoo, split="train")
    meant = "did you mean 'test_accuracy'"
    with pytest.raises(KeyError, match=meant):
        train["test_acuracy"]
    with pytest.raises(KeyError, match=meant):
        train.columns["testaccuracy"]
    with pytest.raises(KeyError, match=meant):
        train.select_columns("test_accurcy")
    with pytest.raises(ValueError, match=meant):
        train.filter("test_acuracy > 0.5")
    with pytest.raises(ValueError, match=meant):
        load_zoo(tiny_zoo, columns=["test_acuracy"])
