"""The dict of splits that `load_zoo` returns, and what notebooks show."""

from pathlib import Path

import pytest

from weightzoo import ZooDict, load_zoo
from weightzoo.zoos.errors import BuildError


def test_splits_are_a_dict_with_our_words(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    assert isinstance(zoo, ZooDict) and isinstance(zoo, dict)
    assert list(zoo) == ["train", "val", "test"]
    assert {**zoo} == dict(zoo)


def test_validation_is_a_second_name_of_val(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    assert zoo["validation"] is zoo["val"] is zoo.get("validation")
    assert "validation" in zoo and "training" not in zoo
    del zoo["val"]
    assert "validation" not in zoo and zoo.get("validation", 3) == 3


def test_unknown_split_lists_the_splits_and_suggests_one(tiny_zoo: Path) -> None:
    with pytest.raises(KeyError, match=r"no split 'tset', there are \['train'.*mean 'test'"):
        load_zoo(tiny_zoo)["tset"]


def test_filter_and_select_columns_apply_to_every_split(tiny_zoo: Path) -> None:
    last = load_zoo(tiny_zoo).filter("epoch == 2").select_columns("model_id")
    assert isinstance(last, ZooDict)
    assert {split: len(rows) for split, rows in last.items()} == {"train": 2, "val": 1, "test": 1}
    assert all(list(rows.columns) == ["model_id"] for rows in last.values())
    assert last.with_format("numpy")["val"][0]["weights"].shape == (71,)


def test_save_writes_a_zoo_folder_of_all_splits(tiny_zoo: Path, tmp_path: Path) -> None:
    last = load_zoo(tiny_zoo).filter("epoch == 2")
    last.save(tmp_path / "last", licence="mit")
    again = load_zoo(tmp_path / "last")
    assert {split: len(rows) for split, rows in again.items()} == {"train": 2, "val": 1, "test": 1}
    assert (again["val"].weights() == last["validation"].weights()).all()
    with pytest.raises(BuildError, match="exists"):
        last.save(tmp_path / "last")


def test_repr_names_zoo_and_rows(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    shown = "ZooDict('tiny', D=71, train: 6 rows, val: 3 rows, test: 3 rows)"
    assert repr(zoo) == shown and repr(ZooDict()) == "ZooDict()"


def test_notebooks_show_splits_and_columns_as_tables(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    assert "<tr><td>train</td><td>6</td><td>2</td></tr>" in zoo._repr_html_()
    table = zoo["val"].filter("epoch == 0")._repr_html_()
    assert "<td>epoch</td><td>int64</td><td>0</td>" in table and "float32[71]" in table


def test_tables_escape_names(tiny_zoo: Path) -> None:
    from dataclasses import replace

    odd = replace(load_zoo(tiny_zoo, split="val"), name="<script>")
    assert "<script>" not in odd._repr_html_() + ZooDict(val=odd)._repr_html_()
