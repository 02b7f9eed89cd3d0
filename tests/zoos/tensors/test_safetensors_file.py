"""Safetensors files: equal to what the format's own library reads and writes; hostile headers."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.tensors.lazy import TensorType
from weightzoo.zoos.tensors.safetensors_file import (
    SafetensorsFile,
    SafetensorsWriter,
    write_safetensors,
)

ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "half": torch.randn(3, 5).bfloat16(),
        "counter": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "wide": torch.randn(4, 2, 3, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "weights": torch.randn(6),
    }


def raw_file(path: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_file_of_the_own_library_is_read_equal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(tensors(), path, {"format": "pt"})
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "pt"}
    for name, value in tensors().items():
        assert torch.equal(file.read(name), value) and torch.equal(file.mapped(name), value)
        assert file.read(name).dtype == file.mapped(name).dtype == value.dtype


def test_written_file_is_read_equal_by_the_own_library(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors(), {"made": "here"})
    found = safetensors.torch.load_file(path)
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], value) for name, value in tensors().items())
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_block_reads_part_of_a_tensor_into_a_buffer(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors())
    buffer = torch.zeros(10, dtype=torch.bfloat16)
    part = SafetensorsFile(path).block("half", 4, 9, buffer)
    assert torch.equal(part, tensors()["half"].flatten()[4:9])
    assert part.data_ptr() == buffer.data_ptr() and buffer[5:].abs().sum() == 0


def test_write_to_a_mapped_tensor_does_not_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors())
    SafetensorsFile(path).mapped("weights").zero_()
    assert torch.equal(SafetensorsFile(path).read("weights"), tensors()["weights"])


def test_writer_goes_on_with_a_file_of_the_same_header(tmp_path: Path) -> None:
    path, kinds = tmp_path / "a", {"x": TensorType("float16", (4,)), "y": TensorType("int8", (3,))}
    writer = SafetensorsWriter(path, kinds, {})
    writer.write("x", 2, torch.tensor([3.0, 4.0]))
    writer.close()
    again = SafetensorsWriter(path, kinds, {})
    again.write("x", 0, torch.tensor([1.0, 2.0]))
    again.close()
    assert SafetensorsFile(path).read("x").tolist() == [1, 2, 3, 4]
    SafetensorsWriter(path, {"z": TensorType("float16", (4,))}, {}).close()
    assert SafetensorsFile(path).read("z").tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": ROW}, bytes(7), "truncated or damaged"),
        ({"a": ROW}, bytes(9), "truncated or damaged"),
        ({"a": ROW, "b": ROW}, bytes(8), "'b' starts at byte"),
        ({"a": ROW | {"data_offsets": [8, 16]}}, bytes(16), "'a' starts at byte"),
        ({"a": ROW | {"shape": [3]}}, bytes(8), "but 8 bytes"),
        ({"a": ROW | {"shape": [-2]}}, bytes(8), "whole numbers below"),
        ({"a": ROW | {"shape": [True, 2]}}, bytes(8), "whole numbers below"),
        ({"a": ROW | {"shape": [10**30, 10**30]}}, bytes(8), "whole numbers below"),
        ({"a": ROW | {"shape": [1] * 65}}, bytes(8), "has 65 dimensions"),
        ({"a": ROW | {"dtype": "F99"}}, bytes(8), "has type 'F99'"),
        ({"a": ROW | {"dtype": ["F32"]}}, bytes(8), "unhashable"),
        ({"a": ROW | {"more": 1}}, bytes(8), "has the fields"),
        ({"a": [1, 2]}, bytes(8), "damaged safetensors header"),
        ([1, 2], bytes(8), "damaged safetensors header"),
        ({"__metadata__": {"a": 1}, "a": ROW}, bytes(8), "must hold texts"),
        (b'{"a": {}, "a": {}}', bytes(8), "occurs twice"),
        (b"[" * 100_000, bytes(8), "damaged safetensors header"),
        (b'{"a": "\xff"}', bytes(8), "damaged safetensors header"),
    ],
)
def test_hostile_header_is_refused(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    path = raw_file(tmp_path / "a.safetensors", header, data)
    with pytest.raises(ZooFormatError, match=message) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)


def test_message_about_a_hostile_name_stays_short(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.safetensors", {"x" * 10**6: ROW | {"dtype": "y" * 10**6}})
    with pytest.raises(ZooFormatError) as caught:
        SafetensorsFile(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("start", [b"", b"1234567", b"\xff" * 8, bytes(8), b"\x00\xe1\xf5\x05" * 2])
def test_file_with_an_impossible_header_length_is_refused(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a").write_bytes(start)
    with pytest.raises(ZooFormatError, match="no safetensors file"):
        SafetensorsFile(tmp_path / "a")


def test_file_cut_while_open_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors())
    file = SafetensorsFile(path)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        file.mapped("flags")
    with pytest.raises(ZooFormatError, match="too soon"):
        for name in file.tensors:
            file.read(name)
