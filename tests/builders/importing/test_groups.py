"""One bad file among good ones is one line in the report, whatever is wrong with it."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo
from weightzoo.zoos.index import ZooIndex


class Storage:
    """Stands for seven stored values."""


class Forged:
    """A tensor with any shape and stride over seven values."""

    def __init__(self, shape: Any, stride: Any) -> None:
        self.shape, self.stride = shape, stride

    def __reduce__(self) -> Any:
        rest = (0, self.shape, self.stride, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, (Storage(), *rest)


class Changed(Forged):
    """A tensor that its pickle changes after it was made."""

    def __reduce__(self) -> Any:
        return *super().__reduce__(), (None, {"start": -4})


class Hidden:
    """A state dict whose attributes have the names of its methods."""

    def __reduce__(self) -> Any:
        attributes = dict.fromkeys(("items", "keys", "get"), 3)
        tensors = {"weight": Forged((2, 3), (3, 1)), "bias": Forged((2,), (1,))}
        return OrderedDict, (), attributes, None, iter(tensors.items())


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            return "storage", torch.FloatStorage, "0", "cpu", 7
        return None


def torch_file(state: Any) -> bytes:
    """What torch.save writes, of tensors that torch would not make."""
    data, file = io.BytesIO(), io.BytesIO()
    Pickler(data, 2).dump(state)
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", data.getvalue())
        packed.writestr("archive/data/0", bytes(28))
    return file.getvalue()


def safetensors_file(header: str, more: int = 0) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + bytes(28 + more)


def safetensor(shape: Any, offsets: Any) -> bytes:
    row = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    return safetensors_file(json.dumps({"w": row}))


def two_tensors(first: list[int], second: list[int], more: int = 0) -> bytes:
    row = {"dtype": "F32", "shape": [7]}
    header = {"a": row | {"data_offsets": first}, "b": row | {"data_offsets": second}}
    return safetensors_file(json.dumps(header), more)


BAD: dict[str, Callable[[], bytes]] = {
    "70-dimensions.pt": lambda: torch_file({"w": Forged((1,) * 70, (1,) * 70)}),
    "stride-beyond.pt": lambda: torch_file({"w": Forged((2,), (2**70,))}),
    "stride-of-one.pt": lambda: torch_file({"w": Forged((1,), (2**70,))}),
    "huge-shape.pt": lambda: torch_file({"w": Forged((2**200,), (1,))}),
    "repeated.pt": lambda: torch_file({"w": Forged((2**29,), (0,))}),
    "repeated-more.pt": lambda: torch_file({"w": Forged((2**200,), (0,))}),
    "negative.pt": lambda: torch_file({"w": Forged((-1, -7), (7, 1))}),
    "empty-tensors.pt": lambda: torch_file({"w": Forged((0, 3), (3, 1))}),
    "one-name-twice.pt": lambda: torch_file({1: Forged((7,), (1,)), "1": Forged((7,), (1,))}),
    "digits.pt": lambda: torch_file({"9" * 5000: Forged((7,), (1,)), "a": 1}),
    "changed.pt": lambda: torch_file({"w": Changed((7,), (1,))}),
    "deep.pt": lambda: b"\x80\x02" + b"(" * 3 + b"]" + b"\x85" * 100_000 + b".",
    "float-offsets.safetensors": lambda: safetensor([7], [0.0, 28.0]),
    "float-shape.safetensors": lambda: safetensor([7.5], [0, 28]),
    "one-range-twice.safetensors": lambda: two_tensors([0, 28], [0, 28]),
    "overlap.safetensors": lambda: two_tensors([0, 28], [14, 42], more=14),
    "gap.safetensors": lambda: two_tensors([0, 28], [30, 58], more=30),
    "beyond.safetensors": lambda: two_tensors([0, 28], [28, 56]),
    "more.safetensors": lambda: two_tensors([0, 28], [28, 56], more=29),
    "deep.safetensors": lambda: safetensors_file("[" * 100_000),
    "huge.safetensors": lambda: safetensor([2**200], [0, 2**202]),
    "digits.safetensors": lambda: safetensors_file('{"w": ' + "9" * 10_000 + "}"),
}


def good_nets(folder: Path, count: int = 2) -> None:
    folder.mkdir()
    for seed in range(count):
        torch.manual_seed(seed)
        torch.save(torch.nn.Linear(3, 2).state_dict(), folder / f"good{seed}.pt")


@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_is_one_line_in_the_report(name: str, tmp_path: Path) -> None:
    good_nets(tmp_path / "nets")
    (tmp_path / "nets" / name).write_bytes(BAD[name]())
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    assert [zoo.models for zoo in report.zoos] == [2]
    (refused,) = report.refused
    assert refused.model == name.rpartition(".")[0] and len(refused.reason) <= 500


def test_dictionary_cannot_hide_its_methods(tmp_path: Path) -> None:
    """The pickle of an OrderedDict may set attributes, and one may be named `items`."""
    good_nets(tmp_path / "nets")
    (tmp_path / "nets" / "hidden.pt").write_bytes(torch_file(Hidden()))
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    assert (report.models, report.refused) == (3, ())


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        ("name,lr\ngood0,1,\ngood1,2\n", []),
        ("name,lr\ngood0,1\ngood1,a,2\n", ["good1.pt", "table.csv, line 3"]),
        (f"name,epoch\ngood0,1\ngood1,{10**30}\n", ["good1"]),
        (f"name,test_acc\ngood0,1\ngood1,{10**400}\n", ["good1"]),
        (f"name,seed\ngood0,1\ngood1,{2**70}\n", []),
        (f"name,share\ngood0,\ngood1,{2**60 + 1}\n", []),
    ],
    ids=["comma", "cell", "epoch", "metric", "seed", "number"],
)
def test_one_bad_line_costs_one_model(table: str, refused: list[str], tmp_path: Path) -> None:
    good_nets(tmp_path / "nets")
    (tmp_path / "nets" / "table.csv").write_text(table)
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    assert sorted(remark.model for remark in report.refused) == refused
    assert report.models == (1 if refused else 2)


def test_deep_json_is_one_line_in_the_report(tmp_path: Path) -> None:
    from make_published_zoos import trial_name, write_tune_zoo

    write_tune_zoo(tmp_path / "zoo", models=3, epochs=(0,))
    deep = "[" * 100_000
    (tmp_path / "zoo" / trial_name(0, 1) / "params.json").write_text(deep)
    (tmp_path / "zoo" / trial_name(1, 2) / "result.json").write_text(deep)
    report = import_zoo("modelzoos-raw", tmp_path / "zoo", tmp_path / "out", progress=False)
    assert report.models == 2 and len(report.refused) == 1
    assert {r.reason for r in report.remarks} >= {"a line of result.json is damaged"}


def test_numbers_beyond_float64_keep_their_digits(tmp_path: Path) -> None:
    good_nets(tmp_path / "nets")
    (tmp_path / "nets" / "table.csv").write_text(f"name,share\ngood0,\ngood1,{2**60 + 1}\n")
    import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    files = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    found = [value for file in files for value in file.read_columns(["share"])["share"]]
    assert sorted(found) == ["", str(2**60 + 1)]


def test_rounding_of_float64_is_said(tmp_path: Path) -> None:
    good_nets(tmp_path / "nets")
    torch.save(torch.nn.Linear(3, 2).double().state_dict(), tmp_path / "nets" / "wide.pt")
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    assert [(r.model, r.reason) for r in report.remarks] == [
        ("wide", "float64 values are rounded to float32, such as those of 'bias'")
    ]


@pytest.mark.parametrize(
    ("number", "kept"),
    [(2**24, 2**24), (2**24 + 1, 2**24), (2**62, 2**62), (2**63 - 1, 2**63 - 2**39)],
)
def test_rounded_whole_numbers_are_said(number: int, kept: int, tmp_path: Path) -> None:
    good_nets(tmp_path / "nets", 0)
    torch.save({"count": torch.tensor([number])}, tmp_path / "nets" / "odd.pt")
    report = import_zoo("state-dicts", tmp_path / "nets", tmp_path / "out", progress=False)
    (split,) = load_zoo(tmp_path / "out").values()
    assert int(split.state_dict(0)["count"]) == kept
    wanted = f"1 whole numbers of 'count' are rounded to float32, such as {number} to {kept}"
    assert [r.reason for r in report.remarks] == ([] if kept == number else [wanted])
