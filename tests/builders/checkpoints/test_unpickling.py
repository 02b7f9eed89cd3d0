import io
import os
import pickle
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from weightzoo.builders.checkpoints.unpickling import (
    RefusedPickleError,
    Stub,
    UnreadableFileError,
    load_pickle,
)


def read(data: bytes, **options: Any) -> Any:
    return load_pickle(io.BytesIO(data), **options)


def call(name: str, *arguments: Any) -> bytes:
    """A pickle that calls a global: what a hostile file does."""
    module, _, function = name.rpartition(".")
    return (
        b"c%s\n%s\n" % (module.encode(), function.encode())
        + pickle.dumps(arguments, 0)[:-1]
        + b"R."
    )


@pytest.mark.parametrize("protocol", range(2, 6))
def test_load_pickle_reads_plain_data(protocol: int) -> None:
    data = {
        "list": [1, 2.5, None, True, "ü", b"\xff"],
        "ordered": OrderedDict(a=1),
        "set": {1, 2},
        "default": defaultdict(list, key=[1]),
        "path": PurePosixPath("/zoo/model"),
    }
    assert read(pickle.dumps(data, protocol)) == data | {"path": "/zoo/model"}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "?", "<f2"])
def test_load_pickle_reads_numpy_arrays(protocol: int, dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = read(pickle.dumps([array, array.T, array[1, 2]], protocol))
    np.testing.assert_array_equal(found[0].array, array)
    np.testing.assert_array_equal(found[1].array, array.T)
    assert found[2] == array[1, 2]


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "builtins.getattr", "importlib.import_module"]
)
def test_hostile_pickle_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedPickleError, match=f"names '{name}'"):
        read(call(name, f"touch {tmp_path}/ran"))
    assert list(tmp_path.iterdir()) == []


def test_hostile_pickle_would_have_run_elsewhere(tmp_path: Path) -> None:
    """The attack above is real: the stock unpickler runs it."""
    pickle.loads(call("os.system", f"touch {tmp_path}/ran"))
    assert [path.name for path in tmp_path.iterdir()] == ["ran"]


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(RefusedPickleError, match="numpy type 'O8'"):
        read(pickle.dumps(np.array([{}, None])))


@pytest.mark.parametrize(
    "name", ["_codecs.encode", "pathlib.PosixPath", "numpy.ndarray", "collections.OrderedDict"]
)
def test_pickle_cannot_change_what_it_may_call(name: str) -> None:
    module, _, last = name.rpartition(".")
    change = pickle.dumps((None, {"__defaults__": ("utf-8",), "__setstate__": 1}), 2)[2:-1]
    with pytest.raises(UnreadableFileError):
        read(b"\x80\x02c%s\n%s\n" % (module.encode(), last.encode()) + change + b"b.")
    assert read(pickle.dumps(b"\xff", 2)) == b"\xff"


def test_stub_keeps_what_the_pickle_says_and_imports_nothing() -> None:
    data = b"\x80\x02cnowhere.to.be.found\nThing\n)\x81}X\x01\x00\x00\x00aK\x07sb."
    found = read(data, stubs=("nowhere.to",))
    assert isinstance(found, Stub) and type(found).__name__ == "Thing"
    assert found.state == {"a": 7}
    assert "nowhere" not in sys.modules


def test_stub_prefix_ends_at_a_dot() -> None:
    with pytest.raises(RefusedPickleError, match=r"omegaconf_evil\.run"):
        read(call("omegaconf_evil.run", 1), stubs=("omegaconf",))


def test_stub_is_called_harmlessly(tmp_path: Path) -> None:
    found = read(call("omegaconf.system", f"touch {tmp_path}/ran"), stubs=("omegaconf",))
    assert found.arguments == (f"touch {tmp_path}/ran",)
    assert not os.path.exists(tmp_path / "ran")


def test_truncated_pickle_is_unreadable_at_every_length() -> None:
    whole = pickle.dumps({"a": [np.arange(3.0)], "b": OrderedDict(c=1)}, 2)
    for length in range(len(whole)):
        with pytest.raises(UnreadableFileError):
            read(whole[:length])


def test_data_outside_the_pickle_is_refused() -> None:
    with pytest.raises(UnreadableFileError, match="outside itself"):
        read(b"\x80\x02K\x01Q.")
