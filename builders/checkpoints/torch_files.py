"""Reads files of `torch.save` without torch: zip, the format before 1.6, and plain pickles.

The pickle is read through the allow-list. Models of one zoo share it byte for byte, so it is read
once and only the storages differ: this makes it faster than `torch.load`.
"""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from ...zoos.tensors.lazy import ITEM_BYTES, LazyTensor, TensorType
from .pickle_trial import TRIAL
from .tensors import NUMPY_TYPES, Checkpoint, slice_bytes
from .unpickling import Sealed, load_pickle
from .unreadable import UnreadableFileError, shown

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number
_SHARED_PICKLE_BYTES = 1_000_000  # a larger pickle is not kept: no checkpoint of a zoo has one
_PIECE_BYTES = 2**24
_MANY_RECORDS = 10_000
_STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
_UNTYPED = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "uint16",
    "uint32",
    "uint64",
)


class TorchZipFile(Checkpoint):
    """torch.save since 1.6: a zip with `data.pkl` and one uncompressed record per storage."""

    def __init__(self, file: BinaryIO, stubs: tuple[str, ...]) -> None:
        """Read the directory and the pickle.

        Args:
            file: file opened for reading.
            stubs: full names or prefixes whose objects become stubs, see `load_pickle`.

        Raises:
            RefusedPickleError: if the pickle names something that is not allowed.
            UnreadableFileError: if the file is truncated, damaged or big-endian.
        """
        self._file = file
        try:
            self._directory = _Directory(zipfile.ZipFile(file).infolist())
        except (zipfile.BadZipFile, OSError, ValueError, struct.error) as error:
            raise UnreadableFileError(f"truncated or damaged: {error}") from error
        self._prefix = self._directory.prefix
        self._checked = ("", 0)
        if self._directory.find(self._prefix + "byteorder"):
            if self._whole("byteorder") != b"little":
                raise UnreadableFileError("written on a big-endian machine")
        self.root = _shared_root(self._whole("data.pkl"), stubs)

    def _whole(self, name: str) -> bytes:
        start, size = self._locate(self._prefix + name)
        return bytes(slice_bytes(self._file, start, size))

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        first, length = self._locate(f"{self._prefix}data/{storage}")
        if start + size > length:
            raise UnreadableFileError(f"a tensor lies outside its storage {storage!r}")
        return slice_bytes(self._file, first + start, size)

    def _locate(self, name: str) -> tuple[int, int]:
        """(start, size) of a record's bytes; repeated reads check its checksum once."""
        found = self._directory.find(name)
        if found is None:
            raise UnreadableFileError(f"record {name!r} is missing or compressed")
        offset, size, checksum = found
        if self._checked[0] != name:
            header = slice_bytes(self._file, offset, 30)
            skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            self._checked = (name, offset + 30 + skip)
            if _checksum(self._file, self._checked[1], size) != checksum:
                raise UnreadableFileError(f"record {name!r} is damaged: its checksum differs")
        return self._checked[1], size


class _Directory:
    """Positions of the uncompressed records of a zip.

    Many records are kept in arrays, 44 bytes each: a pickled zoo has a million of them.
    """

    def __init__(self, infos: list[zipfile.ZipInfo]) -> None:
        names = [info.filename for info in infos if info.filename.endswith("data.pkl")]
        if not names:
            raise UnreadableFileError("a zip, but not of torch: it holds no data.pkl")
        self.prefix = min(names, key=len)[: -len("data.pkl")]
        rows = {
            info.filename: (info.header_offset, info.file_size, info.CRC)
            for info in infos
            if info.compress_type == zipfile.ZIP_STORED
        }
        self._few = rows if len(rows) < _MANY_RECORDS else {}
        if not self._few:
            ordered = sorted((name.encode(), row) for name, row in rows.items())
            self._names = np.array([name for name, _ in ordered])
            self._rows = np.array([row for _, row in ordered], np.int64)

    def find(self, name: str) -> tuple[int, int, int] | None:
        """(offset of the header, size, checksum) of a record, or None."""
        if self._few:
            return self._few.get(name)
        index = int(np.searchsorted(self._names, name.encode()))
        if index == len(self._names) or self._names[index] != name.encode():
            return None
        offset, size, checksum = self._rows[index].tolist()
        return offset, size, checksum


class LegacyFile(Checkpoint):
    """torch.save before 1.6: five pickles, then the storages in sequence."""

    def __init__(self, file: BinaryIO, stubs: tuple[str, ...]) -> None:
        """Read the pickles.

        Args:
            file: file opened for reading.
            stubs: full names or prefixes whose objects become stubs, see `load_pickle`.

        Raises:
            RefusedPickleError: if a pickle names something that is not allowed.
            UnreadableFileError: if the file is damaged or big-endian.
        """
        TRIAL.read("legacy", stubs, file)
        for _ in range(2):
            load_pickle(file)  # magic number and version of the protocol
        system = load_pickle(file)
        if not isinstance(system, dict) or not system.get("little_endian", True):
            raise UnreadableFileError("written on a big-endian machine")
        sizes: dict[str, int] = {}
        self.root = _load_tensors(file, stubs, sizes)
        self._file, self._spans = file, dict[str, tuple[int, int]]()
        at_keys = load_pickle(file)
        at = file.tell()
        for key in at_keys if isinstance(at_keys, list) else []:
            if key not in sizes:
                raise UnreadableFileError(f"storage {shown(key)} is not used by any tensor")
            self._spans[key] = (at + 8, sizes[key])  # after a count of values
            at += 8 + sizes[key]

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        first, length = self._spans.get(storage, (0, -1))
        if start + size > length:
            raise UnreadableFileError(f"a tensor lies outside its storage {storage!r}")
        return slice_bytes(self._file, first + start, size)


class PickleFile(Checkpoint):
    """A plain pickle; its tensors are arrays, or embedded files of torch's old format."""

    def __init__(self, file: BinaryIO, stubs: tuple[str, ...]) -> None:
        """Read the pickle.

        Args:
            file: file opened for reading.
            stubs: full names or prefixes whose objects become stubs, see `load_pickle`.

        Raises:
            RefusedPickleError: if the pickle names something that is not allowed.
            UnreadableFileError: if the pickle is damaged.
        """
        TRIAL.read("pickle", stubs, file)
        self._inner: dict[str, bytes] = {}
        allowed = {"torch.storage._load_from_bytes": Sealed(self._load_storage)}
        self.root = load_pickle(file, stubs=stubs, allowed=_TORCH | allowed)

    def _load_storage(self, raw: bytes) -> "_Storage":
        inner = LegacyFile(io.BytesIO(raw), ())
        if not isinstance(inner.root, _Storage):
            raise UnreadableFileError("a tensor in it has no storage")
        key = f"inner-{len(self._inner)}"
        first, size = inner._spans[inner.root.key]
        self._inner[key] = raw[first : first + size]
        return _Storage(key, inner.root.dtype)

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        data = self._inner[storage]
        return slice_bytes(io.BytesIO(data), start, size)


@dataclass(frozen=True)
class _Storage:
    """A storage named in a pickle."""

    key: str
    dtype: str

    def __setstate__(self, state: Any) -> None:
        raise UnreadableFileError("pickle tries to change a storage")


def _load_tensors(file: BinaryIO, stubs: tuple[str, ...], sizes: dict[str, int]) -> Any:
    """Read torch's pickle; `sizes` receives the bytes of each storage."""

    def storage(pid: Any) -> _Storage:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or dtype not in NUMPY_TYPES:
            raise UnreadableFileError(f"unknown storage {shown(pid)}")
        sizes[str(key)] = int(count) * ITEM_BYTES[dtype]
        return _Storage(str(key), dtype)

    return load_pickle(file, stubs=stubs, allowed=_TORCH, persistent=storage)


def load_zip_pickle(file: BinaryIO, stubs: tuple[str, ...]) -> Any:
    """Read `data.pkl` of a zip; its tensors name their records.

    Args:
        file: `data.pkl`, opened for reading.
        stubs: full names or prefixes whose objects become stubs, see `load_pickle`.
    """
    TRIAL.read("zip", stubs, file)
    return _load_tensors(file, stubs, {})


@lru_cache(maxsize=32)
def _cached_root(data: bytes, stubs: tuple[str, ...]) -> Any:
    return load_zip_pickle(io.BytesIO(data), stubs)


def _shared_root(data: bytes, stubs: tuple[str, ...]) -> Any:
    if len(data) <= _SHARED_PICKLE_BYTES:
        return _cached_root(data, stubs)
    return load_zip_pickle(io.BytesIO(data), stubs)


def _rebuild(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> LazyTensor:
    if not isinstance(storage, _Storage):
        raise UnreadableFileError("a tensor has no storage")
    if not all(isinstance(number, int) for number in (offset, *shape, *stride)):
        raise UnreadableFileError(f"a tensor has shape {shown(shape)} and stride {shown(stride)}")
    if len(shape) != len(stride):
        raise UnreadableFileError(f"a tensor has shape {shown(shape)}, but stride {shown(stride)}")
    kind = TensorType(storage.dtype, tuple(shape))
    return LazyTensor(kind, offset * kind.item_bytes, storage.key, tuple(stride))


def _refuse_type(_storage: Any, _offset: Any, _shape: Any, _stride: Any, *others: Any) -> Any:
    """Reject a tensor of a type that `torch.save` stores without a type of its storage."""
    kind = next((name for name in others if name in _UNTYPED), "unknown")
    short = " (FP8)" if str(kind).startswith("float8") else ""
    raise UnreadableFileError(
        f"holds tensors of type {kind}{short}: only {list(NUMPY_TYPES)} are imported"
    )


def _first(value: Any, *_: Any) -> Any:
    return value


def _torch_globals() -> dict[str, Any]:
    """Names allowed in a state dict's pickle, and their replacements."""
    found: dict[str, Any] = {f"torch.{kind}Storage": name for kind, name in _STORAGES.items()}
    found |= {f"torch.{name}": name for name in (*NUMPY_TYPES, *_UNTYPED)}
    found |= {
        "torch.storage.UntypedStorage": "uint8",
        "torch._utils._rebuild_tensor_v2": Sealed(_rebuild),
        "torch._utils._rebuild_tensor_v3": Sealed(_refuse_type),
        "torch._utils._rebuild_tensor": Sealed(_rebuild),
        "torch._utils._rebuild_parameter": Sealed(_first),
        "torch.Size": tuple,
        "torch.device": Sealed(_first),
    }
    return found


_TORCH = _torch_globals()


def _checksum(file: BinaryIO, start: int, size: int) -> int:
    """CRC-32 of a range, computed in pieces."""
    value = 0
    for at in range(start, start + size, _PIECE_BYTES):
        value = zlib.crc32(slice_bytes(file, at, min(_PIECE_BYTES, start + size - at)), value)
    return value
