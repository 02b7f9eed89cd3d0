"""What a file stores is what its header claims: float type, sizes, lengths of text."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import WEIGHTS, open_zoo_file, write_zoo_file
from weightzoo.zoos.format.storage import FREE_BYTES, holds_data

ROWS = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file of six rows."""
    columns, weights = tiny_rows(tiny_architecture(), ["train"] * 2)
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(tiny_architecture()), columns, weights)
    return tmp_path / "zoo.h5"


def float_type(size: int, exponent: int, mantissa: int, bias: int) -> h5py.h5t.TypeFloatID:
    """A float that h5py shows as a numpy float of at least its size."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    if size < 4:
        kind.set_fields(exponent + mantissa, mantissa, exponent, 0, mantissa)
        kind.set_size(size)
    kind.set_ebias(bias)
    return kind


def store(path: Path, name: str, values: np.ndarray, kind: h5py.h5t.TypeID) -> None:
    """Replace a column, stored as a type of HDF5."""
    with h5py.File(path, "r+") as file:
        del file[name]
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(file.id, name.encode(), kind, space)
        file[name][...] = values


@pytest.mark.parametrize("kind", [(2, 8, 7, 127), (4, 8, 23, 100)], ids=["bfloat16", "bias 100"])
def test_weights_of_another_float_type_are_refused(path: Path, kind: tuple[int, ...]) -> None:
    """Of both h5py says float32 or float64, and would convert what a map shows as it lies."""
    weights = np.array(open_zoo_file(path).map_weights())
    store(path, WEIGHTS, weights, float_type(*kind))
    with pytest.raises(ZooFormatError, match="must be contiguous float32"):
        open_zoo_file(path)


def test_scalar_columns_of_another_float_type_are_converted(path: Path) -> None:
    """Columns are read by HDF5, which knows the type: halves and quarters are exact in bfloat16."""
    store(path, "lr", np.arange(ROWS) / 4, float_type(2, 8, 7, 127))
    read = open_zoo_file(path).read_columns(["lr"])["lr"]
    assert read.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]


def make_sparse(path: Path, rows: int, **options: object) -> None:
    """A file that claims many rows and stores almost none of them."""
    with h5py.File(path, "r+") as file:
        table = '[{"name": "w", "kind": "linear", "role": "weight", "shape": [1], "offset": 0'
        file.attrs["layer_table"] = table + ', "layer": "", "depth": 0, "dtype": "float32"}]'
        file.attrs["architecture"] = "null"
        kinds = {name: file[name].dtype for name in file}
        for name in kinds:
            del file[name]
        for name, kind in kinds.items():
            if name != WEIGHTS:
                file.create_dataset(name, (rows,), kind, **options)  # type: ignore[call-overload]
        file.create_dataset(WEIGHTS, (rows, 1), "<f4")
        file[WEIGHTS][-1] = 1.0
        file.flush()


def test_columns_of_a_sparse_file_are_refused_before_they_are_read(path: Path) -> None:
    make_sparse(path, 40_000_000, chunks=(2**20,))
    assert path.stat().st_blocks * 512 < 2**20 < path.stat().st_size
    with pytest.raises(ZooFormatError, match=r"zoo\.h5 claims .* bytes of columns"):
        open_zoo_file(path)


def test_a_hole_where_text_may_lie_is_refused_before_it_is_searched(path: Path) -> None:
    os.truncate(path, 2**42)
    with pytest.raises(ZooFormatError, match="sparse"):
        open_zoo_file(path)


def text_references(path: Path, name: str) -> int:
    """Where the references of a text column start."""
    with h5py.File(path) as file:
        return int(file[name].id.get_offset())


def test_a_damaged_length_of_text_is_refused_before_it_is_read(path: Path) -> None:
    """HDF5 would make room for 2 GB, and take 20 seconds, before it finds the damage."""
    with path.open("r+b") as file:
        file.seek(text_references(path, "status") + 16)
        file.write((2**31 + 5).to_bytes(4, "little"))
    with pytest.raises(ZooFormatError, match=r"zoo\.h5: text .* longer than the file"):
        open_zoo_file(path)


@pytest.mark.parametrize("options", [{}, {"chunks": (2,)}], ids=["contiguous", "chunked"])
def test_many_references_to_one_long_text_are_refused(
    path: Path, options: dict[str, object]
) -> None:
    with h5py.File(path, "r+") as file:
        kind, texts = h5py.string_dtype(), np.array(["x" * 90_000] + [""] * 5, object)
        note = file.create_dataset("note", data=texts, dtype=kind, **options)
        places = [note.id.get_offset()] if not options else []
        if options:
            note.id.chunk_iter(lambda chunk: places.append(chunk.byte_offset))
    with path.open("r+b") as file:
        file.seek(places[0])
        one = file.read(16)
        for place in places:
            file.seek(place)
            file.write(one * (2 if options else ROWS))
    with pytest.raises(ZooFormatError, match=r"zoo\.h5: text .* longer than the file"):
        open_zoo_file(path)


def test_packed_text_is_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        texts, kind = np.array(["a"] * ROWS, object), h5py.string_dtype()
        file.create_dataset("note", data=texts, dtype=kind, compression="gzip")
    with pytest.raises(ZooFormatError, match=":note is packed text"):
        open_zoo_file(path)


@pytest.mark.parametrize("options", [{"chunks": (4,)}, {"maxshape": (None,)}, {}])
def test_honest_text_of_any_layout_is_read(path: Path, options: dict[str, object]) -> None:
    texts = ["", "größer", "x" * 5000, "a", "", "b"]
    with h5py.File(path, "r+") as file:
        file.create_dataset(
            "note", data=np.array(texts, object), dtype=h5py.string_dtype(), **options
        )
    assert open_zoo_file(path).read_columns(["note"])["note"].tolist() == texts


def test_packed_columns_of_numbers_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("sharpness", data=np.ones(ROWS), compression="gzip")
    assert open_zoo_file(path).read_columns(["sharpness"])["sharpness"].tolist() == [1] * ROWS


def test_holes_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10_000))
    assert holds_data(tmp_path / "file", 10_000)
    os.truncate(tmp_path / "file", 2**34)
    assert holds_data(tmp_path / "file", 8_192)
    assert not holds_data(tmp_path / "file", FREE_BYTES)
