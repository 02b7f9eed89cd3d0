"""Opens one checkpoint file of any supported format, and finds the state dict in it.

Tensors are read from the file on demand, as numpy arrays.
"""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from ...zoos.errors import ZooFormatError
from ...zoos.tensors.lazy import LazyTensor
from ...zoos.tensors.safetensors_file import read_header
from .tensors import EXPANSION, FREE_BYTES, NUMPY_TYPES, Checkpoint, Leaf, slice_bytes
from .torch_files import LEGACY_START, LegacyFile, PickleFile, TorchZipFile
from .unpickling import PickledArray
from .unreadable import UnreadableFileError, one_line, shown

_LFS_POINTER = b"version https://git-lfs"
KEPT_NAME = 500  # characters of a name whose sort key is kept
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def open_checkpoint(file: BinaryIO, name: str, stubs: Sequence[str] = ()) -> Checkpoint:
    """Open a checkpoint of any supported format.

    Args:
        file: file opened for reading.
        name: file name; it identifies `.safetensors` and `.npz`, first bytes identify all others.
        stubs: full names or prefixes whose objects become stubs, see `load_pickle`.

    Raises:
        RefusedPickleError: if its pickle names something that is not allowed.
        UnreadableFileError: if it is damaged or of an unsupported format.
    """
    start = file.read(len(_LFS_POINTER))
    file.seek(0)
    if start == _LFS_POINTER:
        raise UnreadableFileError(
            f"{name} is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
        )
    if name.endswith(".safetensors"):
        return _SafetensorsFile(file, name)
    if name.endswith(".npz"):
        return _NumpyArchive(file)
    if start.startswith(b"PK"):
        return TorchZipFile(file, tuple(stubs))
    if start.startswith(LEGACY_START):
        return LegacyFile(file, tuple(stubs))
    return PickleFile(file, tuple(stubs))


def find_state_dict(root: Any) -> dict[str, Leaf]:
    """Find the state dict: the saved object itself, or its entry under a usual key.

    Raises:
        UnreadableFileError: if there is none.
    """
    for candidate in (root, *(_get(root, key) for key in _WRAPPERS)):
        if isinstance(candidate, Mapping) and candidate:
            _check_names(candidate)
            state = {str(key): _array_of(value) for key, value in candidate.items()}
            if all(isinstance(value, LazyTensor | np.ndarray) for value in state.values()):
                return _without_prefix(state)
    raise UnreadableFileError(
        f"holds no state dict, at the top or under {list(_WRAPPERS)}: {_outline(root)}"
    )


def natural_order(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key of tensor names in which numbers sort as numbers."""
    return _kept_key(name) if len(name) <= KEPT_NAME else _sort_key(name)


def _sort_key(name: str) -> tuple[tuple[bool, int, str], ...]:
    parts = re.split(r"([0-9]+)", name)
    return tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts)


_kept_key = lru_cache(4096)(_sort_key)  # the models of a source share their names


class _SafetensorsFile(Checkpoint):
    """The checked tensors of a safetensors file, whose name is that of their storage."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        try:
            tensors, self.metadata = read_header(_OpenFile(file, name))
        except ZooFormatError as error:
            raise UnreadableFileError(one_line(str(error))) from error
        if odd := sorted({one.type.dtype for one in tensors.values()} - set(NUMPY_TYPES)):
            raise UnreadableFileError(
                f"{name} holds tensors of type {odd}: only {list(NUMPY_TYPES)} are imported"
            )
        order = sorted(tensors, key=natural_order)  # the file has them in the order of their bytes
        self.root = {}
        for key in order:
            one = tensors[key]
            self.root[key] = LazyTensor(one.type, one.start, name, one.stride)

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        return slice_bytes(self._file, start, size)


class _NumpyArchive(Checkpoint):
    """Arrays of `numpy.savez`, read as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(file) as packed:
                unpacked = sum(info.file_size for info in packed.infolist())
        except zipfile.BadZipFile as error:
            raise UnreadableFileError(f"truncated or damaged: {error}") from error
        if unpacked > FREE_BYTES + EXPANSION * size:
            raise UnreadableFileError(
                f"its arrays repeat {size} stored bytes to {unpacked} bytes: more than {EXPANSION} "
                "times is not read"
            )
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            self.root = {name: arrays[name] for name in arrays.files}


class _OpenFile:
    """An open file as a `ByteSource`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name, self._file = name, file
        self.size_bytes = file.seek(0, io.SEEK_END)

    def read_into(self, buffer: memoryview, start: int) -> None:
        buffer[:] = slice_bytes(self._file, start, len(buffer))


def _get(root: Any, key: str) -> Any:
    return root.get(key) if isinstance(root, Mapping) else None


def _check_names(state: Mapping[Any, Any]) -> None:
    """Reject keys that are equal as text, such as 1 and "1": they are different tensors."""
    twice = [key for key in state if not isinstance(key, str) and str(key) in state]
    if twice:
        raise UnreadableFileError(f"the names {shown(twice)} exist as text and as numbers")


def _array_of(value: Any) -> Any:
    return value.array if isinstance(value, PickledArray) else value


def _without_prefix(state: dict[str, Leaf]) -> dict[str, Leaf]:
    """Remove the prefix of torch's DataParallel from the names."""
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _outline(root: Any) -> str:
    if isinstance(root, Mapping):
        return f"it has the keys {shown([str(key) for key in list(root)[:8]])}"
    return f"it is a {type(root).__name__}"
