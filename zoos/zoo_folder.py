"""Writes the files of a zoo folder: plans them, creates them, fills them, finishes and lists them.

Every command that makes a zoo writes through this module, inside a `partial_folder`. Rows are
written into files that have space for all of them from the start. A file with all its rows is
copied into the folder `finished`, with its final columns and checksums.

Shape letters: N rows of a file, D length of the flat weight vector.
"""

import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cards.card import write_card
from .disk import check_room, copy_range, sync, write_all
from .errors import BuildError, ZooFormatError, ZooNotFoundError
from .format import (
    SPLITS,
    Column,
    ZooFile,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
    write_zoo_file,
)
from .index import Shard, ZooIndex, describe_shard, shard_name

SHARD_BYTES = 64_000_000  # largest weights of a file; stock `datasets` reads it as one batch
STREAMS = 8  # files of a split that can be streamed or downloaded at once
STREAM_BYTES = 8_000_000  # weights of a file that is worth a stream of its own
_ANEW = "this zoo cannot be continued; delete its folder, or pass --overwrite to start anew"
TEXT_BYTES = 40  # overhead of a text in HDF5: reference, heap object, padding


@dataclass(frozen=True)
class ShardPlan:
    """A file to write.

    Attributes:
        name: file name.
        split: split of all its rows.
        positions: positions in the zoo of its models, in row order.
        rows: number of rows, N.
    """

    name: str
    split: str
    positions: tuple[int, ...]
    rows: int


ColumnsOf = Callable[[ShardPlan], Mapping[str, Column]]


def plan_shards(splits: Sequence[str], rows: Sequence[int], row_bytes: int) -> list[ShardPlan]:
    """Divide each split into files; a model is never divided.

    Stock `datasets` streams files in parallel and never divides one. So a split of more than
    `STREAMS` times `STREAM_BYTES` has at least `STREAMS` files, of at most `SHARD_BYTES` each;
    a smaller one has files of `STREAM_BYTES`.

    Args:
        splits: split of each model.
        rows: number of rows of each model.
        row_bytes: number of bytes of one row of weights.
    """
    plans = []
    for split in SPLITS:
        parts: list[list[int]] = []
        room = 0
        positions = [index for index, own in enumerate(splits) if own == split]
        limit = _file_bytes(sum(rows[position] for position in positions) * row_bytes)
        for position in positions:
            size = rows[position] * row_bytes
            if not parts or size > room:
                parts.append([])
                room = limit
            parts[-1].append(position)
            room -= size
        for index, part in enumerate(parts):
            name, count = shard_name(split, index, len(parts)), sum(rows[at] for at in part)
            plans.append(ShardPlan(name, split, tuple(part), count))
    return plans


def _file_bytes(split_bytes: int) -> int:
    """Largest weights of a file of a split."""
    return min(SHARD_BYTES, max(STREAM_BYTES, split_bytes // STREAMS))


def create_files(
    folder: Path, plans: Sequence[ShardPlan], header: ZooHeader, columns: ColumnsOf
) -> None:
    """Create the planned files with space for every row.

    Args:
        folder: folder of the files; it is created if it does not exist.
        plans: files to create.
        header: root attributes without checksums.
        columns: function from a plan to its scalar columns; unknown values may be replaced when
            the file is finished.

    Raises:
        BuildError: if the disk has too little space for the planned files.
    """
    folder.mkdir(exist_ok=True)
    sizes = [_planned_bytes(plan, header, columns(plan)) for plan in plans]
    contents = "the zoo, with a second copy of its largest file while that is finished,"
    check_room(folder, sum(sizes) + max(sizes), contents)
    for plan in plans:
        create_zoo_file(folder / plan.name, header, columns(plan))
        sync(folder / plan.name)
    sync(folder)


def mend_files(
    folder: Path, plans: Sequence[ShardPlan], header: ZooHeader, columns: ColumnsOf
) -> None:
    """Prepare the files of an earlier run for continuing.

    A file that HDF5 cannot open, because an older version was killed while writing it, is created
    again around the rows that it holds.

    Args:
        folder: folder of the planned files.
        plans: files that are not finished yet.
        header: root attributes without checksums.
        columns: function from a plan to its scalar columns.

    Raises:
        BuildError: if a file or its rows are missing.
    """
    for plan in plans:
        path = folder / plan.name
        try:
            rows = open_zoo_file(path).rows
        except ZooNotFoundError as error:
            raise BuildError(f"{path} is missing: {_ANEW}") from error
        except ZooFormatError:
            _make_anew(path, plan, header, columns(plan))
            continue
        if rows != plan.rows:
            raise BuildError(
                f"{path} holds {rows} rows instead of the {plan.rows} planned; older versions of "
                f"weightzoo left such files in their last step: {_ANEW}"
            )


def write_rows(file: ZooFile | Path, firsts: Sequence[int], blocks: Sequence[np.ndarray]) -> None:
    """Write blocks of rows and wait until they are on the disk.

    Rows are written with pwrite, not through a memory map: machines that map one file over a
    network write back whole pages, and with them outdated rows of other machines. O_DSYNC is
    needed because without it Linux's NFS client may extend a write to the page.

    Args:
        file: file with space for every row; an open one is not checked again.
        firsts: number of the first row of each block.
        blocks: weights of each block, (rows, D).
    """
    file = file if isinstance(file, ZooFile) else open_zoo_file(file)
    handle = os.open(file.path, os.O_WRONLY | os.O_DSYNC)
    try:
        for first, rows in zip(firsts, blocks, strict=True):
            data = np.ascontiguousarray(rows, "<f4").data
            write_all(handle, data, file.weights_offset + first * file.width * 4)
    finally:
        os.close(handle)


def finish_file(
    path: Path,
    target: Path,
    header: ZooHeader,
    columns: Callable[[np.ndarray], Mapping[str, Column]],
    keep: np.ndarray | None = None,
) -> None:
    """Write the finished file, unless an earlier run did, then remove the planned file.

    Args:
        path: path of the planned file with all its rows.
        target: path of the finished file.
        header: root attributes; checksums are added.
        columns: function from the weights, (N, D), to the columns that were unknown before.
        keep: numbers of the rows to copy, ascending; None copies all.

    Raises:
        OSError: if the disk is full.
    """
    if not target.exists():
        known = columns(open_zoo_file(path).map_weights())
        finish_zoo_file(path, header, known, target=target, keep=keep)
        sync(target)
        sync(target.parent)
    path.unlink(missing_ok=True)


def finish_folder(folder: Path, name: str, shards: Sequence[Shard], header: ZooHeader) -> ZooIndex:
    """Write index and card beside the finished files.

    Args:
        folder: folder of the finished files.
        name: name of the zoo.
        shards: finished files, train first.
        header: root attributes of any of them.
    """
    index = ZooIndex(name=name, shards=tuple(shards))
    index.write(folder)
    write_card(folder, index, header)
    return index


def write_zoo_folder(
    folder: Path,
    name: str,
    header: ZooHeader,
    columns: Mapping[str, Column],
    weights: np.ndarray,
) -> ZooIndex:
    """Write a complete zoo from rows in memory or mapped rows, one or more files per split.

    Args:
        folder: folder of the finished files.
        name: name of the zoo.
        header: root attributes; checksums are added.
        columns: all scalar columns, among them model and split of each row.
        weights: weights of all rows, (rows, D), float32.

    Raises:
        BuildError: if the disk has too little space.
    """
    return write_zoo_rows(folder, name, header, columns, lambda rows: weights[rows])


def write_zoo_rows(
    folder: Path,
    name: str,
    header: ZooHeader,
    columns: Mapping[str, Column],
    take: Callable[[np.ndarray], np.ndarray],
) -> ZooIndex:
    """Write a complete zoo from rows that are read file by file.

    Rows of one model are written one after the other; models come in the order of their first
    rows.

    Args:
        folder: folder of the finished files.
        name: name of the zoo.
        header: root attributes; checksums are added.
        columns: all scalar columns, (rows,), among them model and split of each row.
        take: function of row numbers (n,) that returns their weights, (n, D), for one file.

    Raises:
        BuildError: if the disk has too little space.
    """
    rows_of = _rows_by_model(columns["model_id"])
    splits = [columns["split"][rows[0]] for rows in rows_of]
    counts, row_bytes = [len(rows) for rows in rows_of], 4 * header.layer_table.width
    plans = plan_shards(splits, counts, row_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    size_bytes = sum(_planned_bytes(plan, header, columns) for plan in plans)
    check_room(folder, size_bytes, "the zoo")
    shards = []
    for plan in plans:
        rows = np.concatenate([rows_of[position] for position in plan.positions])
        part = {key: column[rows] for key, column in columns.items()}
        write_zoo_file(folder / plan.name, header, part, take(rows))
        shards.append(describe_shard(folder, plan.name, plan.split, len(plan.positions)))
    return finish_folder(folder, name, shards, header)


def _rows_by_model(model_id: np.ndarray) -> list[np.ndarray]:
    """The row numbers of each model, models in the order of their first rows."""
    _, firsts, model = np.unique(model_id, return_index=True, return_inverse=True)
    ends = np.cumsum(np.bincount(model))[:-1]
    rows = np.split(np.argsort(model, kind="stable"), ends)
    return [rows[index] for index in np.argsort(firsts)]


def status_column(weights: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """The status of each row, (N,): "diverged" where a weight is not finite or it is known.

    Args:
        weights: weights of the rows, (N, D).
        diverged: whether a row is known to have diverged, (N,).
    """
    finite = np.array([bool(np.isfinite(row).all()) for row in weights])
    return np.where(finite & ~diverged, "ok", "diverged").astype(object)


def _planned_bytes(plan: ShardPlan, header: ZooHeader, columns: Mapping[str, Column]) -> int:
    """An estimate of the size of a file in bytes, from the first rows of its columns."""
    row = header.layer_table.width * 4
    for column in columns.values():
        some = column[:100]
        is_text = column.dtype.kind == "O"
        texts = sum(len(str(text)) + TEXT_BYTES for text in some) / max(1, len(some))
        row += int(texts) if is_text else column.itemsize
    return plan.rows * row


def _make_anew(
    path: Path, plan: ShardPlan, header: ZooHeader, columns: Mapping[str, Column]
) -> None:
    """Create a file again around the rows of one that cannot be opened."""
    start, size = _find_weights(path, plan.rows * header.layer_table.width * 4)
    partial = path.with_name(path.name + ".tmp")
    create_zoo_file(partial, header, columns)
    copy_range(path, partial, start, open_zoo_file(partial).weights_offset, size)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def _find_weights(path: Path, size: int) -> tuple[int, int]:
    """First byte and size of the weights, from the layout message of their dataset.

    Source: HDF5 File Format Specification 3.0, section IV.A.2.i, Data Layout Message: version,
    class (1 for contiguous), address, size.
    """
    if path.stat().st_size < size:
        raise BuildError(f"{path} is truncated and has lost rows: {_ANEW}")
    message = re.compile(rb"[\x03\x04]\x01(.{8})" + re.escape(size.to_bytes(8, "little")), re.S)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        found = {int.from_bytes(match[1], "little") for match in message.finditer(mapped)}
        starts = {start for start in found if 0 < start <= len(mapped) - size}
    if len(starts) != 1:
        raise BuildError(f"{path} is damaged and its rows cannot be found: {_ANEW}")
    return starts.pop(), size
