"""Opens one checkpoint file of any supported format, and finds the state dict in it.

Tensors are read from the file on demand, as numpy arrays.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from .tensors import (
    NUMPY_TYPES,
    Checkpoint,
    LazyTensor,
    Leaf,
    contiguous_stride,
    slice_bytes,
    slice_span,
)
from .torch_files import LEGACY_START, LegacyFile, PickleFile, TorchZipFile
from .unpickling import PickledArray
from .unreadable import UnreadableFileError, error_text, shown

_HEADER_LIMIT_BYTES = 100_000_000
_SAFETENSORS = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def open_checkpoint(file: BinaryIO, name: str, stubs: Sequence[str] = ()) -> Checkpoint:
    """Open a checkpoint of any supported format.

    Args:
        file: file opened for reading.
        name: file name; it identifies `.safetensors`, first bytes identify all other formats.
        stubs: full names or prefixes whose objects become stubs, see `load_pickle`.

    Raises:
        RefusedPickleError: if its pickle names something that is not allowed.
        UnreadableFileError: if it is damaged or of an unsupported format.
    """
    if name.endswith(".safetensors"):
        return _SafetensorsFile(file)
    start = file.read(len(LEGACY_START))
    file.seek(0)
    if start.startswith(b"PK"):
        return TorchZipFile(file, tuple(stubs))
    if start == LEGACY_START:
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


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort key of tensor names in which numbers sort as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


class _SafetensorsFile(Checkpoint):
    """A JSON header with type, shape and span of every tensor, then the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._spans = file, dict[str, tuple[int, int]]()
        length = int.from_bytes(slice_bytes(file, 0, 8), "little")
        if length > _HEADER_LIMIT_BYTES:
            raise UnreadableFileError(f"no safetensors: its header would take {length} bytes")
        try:
            header = json.loads(bytes(slice_bytes(file, 8, length)))
            header.pop("__metadata__", None)
            names = sorted(header, key=natural_order)  # the file has them by type, then by name
            self.root = {name: self._tensor(name, header[name], 8 + length) for name in names}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            text = error_text(error)
            raise UnreadableFileError(f"damaged safetensors header: {text}") from error

    def _tensor(self, name: str, row: Mapping[str, Any], start: int) -> LazyTensor:
        dtype, shape = _SAFETENSORS[row["dtype"]], tuple(row["shape"])
        first, stop = row["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (first, stop, *shape)):
            raise ValueError(f"{name!r} has shape {shown(shape)}, span {shown((first, stop))}")
        if stop - first != math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize or first < 0:
            raise ValueError(f"{name!r} has shape {shape}, but {stop - first} bytes")
        self._spans[name] = (start + first, stop - first)
        return LazyTensor(name, dtype, 0, shape, contiguous_stride(shape))

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        return slice_span(self._file, self._spans, storage, start, size)


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
