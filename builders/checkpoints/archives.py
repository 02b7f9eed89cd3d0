"""The files of a published zoo: in a folder, a zip, a tar, or a single file.

Nothing is extracted by its name, so an archive cannot write outside its folder. A compressed tar
cannot be read at random positions: it is unpacked once into a plain tar in a scratch folder, whose
files are read directly. Links, devices and names that lead outside are skipped and listed. An
archive may unpack to at most `RATIO_LIMIT` times its size, and only if the disk has room.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from ...zoos.errors import ZooError
from .unreadable import UnreadableFileError, is_machine_error, shown

RATIO_LIMIT, FREE_BYTES = 100, 100_000_000  # published zoos shrink to a tenth, sparse ones more
RESERVE_BYTES = 100_000_000  # disk space that unpacking leaves free
LARGE_BYTES = 64_000_000  # smaller files are read into memory
_OPENERS: dict[str, Callable[..., Any]] = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
}
_PIECE_BYTES = 2**20
_DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


class ArchiveError(ZooError, ValueError):
    """An archive is truncated, damaged, or of an unsupported format."""


@dataclass(frozen=True)
class FileRange:
    """A range of bytes in a file."""

    path: Path
    offset: int
    size: int


class Source(ABC):
    """Named files, read one by one, in any order.

    Attributes:
        path: path of the source.
        names: relative names of its files, with slashes, sorted.
        left_out: (name, reason) of each skipped entry.
    """

    def __init__(self, path: Path) -> None:
        """List the files; see `open_source`."""
        self.path = path
        self.left_out: list[tuple[str, str]] = []
        self._entries: dict[str, Any] = {}
        for name, entry, reason in self._list():
            self._take(name, entry, reason)
        self.names = tuple(sorted(self._entries))

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file."""

    @abstractmethod
    def locate(self, name: str) -> FileRange:
        """Range of a file's bytes, for memory mapping."""

    @abstractmethod
    def _list(self) -> Iterator[tuple[str, Any, str]]:
        """(name, entry, reason to skip it or "") of all entries."""

    def __contains__(self, name: object) -> bool:
        """Whether a file has that name."""
        return name in self._entries

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            UnreadableFileError: if it is damaged.
        """
        found = self.locate(name)
        with found.path.open("rb") as file:
            file.seek(found.offset)
            return file.read(found.size)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; it is in memory unless it is large."""
        if self.size(name) <= LARGE_BYTES:
            return io.BytesIO(self.read(name))
        return open_range(self.locate(name))

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes of all files."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0{self.size(name)}\0".encode())
        return f"sha256:{digest.hexdigest()}"

    def _take(self, name: str, entry: Any, reason: str) -> None:
        parts = name.replace("\\", "/").split("/")
        if parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] == ".DS_Store":
            return
        clean = "/".join(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name:
            reason = "its name leads outside the archive"
        elif clean in self._entries:
            reason = "the archive holds this name twice; the first one is read"
        if reason:
            self.left_out.append((name, reason))
        else:
            self._entries[clean] = entry


def open_source(path: Path | str, scratch: Path, *, follow_links: bool = False) -> Source:
    """Open a folder, a .zip, a .tar (plain, gz, xz, bz2), or a single file of another kind.

    Args:
        path: path of the folder, archive or file.
        scratch: folder for unpacked files; it is made when needed.
        follow_links: whether links inside a folder are read (the Hub's cache consists of links).

    Raises:
        ArchiveError: if the path does not exist, or an archive is truncated or damaged.
        OSError: if the disk is full while an archive is unpacked.
    """
    path = Path(path)
    if path.is_dir():
        return _Folder(path, follow_links)
    if not path.is_file():
        raise ArchiveError(f"no file or folder at {path}")
    try:
        if path.suffix.lower() == ".zip":
            return _Zip(path, scratch)
        for suffix, opener in _OPENERS.items():
            if path.name.lower().endswith(suffix):
                return _Tar(path, _plain_tar(path, opener, scratch))
    except _DAMAGE as error:
        if is_machine_error(error):
            raise
        raise ArchiveError(
            f"{path} is truncated or damaged: fetch it again ({type(error).__name__}: {error})"
        ) from error
    return _SingleFile(path)


def open_range(file_range: FileRange) -> BinaryIO:
    """Open a range of a file as a file."""
    return io.BufferedReader(_RangeFile(file_range))


class _Folder(Source):
    def __init__(self, path: Path, follow_links: bool = False) -> None:
        self._follow_links = follow_links
        super().__init__(path)

    def size(self, name: str) -> int:
        return int(self._entries[name])

    def locate(self, name: str) -> FileRange:
        return FileRange(self.path / name, 0, self.size(name))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def _list(self) -> Iterator[tuple[str, Any, str]]:
        yield from self._walk("")

    def _walk(self, prefix: str) -> Iterator[tuple[str, Any, str]]:
        with os.scandir(self.path / prefix) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            name = prefix + entry.name
            if entry.is_symlink() and not self._follow_links:
                yield name, None, "links are not followed"
            elif entry.is_dir():
                yield from self._walk(name + "/")
            elif entry.is_file():
                yield name, entry.stat().st_size, ""


class _SingleFile(Source):
    def size(self, name: str) -> int:
        return self.path.stat().st_size

    def locate(self, name: str) -> FileRange:
        return FileRange(self.path, 0, self.size(name))

    def _list(self) -> Iterator[tuple[str, Any, str]]:
        yield self.path.name, None, ""


class _Zip(Source):
    def __init__(self, path: Path, scratch: Path) -> None:
        self._file, self._scratch = zipfile.ZipFile(path), scratch
        size = sum(info.file_size for info in self._file.infolist())
        _check_ratio(path, path.stat().st_size, size)
        super().__init__(path)

    def size(self, name: str) -> int:
        return int(self._entries[name].file_size)

    def read(self, name: str) -> bytes:
        try:
            return self._file.read(self._entries[name])
        except (*_DAMAGE, NotImplementedError) as error:
            if is_machine_error(error):
                raise
            raise UnreadableFileError(f"damaged in the archive: {error}") from error

    def locate(self, name: str) -> FileRange:
        """Unpack the file first: members of a zip are compressed."""
        target = self._scratch / hashlib.sha256(name.encode()).hexdigest()
        if not target.exists():
            _check_room(target, self.size(name), self.path)
            try:
                with self._file.open(self._entries[name]) as packed:
                    _copy_whole(packed, target, self.path)
            except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
                raise UnreadableFileError(f"damaged in the archive: {error}") from error
        return FileRange(target, 0, self.size(name))

    def _list(self) -> Iterator[tuple[str, Any, str]]:
        for info in self._file.infolist():
            if not info.is_dir():
                reason = "it is encrypted" if info.flag_bits & 1 else ""
                link = (info.external_attr >> 16) & 0o170000 == 0o120000
                yield info.filename, info, "links are not followed" if link else reason


class _Tar(Source):
    def __init__(self, path: Path, plain: Path) -> None:
        self._plain = plain
        super().__init__(path)

    def size(self, name: str) -> int:
        return int(self._entries[name][1])

    def locate(self, name: str) -> FileRange:
        return FileRange(self._plain, *self._entries[name])

    def _list(self) -> Iterator[tuple[str, Any, str]]:
        total, end = self._plain.stat().st_size, 0
        with tarfile.open(self._plain, "r:") as tar:
            for member in tar:
                end = member.offset_data + (member.size if member.isreg() else 0)
                if end > total:
                    raise EOFError(f"{member.name!r} ends behind the end of the archive")
                if not member.isdir():
                    odd = not member.isreg() or member.issparse()
                    reason = "only plain files are read, no links or devices" if odd else ""
                    yield member.name, (member.offset_data, member.size), reason
        if total < -(-end // 512) * 512 + 512:
            raise EOFError("it has no end mark")


class _RangeFile(io.RawIOBase):
    """A range of a file, read as a file."""

    def __init__(self, file_range: FileRange) -> None:
        self._file, self.range, self._at = file_range.path.open("rb"), file_range, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.range.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self.range.size - self._at)]
        self._file.seek(self.range.offset + self._at)
        count = self._file.readinto(view)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _plain_tar(path: Path, opener: Callable[..., Any], scratch: Path) -> Path:
    """Path of the archive if it is not compressed, else of its unpacked copy."""
    if opener is open:
        return path
    stat = path.stat()
    target = scratch / f"{path.name}-{stat.st_size}-{stat.st_mtime_ns}.tar"
    if not target.exists():
        with opener(path, "rb") as packed:
            _copy_whole(packed, target, path)
    return target


def _copy_whole(packed: IO[bytes], target: Path, archive: Path) -> None:
    """Unpack to `target`, which appears only when it is complete.

    Raises:
        ArchiveError: if it exceeds the ratio or the disk; the unpacked part is removed then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".tmp")
    size, packed_size = 0, archive.stat().st_size
    try:
        with partial.open("wb") as file:
            while piece := packed.read(_PIECE_BYTES):
                size += len(piece)
                _check_ratio(archive, packed_size, size)
                _check_room(target, len(piece), archive)
                file.write(piece)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, target)


def _check_ratio(archive: Path, packed: int, unpacked: int) -> None:
    if unpacked > FREE_BYTES + RATIO_LIMIT * packed:
        raise ArchiveError(
            f"{shown(str(archive))} has {packed} bytes and unpacks to {unpacked} or more, over "
            f"{RATIO_LIMIT} times as many: if you trust it, unpack it and import the folder"
        )


def _check_room(target: Path, size: int, archive: Path) -> None:
    """Reject unpacking for which the disk has no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if size + RESERVE_BYTES > free:
        raise ArchiveError(
            f"no room to unpack {shown(str(archive))}: {size} bytes are needed in {target.parent}, "
            f"which has {free} bytes free and must keep {RESERVE_BYTES} free: make room"
        )
