"""The zoo file: columnar HDF5 that weightzoo, stock `datasets` and plain h5py read.

One file holds rows (checkpoints) of one architecture. Every root dataset is a column with one
value per row: scalar columns first, `weights` (N, D) float32 last. `weights` is contiguous and
unfiltered, so that it can be mapped into memory. JSON root attributes describe the rest.
`docs/format.md` draws the tree.

Shape letters: N rows, D length of the flat weight vector.
"""

import hashlib
import json
import math
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .disk import copy_range
from .errors import ZooError, ZooFormatError, ZooNotFoundError, did_you_mean
from .heaps import check_text_heaps
from .lineage import LINEAGE, check_lineage, check_lineage_names
from .networks.architectures import Architecture
from .networks.layer_table import LayerTable
from .storage import check_claims, check_holes, is_mappable_float32
from .strict_json import json_text

FORMAT_VERSION = "1.1"  # readers take every minor version of the same major version
WEIGHTS = "weights"
SPLITS = ("train", "val", "test")
IDENTITY: dict[str, type] = {
    "model_id": int,
    "epoch": int,
    "split": str,
    "seed": int,
    "status": str,
}
METRICS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "generalization_gap",
)
STATUSES = ("ok", "diverged")
ALIGNMENT_BYTES = 4096
MOST_JSON_DEPTH = 64  # levels of nested lists and objects; 16 nested residuals take 33
LONGEST_MESSAGE = 1000  # about a value of a file, which may be long
ATTRIBUTE_LIMIT_BYTES = 2_000_000  # 8,000 tensors; text lies in a heap, which has no such limit

Column = np.ndarray
_JSON_ATTRIBUTES = (
    "architecture",
    "layer_table",
    "hyper_parameters",
    "recipe",
    "split",
    "provenance",
    "checksums",
)


@dataclass(frozen=True, kw_only=True)
class ZooHeader:
    """Description of a zoo file in its root attributes.

    Attributes:
        architecture: description from which the torch module is rebuilt; None if only the layer
            table is known (some imported zoos).
        layer_table: position of each tensor in a row of `weights`.
        hyper_parameters: names of the columns that are hyper-parameters.
        recipe: resolved recipe, plain data.
        split: rule that assigned models to splits, {by, fractions, seed}.
        provenance: versions, device, times and fingerprint of the image set, plain data.
        checksums: "sha256:..." of each column, see `checksum`; empty while a build runs.
    """

    architecture: Architecture | None
    layer_table: LayerTable
    hyper_parameters: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ZooFile:
    """A checked zoo file without an open handle, so that it can be pickled and survives a fork.

    Attributes:
        path: path of the file.
        header: root attributes.
        rows: number of rows, N.
        columns: numpy dtype of each scalar column, `object` for text, in file order.
        weights_offset: byte at which the rows start.
        size_bytes: size of the whole file when it was checked.
        mtime_ns: modification time when it was checked, in nanoseconds.
    """

    path: Path
    header: ZooHeader
    rows: int
    columns: dict[str, np.dtype]
    weights_offset: int
    size_bytes: int
    mtime_ns: int

    @property
    def width(self) -> int:
        """Length of the flat weight vector, D."""
        return self.header.layer_table.width

    def check_unchanged(self) -> None:
        """Reject a changed file: its rows may belong to another zoo, or be half written.

        Raises:
            ZooNotFoundError: if it was removed since it was checked.
            ZooFormatError: if its size or time of change differs.
        """
        try:
            stat = os.stat(self.path)
        except FileNotFoundError as error:
            raise ZooNotFoundError(f"{self.path} was removed while in use") from error
        if stat.st_mtime_ns != self.mtime_ns or stat.st_size != self.size_bytes:
            raise changed_file(self.path)

    @contextmanager
    def opened(self) -> Iterator[FileIO]:
        """Open the file for reading, and check before and after that it has not changed.

        Raises:
            ZooNotFoundError: if it was removed since it was checked.
            ZooFormatError: if its size or time of change differs, or the system cannot read it.
        """
        try:
            with FileIO(self.path) as file:
                self._check_open(file)
                yield file
                self._check_open(file)
        except ZooError:
            raise
        except FileNotFoundError as error:
            raise ZooNotFoundError(f"{self.path} was removed while in use") from error
        except OSError as error:
            raise ZooFormatError(
                f"{self.path} cannot be read: check the disk or the connection to it, then load "
                f"the zoo again ({error})"
            ) from error

    def _check_open(self, file: FileIO) -> None:
        """Reject an open file that is not the one that was checked, or has changed since."""
        stat = os.fstat(file.fileno())
        if stat.st_mtime_ns != self.mtime_ns or stat.st_size != self.size_bytes:
            raise changed_file(self.path)

    def map_weights(self, mode: str = "r") -> np.memmap:
        """Map the rows into memory, (N, D) float32, without reading them.

        Raises:
            ZooFormatError: if the file changed since it was checked; only for mode "r".
        """
        if mode == "r":
            self.check_unchanged()
        shape = (self.rows, self.width)
        return np.memmap(self.path, np.dtype("<f4"), mode, self.weights_offset, shape)  # type: ignore[call-overload]

    def read_columns(self, names: list[str] | None = None) -> dict[str, Column]:
        """Read scalar columns, each (N,); text becomes an object array of str.

        Raises:
            ZooFormatError: if a name is not a column; the message lists the columns.
        """
        names = list(self.columns) if names is None else names
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise ZooFormatError(
                f"{self.path} has no column {unknown}, its columns are {list(self.columns)}"
                + did_you_mean(unknown, self.columns)
            )
        with _opened(self.path) as file:
            return {name: _read_column(file[name]) for name in names}


def changed_file(path: Path) -> ZooFormatError:
    """The error for a file that was written to, or truncated, while in use."""
    return ZooFormatError(
        f"{path} changed since it was opened: load the zoo again; to replace a zoo, write a new "
        "file and rename it, never write into the old one"
    )


def check_format_version(path: Path, version: str) -> None:
    """Reject a file of another major version.

    Args:
        path: path of the file, for the message.
        version: format version of the file.

    Raises:
        ZooFormatError: if the version is not of the major version of `FORMAT_VERSION`.
    """
    theirs, ours = (text.split(".")[0] for text in (version, FORMAT_VERSION))
    if theirs != ours:
        raise ZooFormatError(
            f"{path} has format version {version!r}, this weightzoo reads {ours}.x: install a "
            f"weightzoo that reads {theirs}.x, or take a copy or revision of format {ours}.x"
        )


def checksum(column: Column) -> str:
    """SHA-256 of a column: little-endian bytes in C order, or texts in UTF-8 with a zero byte."""
    return _checksum_parts([column])


def _checksum_parts(parts: Iterable[Column]) -> str:
    """The checksum of a column that is given in consecutive parts."""
    digest = hashlib.sha256()
    for part in parts:
        if part.dtype.kind == "O":
            for text in part:
                digest.update(text.encode() + b"\0")
            continue
        step = max(1, 2**24 // max(1, part[:1].nbytes))
        for start in range(0, len(part), step):
            block = part[start : start + step]
            digest.update(block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes())
    return f"sha256:{digest.hexdigest()}"


def create_zoo_file(path: Path, header: ZooHeader, columns: Mapping[str, Column]) -> None:
    """Create a file with all scalar columns and reserved space for the weights.

    The space is reserved on the disk, so that a full disk is an error at the start.

    Args:
        path: path of the file; an existing one is replaced.
        header: root attributes.
        columns: all scalar columns in file order, (N,) each, numbers or str objects.

    Raises:
        ZooFormatError: if the columns are empty or differ in length, or contradict each other
            on lineage.
        OSError: if the disk is full.
    """
    rows = _common_length(path, {name: len(column) for name, column in columns.items()})
    check_lineage(columns)
    if not header.checksums:
        _check_room_for_checksums(header, [*columns, WEIGHTS])
    shape = (rows, header.layer_table.width)
    with (
        _system_errors(path),
        h5py.File(
            path,
            "w",
            libver=("v110", "v110"),
            track_order=True,
            alignment_threshold=min(ALIGNMENT_BYTES, math.prod(shape) * 4),  # small weights too
            alignment_interval=ALIGNMENT_BYTES,
        ) as file,
    ):
        file.attrs["format_version"] = FORMAT_VERSION
        _write_header(file, header)
        for name, column in columns.items():
            _create_dataset(file, name, column.shape, column.dtype)
            file[name][...] = column
        offset = _create_dataset(file, WEIGHTS, shape, np.dtype("<f4")).id.get_offset()
    _reserve(path, offset, shape[0] * shape[1] * 4)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Raise the error of the system, which HDF5 reports inside a page of its own text."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
    ) as error:  # HDF5 raises RuntimeError if the disk is full at a flush
        found = re.search(r"errno = (\d+)", str(error))
        if found is None:
            raise
        number = int(found.group(1))
        raise OSError(number, os.strerror(number), str(path)) from error


def finish_zoo_file(
    path: Path,
    header: ZooHeader,
    columns: Mapping[str, Column],
    *,
    target: Path | None = None,
    keep: np.ndarray | None = None,
) -> None:
    """Copy a file with all its rows to a finished file, under a temporary name first.

    The old file is only read: HDF5 marks a file that is open for writing, and after a kill it
    refuses to open such a file.

    Args:
        path: file with all columns and the weights.
        header: root attributes; the checksum of every column is added.
        columns: columns that replace those in the file, (N,) each.
        target: path of the finished file; None replaces `path`.
        keep: numbers of the rows to copy, ascending; None copies all.

    Raises:
        ZooFormatError: if a column is not in the file, or has another length.
        OSError: if the disk is full.
    """
    file = open_zoo_file(path)
    runs = _runs(np.arange(file.rows) if keep is None else keep)
    merged = _merged_columns(file, columns)
    if keep is not None:
        merged = {name: column[keep] for name, column in merged.items()}
    weights = file.map_weights()
    checksums = {name: checksum(column) for name, column in merged.items()}
    checksums[WEIGHTS] = _checksum_parts(weights[start:stop] for start, stop in runs)
    target = target or path
    partial = target.with_name(target.name + ".tmp")
    with _removed_on_error(partial):
        create_zoo_file(partial, replace(header, checksums=checksums), merged)
        _copy_rows(file, open_zoo_file(partial), runs)
        os.replace(partial, target)


def _merged_columns(file: ZooFile, columns: Mapping[str, Column]) -> dict[str, Column]:
    """All columns of a file in its order; given columns replace its own."""
    for name, column in columns.items():
        if name not in file.columns or column.shape != (file.rows,):
            raise ZooFormatError(f"{file.path} holds no column {name!r} of shape {column.shape}")
    own = file.read_columns([name for name in file.columns if name not in columns])
    given = {
        name: column.astype(file.columns[name], copy=False) for name, column in columns.items()
    }
    return {name: (own | given)[name] for name in file.columns}


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of consecutive numbers in ascending row numbers."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def _copy_rows(source: ZooFile, target: ZooFile, runs: list[tuple[int, int]]) -> None:
    """Copy runs of rows into the first rows of a file with enough space."""
    row_bytes, target_start = source.width * 4, target.weights_offset
    for start, stop in runs:
        size = (stop - start) * row_bytes
        first = source.weights_offset + start * row_bytes
        copy_range(source.path, target.path, first, target_start, size)
        target_start += size


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Remove a file if writing it fails, so that it does not fill the disk."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_zoo_file(
    path: Path, header: ZooHeader, columns: Mapping[str, Column], weights: np.ndarray
) -> None:
    """Write a complete file at once, under a temporary name first.

    Args:
        path: path of the file; an existing one is replaced at the end.
        header: root attributes; the checksum of every column is added.
        columns: scalar columns, (N,) each.
        weights: weights, (N, D), float32.

    Raises:
        ZooFormatError: if the weights do not fit the columns or the layer table.
    """
    weights = weights.astype("<f4", copy=False)
    if weights.shape != (len(next(iter(columns.values()), ())), header.layer_table.width):
        raise ZooFormatError(f"weights have shape {weights.shape}, not (N, D) of the other columns")
    checksums = {name: checksum(column) for name, column in columns.items()}
    checksums[WEIGHTS] = checksum(weights)
    partial = path.with_name(path.name + ".tmp")
    with _removed_on_error(partial):
        create_zoo_file(partial, replace(header, checksums=checksums), columns)
        rows = open_zoo_file(partial).map_weights("r+")
        rows[:] = weights
        rows.flush()
        os.replace(partial, path)


def open_zoo_file(path: Path | str) -> ZooFile:
    """Check the structure of a file without reading its weights.

    Raises:
        ZooNotFoundError: if there is no such file.
        ZooFormatError: if it is not HDF5, is truncated, has another format version, holds links,
            groups, external or virtual data, or its shapes contradict its layer table.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooNotFoundError(
            f"no zoo file at {path}: build one with `weightzoo build RECIPE --out FOLDER`"
        )
    stat = path.stat()
    with _opened(path) as file:
        text_spans = _text_spans(file, stat.st_size)
        check_holes(path, text_spans)
        check_text_heaps(path, text_spans)
        header = _read_header(path, file)
        datasets = {name: _checked_dataset(path, name, file) for name in file}
        columns = {name: object if _is_text(one) else one.dtype for name, one in datasets.items()}
        rows = _check_columns(path, datasets, header, str(file.attrs["format_version"]))
        text_room = sum(max(0, stop - start) for start, stop in text_spans)
        scalars = [one for name, one in datasets.items() if name != WEIGHTS]
        check_claims(path, scalars, text_room)
        offset = datasets[WEIGHTS].id.get_offset()
    if offset + rows * header.layer_table.width * 4 > stat.st_size:
        raise ZooFormatError(f"{path} is truncated: it ends before its weights do")
    return ZooFile(
        path=path,
        header=header,
        rows=rows,
        columns={name: np.dtype(kind) for name, kind in columns.items() if name != WEIGHTS},
        weights_offset=offset,
        size_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def write_columns_file(path: Path, columns: Mapping[str, Column]) -> None:
    """Write a file of scalar columns without weights, under a temporary name first.

    Args:
        path: path of the file; an existing one is replaced at the end.
        columns: scalar columns, (N,) each, numbers or str objects.

    Raises:
        ZooFormatError: if the columns are empty, differ in length or contradict on lineage.
    """
    _common_length(path, {name: len(column) for name, column in columns.items()})
    check_lineage(columns)
    partial = path.with_name(path.name + ".tmp")
    with (
        _removed_on_error(partial),
        _system_errors(path),
        h5py.File(partial, "w", libver=("v110", "v110"), track_order=True) as file,
    ):
        for name, column in columns.items():
            _create_dataset(file, name, column.shape, column.dtype)[...] = column
    os.replace(partial, path)


def read_columns_file(path: Path) -> dict[str, Column]:
    """Check and read all columns of a file that `write_columns_file` wrote.

    Raises:
        ZooNotFoundError: if there is no such file.
        ZooFormatError: if it is not HDF5, is truncated, lacks a column that every zoo has, or
            holds anything but columns of one length.
    """
    if not path.is_file():
        raise ZooNotFoundError(f"no file at {path}: copy the zoo again")
    with _opened(path) as file:
        spans = [(0, path.stat().st_size)]
        check_holes(path, spans)
        check_text_heaps(path, spans)
        datasets = {name: _checked_dataset(path, name, file) for name in file}
        if missing := [name for name in IDENTITY if name not in datasets]:
            raise ZooFormatError(f"{path} lacks the columns {missing}")
        _common_length(path, {name: one.shape[0] for name, one in datasets.items()})
        check_claims(path, list(datasets.values()), spans[0][1])
        return {name: _read_column(one) for name, one in datasets.items()}


def _text_spans(file: h5py.File, size_bytes: int) -> list[tuple[int, int]]:
    """(start, stop) of the byte ranges that may hold text: all but contiguous weights."""
    is_here = isinstance(file.get(WEIGHTS, getlink=True), h5py.HardLink)
    weights = file[WEIGHTS] if is_here else None
    if not isinstance(weights, h5py.Dataset) or weights.id.get_offset() is None:
        return [(0, size_bytes)]
    start = weights.id.get_offset()
    return [(0, start), (start + weights.id.get_storage_size(), size_bytes)]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; HDF5's errors become `ZooFormatError`."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "truncated" if "truncated" in str(error) else "not an HDF5 file"
        raise ZooFormatError(f"{path} is {what}: copy or build it again ({error})") from error
    with file:
        try:
            yield file
        except (RuntimeError, KeyError, OSError, UnicodeError) as error:
            raise ZooFormatError(f"{path} is corrupt: copy or build it again ({error})") from error


def _create_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> h5py.Dataset:
    """Create a contiguous dataset whose position in the file is fixed from now on."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if dtype.kind == "O":
        return file.create_dataset(name, shape, h5py.string_dtype("utf-8"), dcpl=plist)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, dtype.newbyteorder("<"), dcpl=plist)


def _reserve(path: Path, offset: int, size_bytes: int) -> None:
    """Allocate the disk blocks of a byte range, where the system supports it."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), offset, size_bytes)
        else:
            file.truncate(max(path.stat().st_size, offset + size_bytes))


def _map_dataset(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """Map a contiguous dataset of an open file."""
    return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)


def _check_room_for_checksums(header: ZooHeader, names: Iterable[str]) -> None:
    """Reject a header that would be too long with its checksums, before any work is done."""
    longest = dict.fromkeys(names, checksum(np.zeros(0)))
    _attribute("checksums", replace(header, checksums=longest))


def _write_header(file: h5py.File, header: ZooHeader) -> None:
    for name in _JSON_ATTRIBUTES:
        file.attrs[name] = _attribute(name, header)


def _attribute(name: str, header: ZooHeader) -> str:
    """A root attribute as JSON text."""
    value = getattr(header, name)
    text = json_text(value.to_json() if hasattr(value, "to_json") else value)
    if len(text.encode()) > ATTRIBUTE_LIMIT_BYTES:
        raise ZooFormatError(
            f"attribute {name!r} takes {len(text.encode())} bytes, "
            f"allowed are {ATTRIBUTE_LIMIT_BYTES}: shorten it"
        )
    return text


def _read_header(path: Path, file: h5py.File) -> ZooHeader:
    version = file.attrs.get("format_version")
    if version is None:
        raise ZooFormatError(
            f"{path} is not a weightzoo file: it has no attribute 'format_version'"
        )
    check_format_version(path, str(version))
    data = {name: _read_json(path, file, name) for name in _JSON_ATTRIBUTES}
    spec = data.pop("architecture")
    try:
        header = ZooHeader(
            architecture=None if spec is None else Architecture.from_json(spec),
            layer_table=LayerTable.from_json(data.pop("layer_table")),
            hyper_parameters=tuple(data.pop("hyper_parameters")),
            **data,
        )
    except ZooFormatError as error:
        raise ZooFormatError(f"{path}: {str(error)[:LONGEST_MESSAGE]}") from error
    if header.architecture and header.architecture.layer_table() != header.layer_table:
        raise ZooFormatError(f"{path}: attributes 'architecture' and 'layer_table' differ")
    return header


def _read_json(path: Path, file: h5py.File, name: str) -> Any:
    try:
        text = file.attrs[name]
        value = json.loads(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ZooFormatError(f"{path} has no readable JSON attribute {name!r}") from error
    if len(text) > ATTRIBUTE_LIMIT_BYTES:
        raise ZooFormatError(
            f"{path}: attribute {name!r} takes {len(text)} bytes, allowed are "
            f"{ATTRIBUTE_LIMIT_BYTES}"
        )
    if not _has_type(name, value) or _depth(value) > MOST_JSON_DEPTH:
        raise ZooFormatError(
            f"{path} has a wrong JSON attribute {name!r}: {reprlib.repr(value):.200}"
        )
    return value


def _depth(value: Any) -> int:
    """Levels of nested lists and objects; not recursive, so that a deep value cannot exhaust it."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _has_type(name: str, value: Any) -> bool:
    """Whether an attribute has its type; architecture and layer table are checked elsewhere."""
    if name == "hyper_parameters":
        are_texts = isinstance(value, list) and all(isinstance(key, str) for key in value)
        return are_texts and len(set(value)) == len(value)
    if name == "checksums":
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    return name in ("architecture", "layer_table") or isinstance(value, dict)


def _checked_dataset(path: Path, name: str, file: h5py.File) -> h5py.Dataset:
    """Open a dataset, unless it would read other files or stock readers misread it."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ZooFormatError(f"{path}:{name} is a link, only data of this file is allowed")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ZooFormatError(f"{path}:{name} is a group, only root datasets are allowed")
    if dataset.is_virtual or dataset.external:
        raise ZooFormatError(
            f"{path}:{name} keeps its data in other files, only data of this file is allowed"
        )
    if dataset.dtype.kind not in "iuf" and not _is_text(dataset) or dataset.dtype.byteorder == ">":
        raise ZooFormatError(
            f"{path}:{name} has type {dataset.dtype}, allowed are little-endian numbers and "
            "variable-length UTF-8 text"
        )
    if dataset.ndim != (2 if name == WEIGHTS else 1):
        raise ZooFormatError(f"{path}:{name} has shape {dataset.shape}, expected one value per row")
    return dataset


def _check_columns(
    path: Path, datasets: Mapping[str, h5py.Dataset], header: ZooHeader, version: str
) -> int:
    """Check names, lengths and the weights' shape; return N."""
    wanted = (*IDENTITY, *header.hyper_parameters, WEIGHTS)
    missing = [name for name in wanted if name not in datasets]
    if missing:
        raise ZooFormatError(f"{path} lacks the columns {missing}")
    for name, kind in _typed_columns(path, list(datasets), version).items():
        is_right = _is_text(datasets[name]) if kind is str else datasets[name].dtype.kind in "iu"
        if not is_right:
            raise ZooFormatError(f"{path}:{name} must hold {kind.__name__} values")
    rows = _common_length(path, {name: one.shape[0] for name, one in datasets.items()})
    weights = datasets[WEIGHTS]
    if weights.shape[1] != header.layer_table.width:
        raise ZooFormatError(
            f"{path}:{WEIGHTS} has shape {weights.shape}, expected "
            f"{(rows, header.layer_table.width)} from attribute 'layer_table'"
        )
    if not is_mappable_float32(weights):
        layout = "chunked" if weights.chunks else "contiguous or compact"
        raise ZooFormatError(
            f"{path}:{WEIGHTS} must be contiguous float32, got {layout} {weights.dtype} in "
            f"{weights.id.get_storage_size()} bytes: store IEEE little-endian numbers of 4 bytes"
        )
    return rows


def _typed_columns(path: Path, names: list[str], version: str) -> dict[str, type]:
    """Columns with a fixed type; in a file of version 1.0 lineage columns have none."""
    if version == "1.0":
        return IDENTITY
    try:
        return IDENTITY | (LINEAGE if check_lineage_names(names) else {})
    except ZooFormatError as error:
        raise ZooFormatError(f"{path}: {error}") from error


def _common_length(path: Path, lengths: Mapping[str, int]) -> int:
    """The length that all columns have, N."""
    if len(set(lengths.values())) != 1:
        raise ZooFormatError(f"{path}: columns differ in length: {dict(lengths)}")
    if (rows := next(iter(lengths.values()))) == 0:
        raise ZooFormatError(f"{path} has no rows: a zoo holds at least one model")
    return rows


def _read_column(dataset: h5py.Dataset) -> Column:
    return dataset.asstr()[...] if _is_text(dataset) else dataset[...]


def _is_text(dataset: Any) -> bool:
    info = h5py.check_string_dtype(dataset.dtype)
    return info is not None and info.length is None
