import math
from typing import Any

import numpy as np
import pytest

from weightzoo.builders.importing.columns import ColumnPlan
from weightzoo.builders.importing.models import (
    FoundModel,
    hyper_parameter_name,
    metric_name,
    parse_cell,
    read_metrics,
    sort_config,
    take_constants,
    tidy_metrics,
    unique_names,
    whole,
)


def model(name: str = "a", rows: int = 2, **values: Any) -> FoundModel:
    return FoundModel(name, list(range(rows)), np.arange(rows), split="train", **values)


def test_metrics_know_published_names_and_sentinels() -> None:
    rows = [
        {"train_loss": -999, "train_acc": -999, "test/acc": 0.5, "test_loss": math.inf},
        {"train_loss": math.nan, "train_acc": "high", "other": 1.0},
    ]
    metrics, diverged = read_metrics(rows)
    assert np.isnan(metrics["train_loss"]).all() and "train_accuracy" not in metrics
    assert metrics["test_accuracy"][0] == 0.5 and metrics["test_loss"][0] == math.inf
    assert diverged.tolist() == [True, True]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_metric_names(part: str) -> None:
    assert metric_name(f"{part}_acc") == metric_name(f"{part}/acc") == f"{part}_accuracy"
    assert metric_name(f"{part}/loss") == metric_name(f"{part}_loss") == f"{part}_loss"
    assert metric_name("accuracy") is None and metric_name("ggap") == "generalization_gap"


def test_fractions_stay_as_they_are() -> None:
    found = model(metrics={"test_accuracy": np.array([0.2, 1.0]), "train_loss": np.array([9.0, 4])})
    assert tidy_metrics([found]) == []
    assert found.metrics["test_accuracy"].tolist() == [0.2, 1.0]


def test_percent_of_one_model_makes_the_zoo_percent() -> None:
    bad = model("bad", metrics={"test_accuracy": np.array([0.9, np.nan])})
    good = model("good", metrics={"test_accuracy": np.array([10.0, 90.0])})
    assert "90" in tidy_metrics([bad, good])[0]
    assert bad.metrics["test_accuracy"][0] == pytest.approx(0.009)


def test_config_is_renamed_and_lists_stay_whole() -> None:
    known, rest = sort_config({"model::nlin": "leakyrelu", "optim::wd": 0.1, "h_dim": [3, 4]})
    assert known == {"activation": "leaky_relu", "weight_decay": 0.1}
    assert rest == {"h_dim": (3, 4)}
    assert hyper_parameter_name("config.learning_rate") == "lr"
    assert hyper_parameter_name("colour") is None


def test_constants_leave_the_columns() -> None:
    models = [model(n, properties={"cuda": False, "size": s}) for n, s in (("a", 1), ("b", 2))]
    assert take_constants(models) == {"cuda": False}
    assert [found.properties for found in models] == [{"size": 1}, {"size": 2}]


def test_a_property_that_some_lack_is_no_constant() -> None:
    models = [model("a", properties={"x": 1}), model("b")]
    assert take_constants(models) == {}


@pytest.mark.parametrize(
    ("cell", "value"), [("3", 3), ("3.5", 3.5), ("1e-3", 1e-3), ("red", "red"), ("", None)]
)
def test_cells_are_parsed(cell: str, value: Any) -> None:
    assert parse_cell(cell) == value and type(parse_cell(cell)) is type(value)


def test_whole_takes_whole_numbers_only() -> None:
    found = [whole(value, -1) for value in (3, 3.0, 3.5, True, "3", None)]
    assert found == [3, 3, -1, -1, -1, -1]


def test_names_are_short_where_they_are_unique() -> None:
    paths = ["zoo/a", "zoo/b", "other/b"]
    assert unique_names(paths) == {"zoo/a": "a", "zoo/b": "zoo/b", "other/b": "other/b"}


def test_columns_fill_what_a_model_lacks() -> None:
    models = [
        model("a", hyper_parameters={"lr": 0.1, "optimizer": "sgd"}, properties={"n": 2, "t": "x"}),
        model("b", rows=1, properties={"per_row": [7]}),
    ]
    columns = ColumnPlan.of(models).columns(models, [0, 1])
    assert columns["model_id"].tolist() == [0, 0, 1] and columns["epoch"].tolist() == [0, 1, 0]
    assert columns["optimizer"].tolist() == ["sgd", "sgd", ""]
    assert columns["t"].tolist() == ["x", "x", ""]
    for name, known in {"lr": [0.1, 0.1], "n": [2, 2]}.items():
        assert columns[name][:2].tolist() == known and np.isnan(columns[name][2])
    assert np.isnan(columns["per_row"][:2]).all() and columns["per_row"][2] == 7


def test_column_names_are_free_and_plain() -> None:
    names = ["epoch", "weights", "test/x", "test x", "lr", ""]
    plan = ColumnPlan.of([model(properties={name: 1 for name in names})])
    assert list(plan.properties) == ["epoch_", "weights_", "test_x", "test_x_", "lr_", "property"]


def test_text_that_hdf5_refuses_is_replaced() -> None:
    models = [model(rows=1, properties={"t": "a\0b\ud800"})]
    assert ColumnPlan.of(models).columns(models, [0])["t"].tolist() == ["ab?"]
