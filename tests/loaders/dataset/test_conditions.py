"""Conditions as text: what they select, and that nothing but comparisons is let through."""

import numpy as np
import pytest

from weightzoo.loaders import ZooDataset
from weightzoo.loaders.dataset.conditions import rows_where

COLUMNS = {
    "epoch": np.array([0, 1, 2, 3]),
    "score": np.array([0.1, np.nan, 0.5, -2.0], np.float32),
    "name": np.array(["a", "b", "a", "it's"], dtype=object),
}


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("epoch == 2", [2]),
        ("epoch != 2", [0, 1, 3]),
        ("score >= 0.1 and epoch < 2", [0]),
        ("score >= 0.1 or name == 'b'", [0, 1, 2]),
        ("not (epoch == 0 or epoch == 3)", [1, 2]),
        ("0 < epoch <= 2", [1, 2]),
        ("epoch in (0, 3)", [0, 3]),
        ("epoch in ()", []),
        ("name not in ['a']", [1, 3]),
        ('name == "it\'s"', [3]),
        ("-2.0 == score", [3]),
        ("score != score", [1]),
        ("epoch > score and True == 1 or epoch == 9", None),
        ("  epoch == +1  ", [1]),
    ],
)
def test_rows_where_selects_what_holds(condition: str, rows: list[int] | None) -> None:
    if rows is None:
        with pytest.raises(ValueError, match="a column on one side"):
            rows_where(condition, COLUMNS)
        return
    found = rows_where(condition, COLUMNS)
    assert found.dtype == np.bool_
    assert np.flatnonzero(found).tolist() == rows


@pytest.mark.parametrize(
    "condition",
    [
        "optimizer == 'adam'",
        "'adam' != optimizer",
        "optimizer in ('sgd', 'adam', 'none') and split == 'train'",
        "optimizer not in ('adam',)",
        "optimizer == 'none'",
        "optimizer in ()",
        "optimizer == activation or optimizer != status",
        "not status == 'ok' or epoch == 2",
    ],
)
def test_rows_where_finds_the_same_rows_by_codes_and_by_texts(
    condition: str, train: ZooDataset
) -> None:
    part = train.select([5, 0, 3, 0])
    expected = rows_where(condition, {name: part.columns[name] for name in part.columns})
    found = rows_where(condition, part.columns)
    assert found.dtype == np.bool_
    assert found.tolist() == expected.tolist()
    assert rows_where(condition, part.select([]).columns).shape == (0,)


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('true')",
        "epoch.real == 1",
        "epoch[0] == 1",
        "(lambda: 1)() == epoch",
        "epoch == 1 if epoch else 2",
        "[x for x in epoch] == 1",
        "epoch == 2 ** 9",
        "epoch == 1 + 1",
        "epoch is 1",
        "epoch",
        "1 == 1",
        "f'{epoch}' == name",
        "epoch in name",
        "epoch == None",
        "epoch == b'a'",
        "(epoch := 1) == 1",
        "epoch == -'a'",
        "",
        "epoch ==",
        "epoch = 1",
    ],
)
def test_rows_where_refuses_everything_else(condition: str) -> None:
    with pytest.raises(ValueError, match="condition"):
        rows_where(condition, COLUMNS)


def test_rows_where_names_the_unknown_column_and_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"no column 'lr', the columns are \['epoch', 'score', 'name'\]"
    ):
        rows_where("lr > 0.1", COLUMNS)


@pytest.mark.parametrize(
    "condition", ["name == 1", "epoch == 'a'", "epoch in ('a',)", "name < 'b'"]
)
def test_rows_where_refuses_to_compare_text_with_numbers_or_by_size(condition: str) -> None:
    with pytest.raises(ValueError, match="text"):
        rows_where(condition, COLUMNS)
