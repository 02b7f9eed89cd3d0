"""Reads pickles without running their code: an allow-list of plain data, stubs for the rest.

A pickle is a program: it may call everything it names. Here names are looked up in a short list
(plain containers, numpy arrays, paths) with harmless replacements. A caller may add replacements,
and prefixes of modules whose objects are kept as `Stub`s. Nothing named in a pickle is imported,
and all other names are rejected.

This prevents the execution of code; `pickle_trial` finds pickles that take much memory or time.
"""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from .unreadable import UnreadableFileError, error_text, shown

_DTYPE = re.compile(r"[<>=|]?(?:[iu][1248]|f[248]|b1|\?)")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_TYPES = ("bool", "dict", "float", "int", "list", "long", "object", "str", "tuple", "unicode")


class RefusedPickleError(UnreadableFileError):
    """A pickle names something that is not on the allow-list."""


class Sealed:
    """A function that a pickle may call but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        """Wrap `function`."""
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        """Reject changes by the pickle."""
        raise RefusedPickleError("pickle tries to change a function")


class Stub:
    """Placeholder for an object whose class is not imported.

    Attributes:
        arguments: arguments of its class.
        state: state set by the pickle, or None.
        members: items appended to it (a subclass of list).
        entries: items set in it (a subclass of dict).
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Stub":
        """Keep the arguments; nothing is run."""
        stub = object.__new__(cls)
        stub.arguments, stub.state = arguments, None
        stub.members, stub.entries = [], {}
        return stub

    arguments: tuple[Any, ...]
    state: Any
    members: list[Any]
    entries: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        """Keep the state as it is."""
        self.state = state

    def append(self, member: Any) -> None:
        """Keep a list item."""
        self.members.append(member)

    def extend(self, members: Sequence[Any]) -> None:
        """Keep list items."""
        self.members.extend(members)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep a dict item."""
        self.entries[key] = value


def load_pickle(
    file: BinaryIO,
    *,
    stubs: Sequence[str] = (),
    allowed: Mapping[str, Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle from the current position of a file.

    Args:
        file: file opened for reading; its position is behind the pickle afterwards.
        stubs: full names, or prefixes before a dot, whose objects become `Stub`s.
        allowed: further replacements by full name; functions must be `Sealed`.
        persistent: function from a persistent id to an object, needed for torch's storages.

    Raises:
        RefusedPickleError: if it names something that is not allowed; the message names it.
        UnreadableFileError: if it is no pickle, or damaged.
    """
    unpickler = _AllowListUnpickler(file, encoding="latin1")
    unpickler.stubs, unpickler.allowed = tuple(stubs), PLAIN | dict(allowed or {})
    unpickler.persistent = persistent
    try:
        return unpickler.load()
    except UnreadableFileError:
        raise
    except MemoryError as error:
        raise UnreadableFileError("damaged pickle: it asks for more room than it needs") from error
    except Exception as error:  # a damaged pickle can raise any error
        raise UnreadableFileError(f"damaged pickle: {error_text(error)}") from error


class _AllowListUnpickler(pickle.Unpickler):
    stubs: tuple[str, ...]
    allowed: dict[str, Any]
    persistent: Callable[[Any], Any] | None

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self.allowed:
            return self.allowed[full]
        if any(full == stub or full.startswith(stub + ".") for stub in self.stubs):
            return _stub_class(full)
        raise RefusedPickleError(
            f"pickle names {shown(full)}, which is not allowed: only tensors, arrays, paths and "
            "plain containers are read, and nothing of it was run"
        )

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise UnreadableFileError("pickle refers to data outside itself")
        return self.persistent(pid)


@lru_cache(maxsize=1024)
def _stub_class(full: str) -> type[Stub]:
    return type(full.rsplit(".", 1)[1], (Stub,), {"__doc__": full})


class PickledDict(dict[Any, Any]):
    """A dictionary that a pickle may fill, but not give attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drop attributes: a name such as `items` would hide a method."""


class _Dtype:
    """A numpy type under construction: the pickle sets its code, then its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise RefusedPickleError(
                f"pickle holds an array of numpy type {shown(code)}, not numbers"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """A numpy array under construction; `array` holds it after its pickle has been read."""

    def __init__(self, *_: Any) -> None:
        """Start with an empty array."""
        self.array = np.empty(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        """Set the array from (version, shape, type, fortran order, bytes)."""
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        self.array = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: bytes, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: Any, order: str) -> PickledArray:
    pickled = PickledArray()
    pickled.array = _array(raw, dtype, shape, order)
    return pickled


def _scalar(dtype: _Dtype, raw: Any = b"") -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "utf-8"):
        raise RefusedPickleError(f"pickle asks for the codec {shown(encoding)}")
    return text.encode(encoding)


def _path(*parts: str) -> str:
    return "/".join(map(str, parts)).replace("//", "/")


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _plain() -> dict[str, Any]:
    """Replacements by full name, under all names used by Python and numpy so far."""
    found: dict[str, Any] = {
        "collections.OrderedDict": PickledDict,
        "collections.defaultdict": Sealed(_plain_dict),
        "_codecs.encode": Sealed(_encode),
        "numpy.dtype": _Dtype,
        "numpy.ndarray": PickledArray,
    }
    for builtin in ("builtins", "__builtin__"):
        found |= {f"{builtin}.set": set, f"{builtin}.frozenset": frozenset}
        found |= {f"{builtin}.{name}": _stub_class(f"{builtin}.{name}") for name in _TYPES}
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray._reconstruct"] = PickledArray
        found[f"{core}.multiarray.scalar"] = Sealed(_scalar)
        found[f"{core}.numeric._frombuffer"] = Sealed(_from_buffer)
    for module in ("pathlib", "pathlib._local"):
        found |= {f"{module}.{name}": Sealed(_path) for name in _PATHS}
    return found


PLAIN = _plain()
