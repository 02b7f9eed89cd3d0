"""Writes the files of a zoo folder: planned, made with room, filled, finished, listed.

Whatever makes a zoo writes through here, inside a `partial_folder`. Rows are written into files
that have room for all of them from the start; when all rows of a file are there, it is written
anew with its final columns and checksums, into the folder `finished`.

Shape letters: N rows of a file, D length of the flat weight vector.
"""

import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .card import write_card
from .disk import check_room, copy_range, sync, write_all
from .errors import BuildError, ZooFormatError, ZooNotFoundError
from .format import (
    SPLITS,
    Column,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
    write_zoo_file,
)
from .index import Shard, ZooIndex, describe_shard, shard_name

SHARD_BYTES = 64_000_000  # stock `datasets` reads a file as one batch
_ANEW = "what is unfinished cannot go on; delete its folder, or pass --overwrite to start anew"
TEXT_BYTES = 40  # that HDF5 takes beside a text: reference, heap object, padding


@dataclass(frozen=True)
class ShardPlan:
    """A file to write.

    Attributes:
        name: its file name.
        split: the split of all its rows.
        positions: its models, by their positions in the zoo, in row order.
        rows: N.
    """

    name: str
    split: str
    positions: tuple[int, ...]
    rows: int


ColumnsOf = Callable[[ShardPlan], Mapping[str, Column]]


def plan_shards(splits: Sequence[str], rows: Sequence[int], row_bytes: int) -> list[ShardPlan]:
    """Cut each split into files of about `SHARD_BYTES`, never cutting through a model.

    Args:
        splits: split of each model.
        rows: number of rows of each model.
        row_bytes: bytes of one row of weights.
    """
    plans = []
    for split in SPLITS:
        parts: list[list[int]] = []
        room = 0
        for position in (index for index, own in enumerate(splits) if own == split):
            size = rows[position] * row_bytes
            if not parts or size > room:
                parts.append([])
                room = SHARD_BYTES
            parts[-1].append(position)
            room -= size
        for index, part in enumerate(parts):
            name, count = shard_name(split, index, len(parts)), sum(rows[at] for at in part)
            plans.append(ShardPlan(name, split, tuple(part), count))
    return plans


def create_files(
    folder: Path, plans: Sequence[ShardPlan], header: ZooHeader, columns: ColumnsOf
) -> None:
    """Make the planned files, with room for every row.

    Args:
        folder: folder of the files; it is made if it does not exist.
        plans: the files.
        header: root attributes, without checksums.
        columns: gives the scalar columns of a file; those not known yet may be replaced when it
            is finished.

    Raises:
        BuildError: if the disk has no room for what is planned.
    """
    folder.mkdir(exist_ok=True)
    sizes = [_planned_bytes(plan, header, columns(plan)) for plan in plans]
    check_room(folder, sum(sizes) + max(sizes))
    for plan in plans:
        create_zoo_file(folder / plan.name, header, columns(plan))
        sync(folder / plan.name)
    sync(folder)


def mend_files(
    folder: Path, plans: Sequence[ShardPlan], header: ZooHeader, columns: ColumnsOf
) -> None:
    """Make the files that an earlier run left ready to go on with.

    A file that HDF5 does not open, because an older version was killed while it wrote in it, is
    made anew around the rows that it holds.

    Args:
        folder: folder of the planned files.
        plans: the files that are not finished yet.
        header: root attributes, without checksums.
        columns: gives the scalar columns of a file.

    Raises:
        BuildError: if a file is missing, or its rows are.
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
                f"{path} holds {rows} rows, not the {plan.rows} planned, as an older weightzoo "
                f"leaves it in its last step: {_ANEW}"
            )


def write_rows(path: Path, firsts: Sequence[int], blocks: Sequence[np.ndarray]) -> None:
    """Write blocks of rows and wait until they are on the disk.

    By pwrite, not through a map, because machines that map one file over a network write back
    whole pages and with them their old view of a neighbour's rows; with O_DSYNC, because without
    it Linux's NFS client may extend a write to the page.

    Args:
        path: a file with room for every row.
        firsts: row that each block starts at.
        blocks: (rows, D) each.
    """
    file = open_zoo_file(path)
    handle = os.open(path, os.O_WRONLY | os.O_DSYNC)
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
    """Write a file in its final form, unless an earlier run did; then remove the planned one.

    Args:
        path: the planned file, with all its rows.
        target: the finished file.
        header: root attributes; checksums are added.
        columns: gives the columns that are known only now, from the weights, (N, D).
        keep: rising numbers of the rows to take; None takes all.

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
        name: the zoo's name.
        shards: the files, train first.
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
    """Write a whole zoo whose rows are in memory or mapped, a file or more per split.

    Args:
        folder: folder of the finished files.
        name: the zoo's name.
        header: root attributes; checksums are added.
        columns: every scalar column, with model and split of each row.
        weights: (rows, D), float32.

    Raises:
        BuildError: if the disk has no room.
    """
    return write_zoo_rows(folder, name, header, columns, lambda rows: weights[rows])


def write_zoo_rows(
    folder: Path,
    name: str,
    header: ZooHeader,
    columns: Mapping[str, Column],
    take: Callable[[np.ndarray], np.ndarray],
) -> ZooIndex:
    """Write a whole zoo from rows that are read file by file.

    Rows of one model are written one after the other; models come in the order of their first
    rows.

    Args:
        folder: folder of the finished files.
        name: the zoo's name.
        header: root attributes; checksums are added.
        columns: every scalar column, (rows,), with model and split of each row.
        take: gives the weights of some rows, (n, D), for one file at a time.

    Raises:
        BuildError: if the disk has no room.
    """
    rows_of = _rows_by_model(columns["model_id"])
    splits = [columns["split"][rows[0]] for rows in rows_of]
    counts, row_bytes = [len(rows) for rows in rows_of], 4 * header.layer_table.width
    plans = plan_shards(splits, counts, row_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder, sum(_planned_bytes(plan, header, columns) for plan in plans))
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
    """The status of each row, (N,): "diverged" where a weight is not finite, or as is known.

    Args:
        weights: (N, D).
        diverged: (N,), rows known to have diverged.
    """
    finite = np.array([bool(np.isfinite(row).all()) for row in weights])
    return np.where(finite & ~diverged, "ok", "diverged").astype(object)


def _planned_bytes(plan: ShardPlan, header: ZooHeader, columns: Mapping[str, Column]) -> int:
    """About the size of a file; of the columns only the first rows are looked at."""
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
    """Make a file anew around the rows of one that does not open."""
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
        raise BuildError(f"{path} is cut short, and rows are lost: {_ANEW}")
    message = re.compile(rb"[\x03\x04]\x01(.{8})" + re.escape(size.to_bytes(8, "little")), re.S)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        found = {int.from_bytes(match[1], "little") for match in message.finditer(mapped)}
        starts = {start for start in found if 0 < start <= len(mapped) - size}
    if len(starts) != 1:
        raise BuildError(f"{path} is damaged, and its rows cannot be found: {_ANEW}")
    return starts.pop(), size
