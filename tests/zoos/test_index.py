"""The zoo folder: `zoo.json` names its files, and what contradicts it is refused."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_tiny_zoo import make_tiny_zoo, tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.index import INDEX_NAME, Shard, ZooIndex, describe_shard, shard_name
from weightzoo.zoos.networks.architectures import Architecture

TRAIN = "train-00000-of-00001.h5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; tests get copies."""
    return make_tiny_zoo(tmp_path_factory.mktemp("zoos") / "tiny")


@pytest.fixture
def tiny_zoo(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "tiny")


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit `zoo.json` as data."""
    path = folder / INDEX_NAME
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def replace_train_file(folder: Path, **changes: Any) -> None:
    """Write another train file, one column added or the header changed, and list it rightly."""
    header, column = tiny_header(tiny_architecture()), changes.pop("column", None)
    header = replace(header, **changes)
    columns, _ = tiny_rows(tiny_architecture(), ["train"] * 2)
    if column:
        columns[column] = np.zeros(6)
    weights = np.zeros((6, header.layer_table.width), np.float32)
    write_zoo_file(folder / TRAIN, header, columns, weights)
    index = ZooIndex.read(folder)
    shard = describe_shard(folder, TRAIN, "train", 2)
    replace_shards(folder, index, (shard, *index.shards[1:]))


def replace_shards(folder: Path, index: ZooIndex, shards: tuple[Shard, ...]) -> None:
    ZooIndex(name=index.name, shards=shards).write(folder)


def test_index_reads_back_what_was_written(tiny_zoo: Path, tmp_path: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    index.write(tmp_path)
    assert ZooIndex.read(tmp_path) == index
    assert [path.name for path in tmp_path.glob(f"{INDEX_NAME}*")] == [INDEX_NAME]


def test_index_describes_its_files(tiny_zoo: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    assert index.name == "tiny"
    assert [(shard.split, shard.models, shard.rows) for shard in index.shards] == [
        ("train", 2, 6),
        ("val", 1, 3),
        ("test", 1, 3),
    ]
    for shard in index.shards:
        raw = (tiny_zoo / shard.path).read_bytes()
        assert shard.size_bytes == len(raw)
        assert shard.sha256 == hashlib.sha256(raw).hexdigest()


def test_shard_names_follow_the_hub() -> None:
    assert shard_name("val", 2, 12) == "validation-00002-of-00012.h5"


def test_open_returns_the_files_of_a_split(sharded_zoo: Path) -> None:
    index = ZooIndex.read(sharded_zoo)
    assert [file.path.name for file in index.open(sharded_zoo, "train")] == [
        "train-00000-of-00002.h5",
        "train-00001-of-00002.h5",
    ]
    assert [file.rows for file in index.open(sharded_zoo)] == [6, 6, 3, 3]


def test_missing_index_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ZooNotFoundError, match=f"{tmp_path}.*zoo.json"):
        ZooIndex.read(tmp_path)


def test_missing_file_is_not_found(tiny_zoo: Path) -> None:
    (tiny_zoo / TRAIN).unlink()
    with pytest.raises(ZooNotFoundError, match=f"no zoo file at {tiny_zoo / TRAIN}"):
        ZooIndex.read(tiny_zoo).open(tiny_zoo)


def test_file_of_another_size_is_refused(tiny_zoo: Path) -> None:
    size = (tiny_zoo / TRAIN).stat().st_size
    os.truncate(tiny_zoo / TRAIN, size + 1)
    with pytest.raises(ZooFormatError, match=f"{TRAIN} has 6 rows in {size + 1} bytes, zoo.json"):
        ZooIndex.read(tiny_zoo).open(tiny_zoo)


def test_file_of_another_length_is_refused(tiny_zoo: Path) -> None:
    change(tiny_zoo, lambda data: data["shards"][0].update(rows=5))
    with pytest.raises(ZooFormatError, match=f"{TRAIN} has 6 rows in .* zoo.json lists 5 in"):
        ZooIndex.read(tiny_zoo).open(tiny_zoo)


def test_files_of_other_layer_tables_are_refused(tiny_zoo: Path) -> None:
    spec = tiny_architecture().to_json()
    spec["layers"][0]["out"] = 3
    other = Architecture.from_json(spec)
    replace_train_file(tiny_zoo, architecture=other, layer_table=other.layer_table())
    index = ZooIndex.read(tiny_zoo)
    assert len(index.open(tiny_zoo, "train")) == 1
    with pytest.raises(ZooFormatError, match=f"validation.*{TRAIN} differ in their layer table"):
        index.open(tiny_zoo)


def test_files_of_other_columns_are_refused(tiny_zoo: Path) -> None:
    replace_train_file(tiny_zoo, column="sharpness")
    with pytest.raises(ZooFormatError, match=f"{TRAIN} differ in the columns .*sharpness"):
        ZooIndex.read(tiny_zoo).open(tiny_zoo)


BAD_PATHS = ["/etc/passwd", "../train.h5", "a/../../x.h5", "..", "//host/x.h5"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_path_outside_the_folder_is_refused(tiny_zoo: Path, path: str) -> None:
    change(tiny_zoo, lambda data: data["shards"][0].update(path=path))
    with pytest.raises(ZooFormatError, match=f"names a file outside its folder: '{path}'"):
        ZooIndex.read(tiny_zoo)


BAD_FIELDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no version": lambda data: data.pop("format_version"),
    "no name": lambda data: data.pop("name"),
    "no shards": lambda data: data.pop("shards"),
    "empty shards": lambda data: data.update(shards=[]),
    "shards as a number": lambda data: data.update(shards=3),
    "shards as a table": lambda data: data.update(shards={}),
    "shard as nothing": lambda data: data.update(shards=[None]),
    "shard as a text": lambda data: data.update(shards=["train.h5"]),
    "missing field": lambda data: data["shards"][0].pop("sha256"),
    "extra field": lambda data: data["shards"][0].update(url="https://example.org"),
    "unknown split": lambda data: data["shards"][0].update(split="validation"),
    "split as a list": lambda data: data["shards"][0].update(split=["train"]),
    "path as a number": lambda data: data["shards"][0].update(path=3),
    "rows as a text": lambda data: data["shards"][0].update(rows="6"),
    "models as nothing": lambda data: data["shards"][0].update(models=None),
    "negative models": lambda data: data["shards"][0].update(models=-2),
    "no models": lambda data: data["shards"][0].update(models=0),
    "more models than rows": lambda data: data["shards"][0].update(models=7),
    "no rows": lambda data: data["shards"][0].update(rows=0, models=0),
    "more rows than bytes": lambda data: data["shards"][0].update(rows=10**12),
    "true as models": lambda data: data["shards"][0].update(models=True),
    "short checksum": lambda data: data["shards"][0].update(sha256="5f0c"),
    "checksum of no hex": lambda data: data["shards"][0].update(sha256="x" * 64),
    "number as name": lambda data: data.update(name=3),
    "empty name": lambda data: data.update(name=""),
    "name that leaves the folder": lambda data: data.update(name="../../tiny"),
    "name of a parent": lambda data: data.update(name=".."),
    "name with a backslash": lambda data: data.update(name="..\\tiny"),
    "name of two lines": lambda data: data.update(name="tiny\nzoo"),
    "long name": lambda data: data.update(name="x" * 256),
    "path with a zero byte": lambda data: data["shards"][0].update(path="a\0.h5"),
    "path with a backslash": lambda data: data["shards"][0].update(path="..\\a.h5"),
    "path of nothing": lambda data: data["shards"][0].update(path=""),
    "path of the folder": lambda data: data["shards"][0].update(path="."),
    "sha256 as a number": lambda data: data["shards"][0].update(sha256=1),
    "version as a number": lambda data: data.update(format_version=3),
    "other version": lambda data: data.update(format_version="2.0"),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_bad_field_is_refused(tiny_zoo: Path, case: str) -> None:
    change(tiny_zoo, BAD_FIELDS[case])
    with pytest.raises(ZooFormatError, match=str(tiny_zoo / INDEX_NAME)):
        ZooIndex.read(tiny_zoo)


DAMAGED = [b"", b"{", b"null", b"[]", b"3", b'"x"', b"\xff\xfe{}", b"[" * 200_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_json_is_refused(tiny_zoo: Path, content: bytes) -> None:
    (tiny_zoo / INDEX_NAME).write_bytes(content)
    with pytest.raises(ZooFormatError, match=f"{tiny_zoo / INDEX_NAME} is damaged"):
        ZooIndex.read(tiny_zoo)


@pytest.mark.parametrize("path", [TRAIN, f"./{TRAIN}", f"a/.//{TRAIN}"])
def test_file_listed_twice_is_refused(tiny_zoo: Path, path: str) -> None:
    """Its rows would count twice."""
    change(tiny_zoo, lambda data: data["shards"].append(data["shards"][0] | {"path": path}))
    with pytest.raises(ZooFormatError, match=r"zoo\.json"):
        ZooIndex.read(tiny_zoo)


def test_file_listed_under_two_names_is_refused(tiny_zoo: Path) -> None:
    shutil.copy(tiny_zoo / TRAIN, tiny_zoo / "more.h5")
    change(tiny_zoo, lambda data: data["shards"].append(data["shards"][0] | {"path": "more.h5"}))
    with pytest.raises(ZooFormatError, match=f"'more.h5' has the checksum of '{TRAIN}'"):
        ZooIndex.read(tiny_zoo)


def test_name_with_spaces_and_dots_is_read(tiny_zoo: Path) -> None:
    change(tiny_zoo, lambda data: data.update(name="My zoo (v1.2) größer"))
    assert ZooIndex.read(tiny_zoo).name == "My zoo (v1.2) größer"


@pytest.mark.parametrize("path", [["x" * 100_000], "x" * 100_000, "x/" * 500 + "x.h5"])
def test_error_about_a_long_field_is_short(tiny_zoo: Path, path: Any) -> None:
    change(tiny_zoo, lambda data: data["shards"][0].update(path=path))
    with pytest.raises(ZooFormatError) as error:
        ZooIndex.read(tiny_zoo)
    assert len(str(error.value)) < 1000
