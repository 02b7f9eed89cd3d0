"""Lineage: the four columns are made, kept and checked together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import ZooFile, open_zoo_file, write_zoo_file
from weightzoo.zoos.lineage import LINEAGE, RELATIONS, Lineage, check_lineage, lineage_columns

PRUNED = Lineage(relation="pruned", parent_zoo="tiny", parent_model_id=7, parent_epoch=2)


def _write(path: Path, extra: Mapping[str, np.ndarray]) -> ZooFile:
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train", "train"])
    write_zoo_file(path, tiny_header(architecture), columns | dict(extra), weights)
    return open_zoo_file(path)


def test_lineage_reads_back_what_was_written(tmp_path: Path) -> None:
    columns = lineage_columns([Lineage(), PRUNED], repeat=3)
    read = _write(tmp_path / "zoo.h5", columns).read_columns(list(LINEAGE))
    assert read["relation"].tolist() == ["trained"] * 3 + ["pruned"] * 3
    assert read["parent_zoo"].tolist() == [""] * 3 + ["tiny"] * 3
    assert read["parent_model_id"].tolist() == [-1] * 3 + [7] * 3
    assert read["parent_epoch"].dtype == np.int64
    check_lineage(read)


@pytest.mark.parametrize("name", LINEAGE)
def test_file_with_part_of_lineage_is_neither_written_nor_read(tmp_path: Path, name: str) -> None:
    columns = lineage_columns([PRUNED, PRUNED], repeat=3)
    without = {key: column for key, column in columns.items() if key != name}
    with pytest.raises(ZooFormatError, match=f"missing are \\['{name}'\\]"):
        _write(tmp_path / "zoo.h5", without)
    path = _write(tmp_path / "zoo.h5", columns).path
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(ZooFormatError, match=f"zoo.h5: lineage .* missing are \\['{name}'\\]"):
        open_zoo_file(path)


def test_file_with_lineage_of_another_type_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "zoo.h5", lineage_columns([PRUNED, PRUNED], 3)).path
    with h5py.File(path, "r+") as file:
        del file["parent_epoch"]
        file["parent_epoch"] = np.zeros(6)
    with pytest.raises(ZooFormatError, match="parent_epoch must hold int values"):
        open_zoo_file(path)


def test_older_files_may_have_a_column_of_such_a_name(tmp_path: Path) -> None:
    path = _write(tmp_path / "zoo.h5", {}).path
    with h5py.File(path, "r+") as file:
        file["relation"] = np.zeros(6)
        file.attrs["format_version"] = "1.0"
    assert open_zoo_file(path).columns["relation"] == np.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"relation": "cloned"}, "relation must be one of"),
        ({"relation": "trained", "parent_zoo": "tiny"}, "'trained' has no parent"),
        ({"relation": "pruned", "parent_model_id": -2}, "must be -1 or more"),
        ({"relation": "pruned", "parent_model_id": 3}, "needs a parent model, and that a parent"),
        ({"relation": "merged", "parent_zoo": "a", "parent_epoch": 3}, "needs a parent model"),
    ],
)
def test_contradictory_lineage_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooFormatError, match=message):
        Lineage(**values)
    columns = lineage_columns([PRUNED, Lineage()])
    default = {name: column[1:] for name, column in columns.items()}
    bad = default | {name: np.array([value], object) for name, value in values.items()}
    with pytest.raises(ZooFormatError, match=message):
        check_lineage(bad)


def test_document_lists_the_columns() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    drawn = re.findall(r"^(\w+) +(text|int64) +\(N,\)", text, re.MULTILINE)
    words = {str: "text", int: "int64"}
    assert drawn == [(name, words[kind]) for name, kind in LINEAGE.items()]
    assert all(f'"{relation}"' in text for relation in RELATIONS)


def test_a_parent_may_be_a_zoo_a_model_or_a_row() -> None:
    for known in ({}, {"parent_model_id": 0}, {"parent_model_id": 0, "parent_epoch": 0}):
        Lineage(relation="generated", parent_zoo="tiny", **known)
    Lineage(relation="merged")
