"""Checks of the datasets of a zoo file, before any of them is read.

Shape letters: N rows, D length of the flat weight vector.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py

from ..errors import ZooFormatError
from ..lineage import LINEAGE, check_lineage_names
from .columns import IDENTITY, WEIGHTS, common_length, is_text
from .header import ZooHeader
from .storage import is_mappable_float32


def text_spans(file: h5py.File, size_bytes: int) -> list[tuple[int, int]]:
    """(start, stop) of the byte ranges that may hold text: all but contiguous weights.

    Args:
        file: the open file.
        size_bytes: size of the file.
    """
    is_here = isinstance(file.get(WEIGHTS, getlink=True), h5py.HardLink)
    weights = file[WEIGHTS] if is_here else None
    if not isinstance(weights, h5py.Dataset) or weights.id.get_offset() is None:
        return [(0, size_bytes)]
    start = weights.id.get_offset()
    return [(0, start), (start + weights.id.get_storage_size(), size_bytes)]


def checked_dataset(path: Path, name: str, file: h5py.File) -> h5py.Dataset:
    """Open a dataset, unless it would read other files or stock readers misread it.

    Args:
        path: path of the file, for messages.
        name: name of the dataset.
        file: the open file.

    Raises:
        ZooFormatError: if it is no dataset of this file, or its type or shape is not allowed.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ZooFormatError(f"{path}:{name} is a link, only data of this file is allowed")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ZooFormatError(f"{path}:{name} is a group, only root datasets are allowed")
    if dataset.is_virtual or dataset.external:
        raise ZooFormatError(
            f"{path}:{name} keeps its data in other files, only data of this file is allowed"
        )
    if dataset.dtype.kind not in "iuf" and not is_text(dataset) or dataset.dtype.byteorder == ">":
        raise ZooFormatError(
            f"{path}:{name} has type {dataset.dtype}, allowed are little-endian numbers and "
            "variable-length UTF-8 text"
        )
    if dataset.ndim != (2 if name == WEIGHTS else 1):
        raise ZooFormatError(f"{path}:{name} has shape {dataset.shape}, expected one value per row")
    return dataset


def check_columns(
    path: Path, datasets: Mapping[str, h5py.Dataset], header: ZooHeader, version: str
) -> int:
    """Check names, lengths and the weights' shape.

    Args:
        path: path of the file, for messages.
        datasets: datasets by name, each checked alone.
        header: root attributes.
        version: format version of the file.

    Returns:
        N, number of rows.

    Raises:
        ZooFormatError: if a column is missing or has a wrong type, or lengths differ.
    """
    wanted = (*IDENTITY, *header.hyper_parameters, WEIGHTS)
    missing = [name for name in wanted if name not in datasets]
    if missing:
        raise ZooFormatError(f"{path} lacks the columns {missing}")
    for name, kind in _typed_columns(path, list(datasets), version).items():
        is_right = is_text(datasets[name]) if kind is str else datasets[name].dtype.kind in "iu"
        if not is_right:
            raise ZooFormatError(f"{path}:{name} must hold {kind.__name__} values")
    rows = common_length(path, {name: one.shape[0] for name, one in datasets.items()})
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
