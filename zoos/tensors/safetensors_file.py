"""Reads and writes safetensors files, without trusting their header.

A file is a length (8 bytes, little-endian), a JSON header with type, shape and byte range of every
tensor, and the bytes. The header is checked as a whole before any tensor is read: the ranges must
follow one another without gaps or overlaps up to the end of the file, so nothing outside it is
read and no two tensors share bytes.
"""

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ZooFormatError
from ..strict_json import json_text
from .lazy import ByteSource, LazyTensor, LocalBytes, TensorType, read_bytes

HEADER_LIMIT_BYTES = 100_000_000  # the limit of the format's own library
MOST_DIMENSIONS = 64  # the limit of numpy
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_CODES = {name: code for code, name in DTYPES.items()}
_NO_RESERVE = 0x4000 if hasattr(mmap, "MAP_ANONYMOUS") and os.uname().sysname == "Linux" else 0


class SafetensorsFile:
    """An open safetensors file with a checked header.

    Attributes:
        source: source of its bytes.
        tensors: tensors by name, in the order of their bytes.
        metadata: texts of its writer.
    """

    def __init__(self, source: ByteSource | Path | str) -> None:
        """Read and check the header.

        Raises:
            ZooFormatError: if it is not a safetensors file, or is damaged, truncated or hostile.
        """
        self.source = LocalBytes(source) if isinstance(source, Path | str) else source
        self.tensors, self.metadata = read_header(self.source)
        self._map: mmap.mmap | None = None

    def read(self, name: str) -> Tensor:
        """Copy a tensor out of the file, in its own type."""
        stored = self.tensors[name]
        return self.block(name, 0, stored.type.size).view(stored.type.shape)

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Copy some values of a flattened tensor out of the file.

        Args:
            name: name of the tensor.
            start: index of the first value.
            stop: end of the block, exclusive.
            out: 1-D tensor of the same type to write to, at least as long; None allocates one.

        Returns:
            (stop - start,), in the tensor's own type.
        """
        stored = self.tensors[name]
        kind = stored.type.torch_dtype
        values = torch.empty(stop - start, dtype=kind) if out is None else out[: stop - start]
        if len(values):
            self.source.read_into(_byte_view(values), stored.start + start * stored.type.item_bytes)
        return values

    def mapped(self, name: str) -> Tensor:
        """A tensor in the memory map of a local file; its bytes are read when they are used.

        Raises:
            ZooFormatError: if the file is not local, or has changed its size.
        """
        if not isinstance(self.source, LocalBytes):
            raise ZooFormatError(f"{self.source.name} is not local: read the tensor instead")
        if os.stat(self.source.path).st_size != self.source.size_bytes:
            raise ZooFormatError(f"{self.source.name} changed since it was opened: open it again")
        stored = self.tensors[name]
        if stored.type.size == 0:
            return torch.empty(stored.type.shape, dtype=stored.type.torch_dtype)
        if self._map is None:  # private, so that a write never reaches the file
            with self.source.path.open("rb") as file:
                self._map = mmap.mmap(
                    file.fileno(),
                    0,
                    flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
        flat = torch.frombuffer(
            self._map, dtype=stored.type.torch_dtype, count=stored.type.size, offset=stored.start
        )
        return flat.view(stored.type.shape)


def read_header(source: ByteSource) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Read and check the header of a safetensors file.

    Returns:
        The tensors by name in the order of their bytes, and the metadata.

    Raises:
        ZooFormatError: if the header is wrong; the message names the file and the fault.
    """
    try:
        length = _header_length(source)
        rows = json.loads(
            read_bytes(source, 8, length).decode(), object_pairs_hook=_without_duplicates
        )
        metadata = _metadata(rows.pop("__metadata__", {}))
        found = {name: _stored(name, row, 8 + length) for name, row in rows.items()}
    except ZooFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ZooFormatError(
            f"{source.name} has a damaged safetensors header ({str(error)[:300]}): copy it again"
        ) from error
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].type.size)))
    _check_ranges(source, tensors, 8 + length)
    return tensors, metadata


def _header_length(source: ByteSource) -> int:
    if source.size_bytes < 8:
        raise ZooFormatError(f"{source.name} is no safetensors file: it has {source.size_bytes} B")
    length = int.from_bytes(read_bytes(source, 0, 8), "little")
    if not 2 <= length <= min(HEADER_LIMIT_BYTES, source.size_bytes - 8):
        raise ZooFormatError(
            f"{source.name} is no safetensors file, or truncated: its header would take {length} "
            f"bytes of {source.size_bytes}, and at most {HEADER_LIMIT_BYTES} are allowed"
        )
    return length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _metadata(texts: Any) -> dict[str, str]:
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("__metadata__ must hold texts")
    return texts


def _stored(name: str, row: Mapping[str, Any], start: int) -> LazyTensor:
    if set(row) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{_short(name)} has the fields {_short(sorted(row))}")
    if row["dtype"] not in DTYPES:
        raise ValueError(f"{_short(name)} has type {_short(row['dtype'])}, known: {list(DTYPES)}")
    numbers = [*row["shape"], *row["data_offsets"]]
    if len(numbers) > MOST_DIMENSIONS + 2:
        raise ValueError(f"{_short(name)} has {len(numbers) - 2} dimensions")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError(
            f"{_short(name)} has a shape or range other than whole numbers below 2**63"
        )
    first, stop = row["data_offsets"]
    kind = TensorType(DTYPES[row["dtype"]], tuple(row["shape"]))
    if stop - first != kind.size_bytes:
        raise ValueError(f"{_short(name)} has shape {kind.shape}, but {stop - first} bytes")
    return LazyTensor(kind, start + first)


def _short(value: object) -> str:
    """A value for a message, cut: a hostile file may hold megabytes."""
    text = repr(value[:80]) if isinstance(value, str | list) else repr(value)
    return text[:200]


def _check_ranges(source: ByteSource, tensors: Mapping[str, LazyTensor], start: int) -> None:
    """Reject gaps, overlaps, and ranges that end before or after the file does."""
    for name, stored in tensors.items():
        if stored.start != start:
            raise ZooFormatError(
                f"{source.name} has a damaged safetensors header: {_short(name)} starts at byte "
                f"{stored.start}, and the tensor before it ends at {start}"
            )
        start += stored.type.size_bytes
    if start != source.size_bytes:
        raise ZooFormatError(
            f"{source.name} has {source.size_bytes} bytes, its header describes {start}: it is "
            "truncated or damaged, copy it again"
        )


class SafetensorsWriter:
    """A safetensors file whose tensors are written in any order, in parts, also after a restart.

    Attributes:
        tensors: tensors to write by name, the widest types first so that all are aligned.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, TensorType], metadata: Mapping[str, str]
    ) -> None:
        """Reserve the space, or open an unfinished file with the same header.

        Args:
            path: path of the file.
            tensors: type and shape of all tensors by name.
            metadata: texts for readers.

        Raises:
            OSError: if the disk is full.
        """
        header, self.tensors = _layout(tensors, metadata)
        size = max((t.start + t.type.size_bytes for t in self.tensors.values()), default=0)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        size = max(size, len(header))
        if (
            os.pread(self._handle, len(header), 0) != header
            or os.fstat(self._handle).st_size != size
        ):
            os.ftruncate(self._handle, 0)
            _reserve(self._handle, size)
            os.pwrite(self._handle, header, 0)

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Write some values of a flattened tensor.

        Args:
            name: name of the tensor.
            start: index of the first value.
            values: values, which are converted to the tensor's type.
        """
        stored = self.tensors[name]
        data = _byte_view(values.reshape(-1).to(stored.type.torch_dtype).contiguous())
        position = stored.start + start * stored.type.item_bytes
        while data:
            count = os.pwrite(self._handle, data, position)
            data, position = data[count:], position + count

    def sync(self) -> None:
        """Wait until all written values are on the disk."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file after everything is on the disk."""
        self.sync()
        os.close(self._handle)


def _byte_view(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor as writable bytes."""
    return values.reshape(-1).view(torch.uint8).numpy().data


def _layout(
    tensors: Mapping[str, TensorType], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, LazyTensor]]:
    """The first bytes of a file, and the positions of its tensors."""
    order = sorted(tensors, key=lambda name: -tensors[name].item_bytes)
    rows: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        kind, first = tensors[name], end
        end += kind.size_bytes
        rows[name] = {
            "dtype": _CODES[kind.dtype],
            "shape": list(kind.shape),
            "data_offsets": [first, end],
        }
    text = json_text(rows).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    stored = {
        name: LazyTensor(tensors[name], start + rows[name]["data_offsets"][0]) for name in order
    }
    return len(text).to_bytes(8, "little") + text, stored


def _reserve(handle: int, size: int) -> None:
    """Allocate the disk blocks of a file, where the system supports it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a complete file, under a temporary name first.

    Args:
        path: path of the file; an existing one is replaced at the end.
        tensors: tensors by name.
        metadata: texts for readers.
    """
    kinds = {
        name: TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in tensors.items()
    }
    partial = path.with_name(path.name + ".tmp")
    writer = SafetensorsWriter(partial, kinds, metadata or {})
    for name, value in tensors.items():
        writer.write(name, 0, value)
    writer.close()
    os.replace(partial, path)
