import dataclasses
import io
import json
import pickle
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from weightzoo.builders.checkpoints import torch_files as import_torch_files
from weightzoo.builders.checkpoints.opening import (
    find_state_dict,
    natural_order,
    open_checkpoint,
)
from weightzoo.builders.checkpoints.tensors import Checkpoint
from weightzoo.builders.checkpoints.unpickling import RefusedPickleError, UnreadableFileError


def state_dict() -> dict[str, Tensor]:
    """Tensors of many types, views and a scalar."""
    torch.manual_seed(0)
    base = torch.randn(4, 3)
    return {
        "plain": torch.randn(5),
        "transposed": base.T,
        "part": base[1:, :2],
        "half": torch.randn(3).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def opened(data: bytes, name: str = "model.pt") -> Checkpoint:
    return open_checkpoint(io.BytesIO(data), name)


def safetensors_file(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """The format by hand: length of the header, header, bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        spans = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": spans}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        saved(state_dict()),
        saved(state_dict(), _use_new_zipfile_serialization=False),
        pickle.dumps(state_dict(), 2),
        pickle.dumps(state_dict()),
        saved({"epoch": 3, "state_dict": state_dict()}),
        saved({"module." + name: value for name, value in state_dict().items()}),
    ],
    ids=["zip", "before 1.6", "pickle 2", "pickle 4", "wrapped", "parallel"],
)
def test_checkpoint_equals_torch_load(data: bytes) -> None:
    checkpoint = opened(data)
    found = find_state_dict(checkpoint.root)
    assert list(found) == list(state_dict())
    for name, wanted in state_dict().items():
        values = checkpoint.read(found[name])
        assert values.shape == tuple(wanted.shape)
        np.testing.assert_array_equal(values, wanted.detach().to(torch.float64).numpy())


def test_safetensors_is_read_in_natural_order() -> None:
    pytest.importorskip("safetensors")
    from safetensors.torch import save

    layers = {f"layer{n}.weight": torch.full((2,), float(n)) for n in (10, 2, 1)}
    half = {"bfloat": torch.randn(3).bfloat16()}
    checkpoint = opened(save(layers | half), "model.safetensors")
    assert list(checkpoint.root) == ["bfloat", "layer1.weight", "layer2.weight", "layer10.weight"]
    np.testing.assert_array_equal(checkpoint.read(checkpoint.root["layer10.weight"]), [10, 10])
    values = checkpoint.read(checkpoint.root["bfloat"])
    np.testing.assert_array_equal(values, half["bfloat"].float().numpy())


def test_safetensors_by_hand_equals_the_library() -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    data = safetensors_file({"w": ("F32", [2, 3], values.tobytes())})
    checkpoint = opened(data, "model.safetensors")
    np.testing.assert_array_equal(checkpoint.read(checkpoint.root["w"]), values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**60),
        safetensors_file({"w": ("F32", [2], b"1234")}),
        safetensors_file({"w": ("F31", [1], b"1234")}),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"w": {}}',
    ],
)
def test_damaged_safetensors_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableFileError):
        opened(data, "model.safetensors")


def test_truncated_safetensors_is_unreadable() -> None:
    data = safetensors_file({"w": ("F32", [2], b"12345678")})[:-1]
    with pytest.raises(UnreadableFileError, match="describes 111: it is truncated"):
        opened(data, "model.safetensors")


def test_safetensors_of_a_type_without_arrays_is_unreadable() -> None:
    data = safetensors_file({"w": ("F8_E4M3", [4], b"1234")})
    with pytest.raises(UnreadableFileError, match=r"holds tensors of type \['float8_e4m3fn'\]"):
        opened(data, "model.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoint_is_unreadable_at_any_length(zipped: bool) -> None:
    data = saved({"w": torch.randn(50)}, _use_new_zipfile_serialization=zipped)
    for length in range(0, len(data), 37):
        with pytest.raises(UnreadableFileError):
            checkpoint = opened(data[:length])
            checkpoint.read(find_state_dict(checkpoint.root)["w"])


def test_flipped_bit_is_found() -> None:
    data = bytearray(saved({"w": torch.full((64,), 1.5)}))
    data[data.index(torch.full((64,), 1.5).numpy().tobytes()) + 17] ^= 1
    checkpoint = opened(bytes(data))
    with pytest.raises(UnreadableFileError, match="checksum"):
        checkpoint.read(find_state_dict(checkpoint.root)["w"])


class Hostile:
    """Runs a command when unpickled by anything careless."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("false",)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_checkpoint_is_refused_by_name(zipped: bool) -> None:
    data = saved({"w": torch.ones(1), "x": Hostile()}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedPickleError, match=r"names '(posix|nt)\.system'"):
        opened(data)


def test_whole_module_is_refused_by_name() -> None:
    with pytest.raises(RefusedPickleError, match=r"torch\.nn\.modules\.linear\.Linear"):
        opened(saved(torch.nn.Linear(2, 2)))


def test_same_pickle_is_shared_but_storages_are_not() -> None:
    first, second = opened(saved({"w": torch.zeros(3)})), opened(saved({"w": torch.ones(3)}))
    assert first.root is second.root
    np.testing.assert_array_equal(first.read(first.root["w"]), [0, 0, 0])
    np.testing.assert_array_equal(second.read(second.root["w"]), [1, 1, 1])


def test_directory_of_many_records_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    few = opened(saved(state_dict()))
    monkeypatch.setattr(import_torch_files, "_MANY_RECORDS", 1)
    many = opened(saved(state_dict()))
    for name, leaf in find_state_dict(few.root).items():
        np.testing.assert_array_equal(few.read(leaf), many.read(many.root[name]))
    missing = dataclasses.replace(many.root["plain"], storage="77")
    with pytest.raises(UnreadableFileError, match="data/77' is missing"):
        many.read(missing)


def edited(data: bytes, old: bytes, new: bytes) -> bytes:
    """A torch file whose pickle was changed, with right checksums."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            packed.writestr(info.filename, content)
    return target.getvalue()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"K\x07\x85", b"K\x63\x85"), (b"K\x01\x85", b"K\x09\x85"), (b"K\x07\x85", b"N\x85")],
    ids=["longer", "strides", "no number"],
)
def test_tensor_outside_its_storage_is_unreadable(old: bytes, new: bytes) -> None:
    """A stride or shape of a forged file must not read other memory."""
    data = edited(saved({"w": torch.ones(7)}), old, new)
    with pytest.raises(UnreadableFileError):
        checkpoint = opened(data)
        checkpoint.read(find_state_dict(checkpoint.root)["w"])


def test_compressed_record_is_unreadable() -> None:
    source, target = zipfile.ZipFile(io.BytesIO(saved({"w": torch.ones(7)}))), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in source.infolist():
            packed.writestr(info.filename, source.read(info))
    with pytest.raises(UnreadableFileError, match="compressed"):
        opened(target.getvalue())


@pytest.mark.parametrize("root", [{}, {"epoch": 1}, [torch.ones(1)], 3, {"state_dict": {"a": 1}}])
def test_no_state_dict_is_said(root: Any) -> None:
    with pytest.raises(UnreadableFileError, match="holds no state dict"):
        find_state_dict(opened(saved(root)).root)


def test_other_zip_is_no_checkpoint() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.txt", "text")
    with pytest.raises(UnreadableFileError, match="not of torch"):
        opened(file.getvalue())


def test_natural_order_counts_numbers() -> None:
    names = ["b.10.w", "b.9.w", "a", "10", "9"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "b.9.w", "b.10.w"]


def test_digits_of_other_scripts_are_no_numbers() -> None:
    assert sorted(["a²", "a1", "a" + "9" * 4000], key=natural_order)[0] == "a1"
