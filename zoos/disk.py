"""Files that outlast a kill and a power cut: synced writes, copied ranges, room on the disk."""

import errno
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import BuildError

BLOCK_BYTES = 2**23  # copied at once where the system cannot copy by itself
# The system cannot copy between these files by itself; reading and writing still work.
_NO_COPY = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY}


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno == errno.EINVAL):  # some mounts sync no folders
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for entry in folder.iterdir():
        sync_tree(entry) if entry.is_dir() else sync(entry)
    sync(folder)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file atomically: after a kill or a power cut it is complete or absent.

    Args:
        path: path of the file; an existing one is replaced.
        data: bytes of the file.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        partial.write_bytes(data)
        sync(partial)
        os.replace(partial, path)
    except OSError:  # a part of a file on a full disk helps nobody
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_torch_file(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file of `torch.save` atomically.

    It is made in memory first: torch reports a full disk as an internal error.

    Args:
        path: path of the file; an existing one is replaced.
        data: tensors and plain data.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(dict(data), buffer)
    write_whole(path, buffer.getvalue())


def copy_range(source: Path, target: Path, start: int, target_start: int, size: int) -> None:
    """Copy bytes into a file that has room for them, within the system where it can.

    Args:
        source: file to read.
        target: file to write into.
        start: first byte to read.
        target_start: byte of the target that it is written to.
        size: number of bytes.

    Raises:
        OSError: if the source ends before, or the disk is full.
    """
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        done = 0
        while done < size:
            count = _copy_some(reader, writer, start + done, target_start + done, size - done)
            if count == 0:
                raise OSError(errno.EIO, f"{source} ends before byte {start + size}")
            done += count
    finally:
        os.close(reader)
        os.close(writer)


def _copy_some(reader: int, writer: int, start: int, target_start: int, size: int) -> int:
    """Copy at most `size` bytes; return how many were copied."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(reader, writer, size, start, target_start)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
    return write_all(writer, os.pread(reader, min(size, BLOCK_BYTES), start), target_start)


def write_all(handle: int, data: bytes | memoryview, start: int) -> int:
    """Write bytes into an open file and return their number.

    Args:
        handle: descriptor of the file.
        data: bytes to write.
        start: position of the first byte in the file.
    """
    view, done = memoryview(data).cast("B"), 0
    while done < len(view):
        done += os.pwrite(handle, view[done:], start + done)
    return done


def check_room(folder: Path, size_bytes: int, contents: str, replaced: Iterable[Path] = ()) -> None:
    """Reject a start for which the disk has no room.

    Args:
        folder: folder to write to; it need not exist yet.
        size_bytes: number of bytes that will be written.
        contents: name of what is written, for the message.
        replaced: files of an interrupted start that are written anew; their bytes count as free.

    Raises:
        BuildError: if the disk has fewer bytes free; the message names both numbers.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    stat = os.statvfs(existing)
    held = sum(path.stat().st_blocks * 512 for path in replaced if path.is_file())
    free = stat.f_bavail * stat.f_frsize + held
    if size_bytes > free:
        raise BuildError(
            f"{contents} takes {size_bytes:,} bytes, and the disk of {existing} has {free:,} bytes "
            "free: make room, or choose a folder on another disk"
        )
