"""Downloads published zoos: resumed where they broke off, and checked where a checksum is known.

Zenodo lists size and MD5 of every file; other servers tell the size. An unfinished file ends in
`.part`, and continues with a range request.
"""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from ..zoos.disk import check_room
from ..zoos.errors import BuildError
from .catalogue import PublishedZoo

ZENODO_API = "https://zenodo.org/api/records"
_PIECE_BYTES = 2**20
_SECONDS = 60  # without a byte, after which a connection has failed


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: name, URL, size in bytes and MD5, the last two None if unknown."""

    name: str
    url: str
    size: int | None = None
    md5: str | None = None


def fetch_published(zoo: PublishedZoo, out: Path, *, progress: bool = True) -> list[Path]:
    """Download a published zoo into a folder; complete files are kept and not fetched again.

    Args:
        zoo: entry of the catalogue.
        out: folder for the files.
        progress: show a progress bar on stderr.

    Returns:
        Paths of its files; for a repository of the Hub, the folder.

    Raises:
        BuildError: if it can only be fetched by hand, the server fails, a file arrives damaged, or
            the disk has no room.
    """
    if not zoo.can_fetch:
        raise BuildError(
            f"{zoo.name} has no stable address: follow {zoo.page} by hand, then run "
            f"`{zoo.commands[-1]}`"
            if zoo.commands
            else f"{zoo.name} has no stable address: follow {zoo.page} by hand"
        )
    if zoo.host.startswith("hub-"):
        return [_fetch_repository(zoo, out)]
    try:
        files = [file for file in _remote_files(zoo) if _is_wanted(file.name, zoo.files)]
        if not files:
            raise BuildError(f"{zoo.page} lists none of the files {list(zoo.files)}")
        out.mkdir(parents=True, exist_ok=True)
        check_room(out, sum(_missing(file, out) for file in files), f"the download of {zoo.name}")
        return [_fetch_file(file, out, progress) for file in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"cannot fetch {zoo.name} from {zoo.page}: {error}; run the command again to continue"
        ) from error


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)


def _remote_files(zoo: PublishedZoo) -> Iterator[RemoteFile]:
    if zoo.host == "http":
        for url in zoo.address:
            yield RemoteFile(unquote(urlsplit(url).path.rpartition("/")[2]), url)
        return
    with _open(f"{ZENODO_API}/{zoo.address[0]}") as reply:
        record = json.loads(reply.read())
    for row in record["files"]:
        kind, _, digest = str(row.get("checksum", "")).partition(":")
        name = Path(str(row["key"])).name
        md5 = digest if kind == "md5" else None
        yield RemoteFile(name, str(row["links"]["self"]), int(row["size"]), md5)


def _missing(file: RemoteFile, out: Path) -> int:
    """Bytes that are still to be downloaded, 0 if unknown."""
    if (out / file.name).exists() or file.size is None:
        return 0
    part = out / f"{file.name}.part"
    return max(0, file.size - (part.stat().st_size if part.exists() else 0))


def _fetch_file(file: RemoteFile, out: Path, progress: bool) -> Path:
    path, part = out / file.name, out / f"{file.name}.part"
    if path.exists():
        return path
    done = part.stat().st_size if part.exists() else 0
    if file.size is None or done < file.size:
        _download(file, part, done, progress)
    size = part.stat().st_size
    if file.size is not None and size != file.size:
        raise BuildError(
            f"{file.name} has {size} bytes of {file.size}: run the command again to continue"
        )
    if file.md5 is not None and _md5(part) != file.md5:
        part.unlink()
        raise BuildError(f"{file.name} arrived damaged and was removed: run the command again")
    os.replace(part, path)
    return path


def _download(file: RemoteFile, part: Path, done: int, progress: bool) -> None:
    """Append the bytes that are missing; start anew if the server sends the whole file."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    try:
        reply = _open(file.url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is missing
            return
        raise
    with reply:
        resumed = reply.status == 206
        expected = _expected(reply, done if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as target,
            tqdm(
                total=expected,
                initial=done if resumed else 0,
                unit="B",
                unit_scale=True,
                desc=file.name,
                disable=not progress,
            ) as bar,
        ):
            while piece := reply.read(_PIECE_BYTES):
                target.write(piece)
                bar.update(len(piece))
    if expected is not None and part.stat().st_size < expected:
        raise OSError(f"the connection ended after {part.stat().st_size} of {expected} bytes")


def _expected(reply: Any, start: int) -> int | None:
    """Size of the whole file, as the server tells it."""
    length = reply.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _open(url: str, headers: dict[str, str] | None = None) -> Any:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no web address")
    request = urllib.request.Request(url, headers={"User-Agent": "weightzoo", **(headers or {})})
    return urllib.request.urlopen(request, timeout=_SECONDS)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch_repository(zoo: PublishedZoo, out: Path) -> Path:
    """Download a repository of the Hub, with the client's own resumption and checks."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = zoo.address[0].partition("@")
    try:
        snapshot_download(
            name,
            repo_type="dataset" if zoo.host == "hub-dataset" else "model",
            revision=revision or None,
            allow_patterns=list(zoo.files) or None,
            local_dir=out,
        )
    except (HfHubHTTPError, OSError) as error:
        raise BuildError(
            f"cannot fetch {zoo.name} from {zoo.page}: {error}; run the command again to continue"
        ) from error
    return out
