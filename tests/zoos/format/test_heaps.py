"""Damaged text heaps are refused before HDF5, which may loop for ever over one, reads them."""

from pathlib import Path

import numpy as np
import pytest
from make_tiny_zoo import make_tiny_zoo, tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.format import heaps, open_zoo_file, write_zoo_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_tiny_zoo(tmp_path / "tiny") / "train-00000-of-00001.h5"


def free_rest(data: bytes) -> int:
    """Where the free rest of the first collection starts."""
    place = data.index(b"GCOL") + 16
    while data[place]:
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    return place


@pytest.mark.parametrize("size", [0, 8, 2**63, 2**64 - 16])
def test_a_damaged_size_is_refused(file: Path, size: int) -> None:
    """Of a free rest of size 0 HDF5 2.0 never comes to the end."""
    data = bytearray(file.read_bytes())
    place = free_rest(data)
    data[place + 8 : place + 16] = size.to_bytes(8, "little")
    file.write_bytes(data)
    with pytest.raises(ZooFormatError, match="corrupt in its text: copy or build it again"):
        open_zoo_file(file)


@pytest.mark.parametrize("size", [0, 17, 2**40])
def test_a_collection_of_wrong_size_is_refused(file: Path, size: int) -> None:
    data = bytearray(file.read_bytes())
    start = data.index(b"GCOL")
    data[start + 8 : start + 16] = size.to_bytes(8, "little")
    file.write_bytes(data)
    with pytest.raises(ZooFormatError, match="corrupt"):
        open_zoo_file(file)


@pytest.mark.parametrize("beyond", [1, 2**40])
def test_spans_may_end_behind_the_file(file: Path, beyond: int) -> None:
    """Weights may claim to lie anywhere: looking for text before them must come to an end."""
    heaps.check_text_heaps(file, [(0, file.stat().st_size + beyond)])


@pytest.mark.parametrize("block_bytes", [20, 1000, 5000, 2**24])
def test_sound_heaps_pass_however_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(heaps, "BLOCK_BYTES", block_bytes)
    columns, weights = tiny_rows(tiny_architecture(), ["train"] * 200)
    columns["note"] = np.array(["GCOL\x01", "x" * 9000, "", "ä"] * 150, dtype=object)
    path = tmp_path / "zoo.h5"
    write_zoo_file(path, tiny_header(tiny_architecture()), columns, weights)
    assert open_zoo_file(path).read_columns()["note"].tolist() == columns["note"].tolist()
