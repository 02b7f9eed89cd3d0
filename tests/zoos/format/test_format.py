"""The zoo file: what is written is read back, and whatever is not a zoo is refused by name."""

import errno
import json
import os
import pickle
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pytest
import torch
from make_tiny_zoo import make_tiny_zoo, tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.format import (
    FORMAT_VERSION,
    WEIGHTS,
    ZooFile,
    checksum,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
    write_zoo_file,
)
from weightzoo.zoos.format.writing import ALIGNMENT_BYTES

TEXT, INT, DOUBLE, SINGLE = "text", "<i8", "<f8", "<f4"
GOLDEN_COLUMNS = {
    "model_id": INT,
    "epoch": INT,
    "split": TEXT,
    "seed": INT,
    "status": TEXT,
    "activation": TEXT,
    "init": TEXT,
    "init_std": DOUBLE,
    "bias_init": DOUBLE,
    "optimizer": TEXT,
    "lr": DOUBLE,
    "schedule": TEXT,
    "weight_decay": DOUBLE,
    "momentum": DOUBLE,
    "augmentation": TEXT,
    "dropout": DOUBLE,
    "batch_size": INT,
    "train_fraction": DOUBLE,
    "train_loss": SINGLE,
    "train_accuracy": SINGLE,
    "val_loss": SINGLE,
    "val_accuracy": SINGLE,
    "test_loss": SINGLE,
    "test_accuracy": SINGLE,
    "generalization_gap": SINGLE,
}
GOLDEN_ATTRIBUTES = {
    "format_version": "1.1",
    "architecture": dict,
    "layer_table": list,
    "hyper_parameters": list,
    "recipe": dict,
    "split": dict,
    "provenance": dict,
    "checksums": dict,
}
ROWS, WIDTH = 6, 71

Edit = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good zoo file of 2 models with 3 checkpoints."""
    path = tmp_path_factory.mktemp("good") / "zoo.h5"
    write(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, good: bytes) -> Path:
    """Where that file lies, for one test to spoil."""
    (tmp_path / "zoo.h5").write_bytes(good)
    return tmp_path / "zoo.h5"


def write(path: Path, **changes: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Write 2 models and return what was written; `changes` replace fields of the header."""
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train", "train"])
    write_zoo_file(path, replace(tiny_header(architecture), **changes), columns, weights)
    return columns, weights


def edit(path: Path, change: Edit) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def swap(name: str, data: Any = None, **options: Any) -> Edit:
    """An edit that stores a column anew, with other values or another layout."""

    def change(file: h5py.File) -> None:
        old = file[name][...]
        del file[name]
        file.create_dataset(name, data=old if data is None else data, **options)

    return change


def attribute(name: str, value: Any) -> Edit:
    return lambda file: file.attrs.modify(name, value)


def json_attribute(name: str, value: Any) -> Edit:
    return attribute(name, json.dumps(value))


# Written and read back


def test_file_reads_back_what_was_written(tmp_path: Path) -> None:
    columns, weights = write(tmp_path / "zoo.h5")
    file = open_zoo_file(tmp_path / "zoo.h5")
    read = file.read_columns()
    assert list(read) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(read[name], column)
        assert read[name].dtype == column.dtype
    np.testing.assert_array_equal(file.map_weights(), weights)


def test_header_reads_back_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "zoo.h5", provenance={"device": "cpu", "unicode": "Zürich"})
    header = open_zoo_file(str(tmp_path / "zoo.h5")).header
    assert replace(header, checksums={}) == replace(
        tiny_header(tiny_architecture()), provenance={"device": "cpu", "unicode": "Zürich"}
    )


def test_imported_zoo_needs_no_architecture(tmp_path: Path) -> None:
    write(tmp_path / "zoo.h5", architecture=None)
    file = open_zoo_file(tmp_path / "zoo.h5")
    assert file.header.architecture is None and file.width == WIDTH


def test_non_finite_and_unicode_values_survive(tmp_path: Path) -> None:
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"])
    columns["note"] = np.array(["", "größer", "a b"], dtype=object)
    columns["train_loss"][:] = [np.nan, np.inf, -np.inf]
    weights[1, 3] = np.nan
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(architecture), columns, weights)
    file = open_zoo_file(tmp_path / "zoo.h5")
    read = file.read_columns(["note", "train_loss"])
    assert list(read["note"]) == ["", "größer", "a b"]
    np.testing.assert_array_equal(read["train_loss"], columns["train_loss"])
    np.testing.assert_array_equal(file.map_weights(), weights)


def test_read_columns_refuses_unknown_names(path: Path) -> None:
    with pytest.raises(ZooFormatError, match=r"no column \['loss'\], its columns are \['model_id'"):
        open_zoo_file(path).read_columns(["epoch", "loss"])


def test_zoo_file_pickles(path: Path) -> None:
    file = open_zoo_file(path)
    again = pickle.loads(pickle.dumps(file))
    assert again == file
    np.testing.assert_array_equal(again.map_weights(), file.map_weights())


def test_finish_overwrites_columns_and_renews_checksums(path: Path) -> None:
    file = open_zoo_file(path)
    losses = np.arange(ROWS, dtype=np.float32)
    finish_zoo_file(path, file.header, {"train_loss": losses})
    again = open_zoo_file(path)
    np.testing.assert_array_equal(again.read_columns(["train_loss"])["train_loss"], losses)
    changed = dict(again.header.checksums.items() - file.header.checksums.items())
    assert changed == {"train_loss": checksum(losses)}


@pytest.mark.parametrize("column", [np.zeros(5, np.float32), np.zeros((6, 1), np.float32)])
def test_finish_refuses_columns_of_another_shape(path: Path, column: np.ndarray) -> None:
    with pytest.raises(ZooFormatError, match="holds no column 'train_loss' of shape"):
        finish_zoo_file(path, open_zoo_file(path).header, {"train_loss": column})


# Golden tree


def test_golden_columns(path: Path) -> None:
    with h5py.File(path) as file:
        assert list(file) == [*GOLDEN_COLUMNS, WEIGHTS]
        for name, kind in GOLDEN_COLUMNS.items():
            text = h5py.check_string_dtype(file[name].dtype)
            if kind == TEXT:
                assert (text.encoding, text.length) == ("utf-8", None), name
            else:
                assert file[name].dtype == np.dtype(kind), name
            assert file[name].shape == (ROWS,)


def test_golden_weights(path: Path) -> None:
    with h5py.File(path) as file:
        weights = file[WEIGHTS]
        creation = weights.id.get_create_plist()
        assert (weights.dtype, weights.shape) == (np.dtype("<f4"), (ROWS, WIDTH))
        assert creation.get_layout() == h5py.h5d.CONTIGUOUS
        assert creation.get_nfilters() == 0


def test_golden_attributes(path: Path) -> None:
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
    assert list(attributes) == list(GOLDEN_ATTRIBUTES)
    assert attributes.pop("format_version") == FORMAT_VERSION == GOLDEN_ATTRIBUTES["format_version"]
    for name, text in attributes.items():
        assert isinstance(json.loads(text), GOLDEN_ATTRIBUTES[name]), name


def test_weights_lie_aligned_after_the_scalar_columns(path: Path) -> None:
    with h5py.File(path) as file:
        offsets = [file[name].id.get_offset() for name in file]
    assert offsets == sorted(offsets)
    assert offsets[-1] == open_zoo_file(path).weights_offset
    assert offsets[-1] % ALIGNMENT_BYTES == 0


def test_rows_can_be_read_without_hdf5(path: Path) -> None:
    file = open_zoo_file(path)
    raw = path.read_bytes()[file.weights_offset :][: ROWS * WIDTH * 4]
    with h5py.File(path) as opened:
        assert opened[WEIGHTS][...].tobytes() == raw


# The document

DOCUMENT = Path(__file__).parents[3] / "docs" / "format.md"


def test_document_draws_the_golden_tree() -> None:
    tree = DOCUMENT.read_text().split("## Files of rankings")[0]  # files of another kind
    drawn = re.findall(r"^[├└]── (\w+) +(\w+) +\((N, D|N,)\)", tree, re.MULTILINE)
    words = {TEXT: "text", INT: "int64", DOUBLE: "float64", SINGLE: "float32"}
    columns = [(name, words[kind], "N,") for name, kind in GOLDEN_COLUMNS.items()]
    assert drawn == [*columns, (WEIGHTS, "float32", "N, D")]


def test_documented_snippets_read_the_same_rows(
    tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_zoo.rename(tiny_zoo.with_name("digits-cnn"))
    monkeypatch.chdir(tiny_zoo.parent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tiny_zoo.parent / "cache")
    file = open_zoo_file("digits-cnn/train-00000-of-00001.h5")
    names: dict[str, Any] = {"offset": file.weights_offset, "n": file.rows, "d": file.width}
    plain, stock, mapped = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for snippet in (plain, stock, mapped):
        exec(snippet, names)
    rows, best = file.map_weights(), file.read_columns()["test_accuracy"].argmax()
    np.testing.assert_array_equal(names["weights"], rows)
    np.testing.assert_array_equal(names["rows"], rows)
    expected = file.header.layer_table.split(torch.from_numpy(rows[best].copy()))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(names["tensors"][name], tensor)


# Checksums


def test_checksums_cover_every_column(path: Path) -> None:
    file = open_zoo_file(path)
    columns = file.read_columns() | {WEIGHTS: file.map_weights()}
    assert file.header.checksums == {name: checksum(column) for name, column in columns.items()}


def test_checksum_finds_a_flipped_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[open_zoo_file(path).weights_offset + 5] ^= 1
    path.write_bytes(raw)
    again = open_zoo_file(path)
    assert checksum(again.map_weights()) != again.header.checksums[WEIGHTS]


def test_checksum_is_as_documented() -> None:
    numbers, texts = np.array([1, 2], np.int32), np.array(["ä", ""], dtype=object)
    assert checksum(numbers) == (
        "sha256:34fb5c825de7ca4aea6e712f19d439c1da0c92c37b423936c5f618545ca4fa1f"
    )  # printf '\1\0\0\0\2\0\0\0' | sha256sum
    assert checksum(texts) == (
        "sha256:9e3629c4df88cc475fd62d7310fa7424651824fa565dfad7f86bc0cab4e7cd31"
    )  # printf '\xc3\xa4\0\0' | sha256sum


def test_checksum_ignores_memory_layout() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert checksum(values) == checksum(np.asfortranarray(values)) == checksum(values.astype(">f4"))
    assert checksum(values) == checksum(np.repeat(values, 2, axis=0)[::2])


# Writing that fails


def test_failed_write_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"])
    with pytest.raises(ZooFormatError, match="weights have shape"):
        write_zoo_file(tmp_path / "zoo.h5", tiny_header(architecture), columns, weights[:, :-1])
    assert not (tmp_path / "zoo.h5").exists()


def test_full_disk_leaves_the_existing_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left on device"):
        write(path)
    assert path.read_bytes() == before


def test_write_refuses_an_attribute_over_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightzoo.zoos.format.header.ATTRIBUTE_LIMIT_BYTES", 2000)
    with pytest.raises(ZooFormatError, match="'provenance' takes 30.* bytes, allowed are 2000"):
        write(tmp_path / "zoo.h5", provenance={"log": "x" * 3000})
    assert not (tmp_path / "zoo.h5").exists()


def test_create_refuses_unequal_or_no_rows(tmp_path: Path) -> None:
    header = tiny_header(tiny_architecture())
    with pytest.raises(ZooFormatError, match="zoo.h5: columns differ in length: {'a': 2, 'b': 3}"):
        create_zoo_file(tmp_path / "zoo.h5", header, {"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ZooFormatError, match="zoo.h5 has no rows"):
        create_zoo_file(tmp_path / "zoo.h5", header, {"a": np.zeros(0)})


def test_map_refuses_a_file_that_changed(path: Path) -> None:
    file = open_zoo_file(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(ZooFormatError, match="changed since it was opened: load the zoo again"):
        file.map_weights()


# Bad files: every one is refused, by name and fault


def refused(path: Path) -> str:
    """What the reader says about a bad file; it must name the file."""
    with pytest.raises(ZooFormatError) as error:
        open_zoo_file(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_open_refuses_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(ZooNotFoundError, match=f"no zoo file at {path}: build one"):
            open_zoo_file(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_open_refuses_what_is_not_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "zoo.h5").write_bytes(content)
    assert "is not an HDF5 file" in refused(tmp_path / "zoo.h5")


@pytest.mark.parametrize("cut", [1, 1000, ROWS * WIDTH * 4])
def test_open_refuses_a_truncated_file(path: Path, cut: int) -> None:
    os.truncate(path, path.stat().st_size - cut)
    assert "is truncated" in refused(path)


def external_storage(file: h5py.File) -> None:
    del file["seed"]
    file.create_dataset("seed", (ROWS,), "<i8", external=[("other.bin", 0, ROWS * 8)])


def virtual_dataset(file: h5py.File) -> None:
    del file["seed"]
    layout = h5py.VirtualLayout((ROWS,), "<i8")
    layout[:] = h5py.VirtualSource("other.h5", "seed", (ROWS,))
    file.create_virtual_dataset("seed", layout)


def link(kind: Any, *where: str) -> Edit:
    def change(file: h5py.File) -> None:
        del file["seed"]
        file["seed"] = kind(*where)

    return change


def compact_weights(file: h5py.File) -> None:
    rows = file[WEIGHTS][...]
    del file[WEIGHTS]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    file.create_dataset(WEIGHTS, data=rows, dcpl=creation)


def no_rows(file: h5py.File) -> None:
    for name in list(file):
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(name, (0, *shape[1:]), dtype)


def numbers_as_recipe(file: h5py.File) -> None:
    del file.attrs["recipe"]
    file.attrs["recipe"] = np.arange(3)


FORTY_FLOATS = np.zeros((ROWS, 40), np.float32)
BAD_FILES: dict[str, tuple[Edit, str]] = {
    "missing version": (lambda file: file.attrs.pop("format_version"), "no attribute 'format_ver"),
    "later major version": (attribute("format_version", "2.0"), "format version '2.0', this weig"),
    "missing attribute": (lambda file: file.attrs.pop("recipe"), "no readable JSON attribute 'rec"),
    "not JSON": (attribute("split", "{"), "no readable JSON attribute 'split'"),
    "deep JSON": (attribute("split", "[" * 50_000), "corrupt"),
    "JSON 400 lists deep": (attribute("split", '{"a": ' + "[" * 400 + "]" * 400 + "}"), "'split'"),
    "JSON over the limit": (json_attribute("recipe", {"log": "x" * 2_000_001}), "'recipe' takes 2"),
    "attribute of numbers": (numbers_as_recipe, "no readable JSON attribute 'rec"),
    "hyper-parameter twice": (json_attribute("hyper_parameters", ["lr", "lr"]), "'hyper_param"),
    "soft link": (link(h5py.SoftLink, "/epoch"), ":seed is a link, only data"),
    "external link": (link(h5py.ExternalLink, "x.h5", "seed"), ":seed is a link, only data"),
    "group": (lambda file: file.create_group("more"), ":more is a group, only root datasets"),
    "virtual dataset": (virtual_dataset, ":seed keeps its data in other files"),
    "external storage": (external_storage, ":seed keeps its data in other files"),
    "big-endian": (swap("seed", dtype=">i8"), ":seed has type >i8"),
    "fixed-length text": (swap("status", np.array([b"ok"] * ROWS)), r":status has type |S2"),
    "true and false": (swap("seed", np.zeros(ROWS, bool)), ":seed has type bool"),
    "scalar dataset": (swap("seed", 3), ":seed has shape (), expected one value per row"),
    "empty dataset": (swap("seed", h5py.Empty("<i8")), ":seed has shape None"),
    "table column": (swap("lr", np.zeros((ROWS, 2))), ":lr has shape (6, 2), expected one value"),
    "unequal lengths": (swap("lr", np.zeros(ROWS - 1)), "columns differ in length"),
    "missing column": (lambda file: file.pop("model_id"), "lacks the columns ['model_id']"),
    "missing factor": (lambda file: file.pop("lr"), "lacks the columns ['lr']"),
    "missing weights": (lambda file: file.pop(WEIGHTS), "lacks the columns ['weights']"),
    "text as number": (swap("split", np.zeros(ROWS)), ":split must hold str values"),
    "fractions as ids": (swap("model_id", dtype="<f8"), ":model_id must hold int values"),
    "no rows": (no_rows, "has no rows"),
    "wrong width": (swap(WEIGHTS, FORTY_FLOATS), "shape (6, 40), expected (6, 71) from attribute"),
    "chunked weights": (swap(WEIGHTS, chunks=(2, WIDTH)), "must be contiguous float32, got"),
    "packed weights": (swap(WEIGHTS, compression="gzip"), "must be contiguous float32, got"),
    "compact weights": (compact_weights, "must be contiguous float32, got"),
    "float64 weights": (swap(WEIGHTS, dtype="<f8"), "must be contiguous float32, got"),
    "list as recipe": (json_attribute("recipe", [1]), "'recipe'"),
    "null as checksums": (json_attribute("checksums", None), "'checksums'"),
    "number as checksum": (json_attribute("checksums", {"epoch": 1}), "'checksums'"),
    "text as list": (json_attribute("hyper_parameters", ""), "'hyper_parameters'"),
    "null as a name": (json_attribute("hyper_parameters", [None]), "'hyper_parameters'"),
    "dot as a name": (json_attribute("hyper_parameters", ["."]), "lacks the columns ['.']"),
    "surrogate as a name": (json_attribute("hyper_parameters", ["\ud800"]), "lacks the columns"),
    "layer table": (json_attribute("layer_table", {}), "layer table must be a list"),
    "architecture": (json_attribute("architecture", {"name": "x"}), "must have the keys"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_open_refuses(path: Path, case: str) -> None:
    change, message = BAD_FILES[case]
    edit(path, change)
    assert message in refused(path)


def test_an_error_about_a_large_attribute_is_short(path: Path) -> None:
    edit(path, json_attribute("architecture", {"name": "x" * 50_000}))
    assert len(refused(path)) < 2000


def test_open_refuses_an_architecture_that_does_not_fit(path: Path) -> None:
    spec = tiny_architecture().to_json()
    spec["layers"][0]["kernel"] = 9
    edit(path, json_attribute("architecture", spec))
    assert "leaves nothing of an input of (1, 8, 8)" in refused(path)


@pytest.mark.parametrize("out", [3, 2**31 - 1, 2**31, 10**40])
def test_open_refuses_an_architecture_of_other_tensors(path: Path, out: int) -> None:
    spec = tiny_architecture().to_json()
    spec["layers"][0]["out"] = out
    edit(path, json_attribute("architecture", spec))
    refused(path)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.7", "1.12.3"])
def test_open_takes_every_minor_version(path: Path, version: str) -> None:
    edit(path, attribute("format_version", version))
    assert open_zoo_file(path).rows == ROWS


def test_open_takes_extra_columns(path: Path) -> None:
    edit(path, lambda file: file.create_dataset("sharpness", data=np.zeros(ROWS)))
    assert "sharpness" in open_zoo_file(path).columns


def test_columns_of_broken_text_are_refused(path: Path) -> None:
    raw = path.read_bytes()
    assert raw.count(b"kaiming_normal")
    path.write_bytes(raw.replace(b"kaiming_normal", b"kaiming_\xff\xfermal"))
    with pytest.raises(ZooFormatError, match="corrupt"):
        open_zoo_file(path).read_columns(["init"])


def outside_text_heaps(raw: bytes) -> list[int]:
    """Places in a file that lie in none of HDF5's heaps of variable-length text."""
    places = np.ones(len(raw), dtype=bool)
    for heap in re.finditer(b"GCOL", raw):
        size = int.from_bytes(raw[heap.start() + 8 : heap.start() + 16], "little")
        places[heap.start() : heap.start() + size] = False
    return np.flatnonzero(places).tolist()


def damage(raw: bytes, rng: random.Random) -> bytes:
    """Cut a file short, or overwrite some of its bytes.

    Spares the text heaps: HDF5 itself (2.0.0 at least) never returns from some broken ones.
    """
    if rng.random() < 0.25:
        return raw[: rng.randrange(len(raw))]
    data = bytearray(raw)
    for place in rng.choices(outside_text_heaps(raw), k=rng.choice([1, 2, 8, 64])):
        data[place] = rng.randrange(256)
    return bytes(data)


def test_damaged_files_are_refused_or_read(path: Path) -> None:
    """Whatever the damage, the only error is ours."""
    raw, outcomes = path.read_bytes(), {ZooFile: 0, ZooFormatError: 0}
    for seed in range(120):
        path.write_bytes(damage(raw, random.Random(seed)))
        try:
            file = open_zoo_file(path)
            file.read_columns()
            outcomes[ZooFile] += 1
        except ZooFormatError as error:
            assert str(path) in str(error)
            outcomes[ZooFormatError] += 1
    assert min(outcomes.values()) > 5


def test_full_disk_within_hdf5_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 reports it as a RuntimeError when it happens while a file is flushed."""

    def full(*arguments: object) -> None:
        raise RuntimeError("Unable to flush (file write failed: errno = 28, error message = ...)")

    monkeypatch.setattr("weightzoo.zoos.format.writing._create_dataset", full)
    with pytest.raises(OSError, match="No space left") as caught:
        make_tiny_zoo(tmp_path / "zoo")
    assert caught.value.errno == 28
