"""SHA256SUMS of a folder: one line per file, as `sha256sum` writes and checks it."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ...zoos.disk import write_whole
from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.index import file_sha256

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write SHA256SUMS, whole or not at all.

    Args:
        folder: folder of the files.
        sums: SHA-256 in hexadecimal digits, by path relative to the folder.
    """
    lines = [f"{sums[path]}  {path}\n" for path in sorted(sums)]
    write_whole(folder / SUMS_NAME, "".join(lines).encode())


def read_sums(folder: Path) -> dict[str, str]:
    """Read SHA256SUMS: SHA-256 by path relative to the folder.

    Raises:
        ZooNotFoundError: if there is none.
        ZooFormatError: if a line is damaged, or names a file outside the folder.
    """
    path = folder / SUMS_NAME
    if not path.is_file():
        raise ZooNotFoundError(
            f"{folder} is no finished release, it holds no {SUMS_NAME}: run `weightzoo release "
            f"{folder}` until it ends"
        )
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or not _is_inside(match[2]):
            raise ZooFormatError(
                f"{path} is damaged, it holds {line!r}: write it again with `weightzoo release "
                f"{folder}`"
            )
        sums[match[2]] = match[1]
    return sums


def damaged_by_sums(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """The paths that are missing or differ from their checksum.

    Args:
        folder: folder of the files.
        sums: SHA-256 by path relative to the folder.
    """
    return [
        path
        for path, digest in sums.items()
        if not (folder / path).is_file() or file_sha256(folder / path) != digest
    ]


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path
