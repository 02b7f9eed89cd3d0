"""Fetch zoos from the Hugging Face Hub, checked against their `zoo.json`.

A repository holds one folder per zoo: `README.md`, `<zoo>/train-00000-of-00001.h5`, ...,
`<zoo>/zoo.json`. The folder has the name of the config in stock `datasets`. A repository may also
be one flat zoo folder. Files are kept in the cache of `huggingface_hub` and are checked once after
each download.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.format import FORMAT_VERSION
from ...zoos.hub.requests import HubError, hub_errors, patiently
from ...zoos.index import FILE_SPLITS, INDEX_NAME, SPLIT_WORDS, Shard, ZooIndex, file_sha256
from ...zoos.mixed_format import MixedIndex, read_index
from ...zoos.strict_json import json_text

MAJOR = FORMAT_VERSION.split(".")[0]
THREADS = 8  # number of files downloaded at once
CHECKED_NAME = "zoo.json.checked"  # lists the files of a cached zoo whose checksum was correct
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PATH = re.compile(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/([^/]+))?/?")


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """A repository on the Hub.

    Attributes:
        name: "org/name".
        cache_dir: folder for downloads; None takes the default cache of the Hub client.
        token: token for reading; None takes the token that `hf auth login` saved.
    """

    name: str
    cache_dir: str | Path | None
    token: str | bool | None

    def get(self, path: str, revision: str) -> Path:
        """Return the cached path of one file, which is downloaded if necessary.

        Args:
            path: path of the file within the repository.
            revision: branch, tag or commit.

        Raises:
            ZooNotFoundError: if there is no such repository or file.
            HubError: if the Hub cannot be reached.
        """
        from huggingface_hub import hf_hub_download

        download = partial(hf_hub_download, repo_type="dataset", revision=revision)
        with hub_errors(self.name):
            call = partial(download, self.name, path, cache_dir=self.cache_dir, token=self.token)
            return Path(patiently(call))


@dataclass(frozen=True, kw_only=True)
class HubZoo:
    """A zoo of a repository at one commit; only its `zoo.json` is certain to be in the cache.

    Attributes:
        repo: repository of the zoo.
        commit: full hash, so that nothing changes between two requests.
        prefix: "<zoo>/", or "" if the repository is one zoo folder.
        folder: cache folder of its files.
        index: content of `zoo.json`.
    """

    repo: HubRepo
    commit: str
    prefix: str
    folder: Path
    index: ZooIndex | MixedIndex


def is_hub_path(path: str | Path) -> bool:
    """Whether a path names a repository: "hf://...", or "org/name" that is no local path."""
    if not isinstance(path, str) or path.startswith("hf://"):
        return isinstance(path, str)
    return _REPO_ID.fullmatch(path) is not None and not Path(path).exists()


def fetch_zoo(
    repo: str,
    name: str | None = None,
    split: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Path:
    """Download a zoo, or one split of it, and check every file against `zoo.json`.

    Files in the cache are not downloaded again. A dropped connection is resumed near the byte where
    it broke. With `HF_HUB_OFFLINE=1` no request is made and only the cache is used.

    Args:
        repo: "org/name", or "hf://datasets/org/name[@revision][/zoo]".
        name: name of the zoo in the repository; optional if there is only one.
        split: "train", "val" ("validation" on the Hub) or "test"; None takes all.
        revision: branch, tag or commit; None takes the latest tag "v1.x" of the format version that
            this weightzoo reads, or `main` if the repository has none.
        cache_dir: folder for downloads; None takes the cache of `huggingface_hub`.
        token: token for reading; None takes the token that `hf auth login` saved.

    Returns:
        The zoo folder, which `load_zoo` opens with the same split.

    Raises:
        ZooNotFoundError: if there is no such repository, no zoo in it, or a listed file is missing.
        ValueError: if there is no such name, split or revision; the message lists those there are.
        ZooFormatError: if this weightzoo cannot read the format version of the zoo, or a file
            arrived twice with another checksum than listed; such a file is not kept.
        HubError: if the Hub cannot be reached, or the cache lacks a file while offline.
    """
    split = our_split(split)
    zoo = find_hub_zoo(repo, name, revision=revision, cache_dir=cache_dir, token=token)
    shards = [shard for shard in zoo.index.shards if split in (None, shard.split)]
    if not shards:
        there = list(dict.fromkeys(shard.split for shard in zoo.index.shards))
        raise ValueError(f"{zoo.repo.name} has no rows of split {split!r}, it has {there}")
    for _ in range(2):
        _download(zoo, [shard.path for shard in shards])
        damaged = damaged_files(zoo.folder, shards)
        if not damaged:
            return zoo.folder
        for path in damaged:
            _discard(zoo.folder / path)
    raise ZooFormatError(
        f"{zoo.repo.name}@{zoo.commit[:8]}: {damaged} arrived twice with another checksum than "
        f"{INDEX_NAME} lists, and were removed from the cache: call again to fetch them again; if "
        "that fails too, the repository is damaged: tell its owner or choose another revision"
    )


def find_hub_zoo(
    repo: str,
    name: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> HubZoo:
    """Find a zoo in a repository and download its `zoo.json` only.

    Args:
        repo: "org/name", or "hf://datasets/org/name[@revision][/zoo]".
        name: name of the zoo in the repository; optional if there is only one.
        revision: branch, tag or commit; None as in `fetch_zoo`.
        cache_dir: folder for downloads; None takes the cache of `huggingface_hub`.
        token: token for reading; None takes the token that `hf auth login` saved.

    Returns:
        The zoo and its index.

    Raises:
        ZooNotFoundError: if there is no such repository, or no zoo in it.
        ValueError: if there is no such name or revision; the message lists those there are.
        ZooFormatError: if this weightzoo cannot read the format version of the zoo.
        HubError: if the Hub cannot be reached, or the cache lacks the file while offline.
    """
    from huggingface_hub import constants

    match = _PATH.fullmatch(str(repo))
    if match is None:
        raise ValueError(
            f"repo must be 'org/name' or 'hf://datasets/org/name[@revision][/zoo]', got {repo!r}"
        )
    revision, name = revision or match[2], name or match[3]
    source = HubRepo(name=match[1], cache_dir=cache_dir, token=token)
    list_files = _list_cached if constants.HF_HUB_OFFLINE else _list_remote
    revision, files = list_files(source, revision)
    prefix = choose_zoo(files, name, source.name)
    path = _get_index(source, prefix, revision)
    index = read_index(path.parent)
    if not prefix and name not in (None, index.name):
        raise ValueError(f"{source.name} holds the zoo {index.name!r} only, got name={name!r}")
    root = path.parents[prefix.count("/")]  # named after the commit
    return HubZoo(repo=source, commit=root.name, prefix=prefix, folder=path.parent, index=index)


def choose_zoo(files: Iterable[str], name: str | None, where: str) -> str:
    """Choose the folder of a zoo among relative paths.

    Args:
        files: paths relative to the root of the repository or folder.
        name: name of the zoo; None if there is only one.
        where: repository or folder, for error messages.

    Returns:
        "<zoo>/", or "" if the root itself is the zoo folder.

    Raises:
        ZooNotFoundError: if there is no `zoo.json` at the root or in one of its folders.
        ValueError: if there is no zoo of that name; the message lists the names.
    """
    paths = [PurePosixPath(file) for file in files]
    folders = sorted(str(path.parent) for path in paths if path.name == INDEX_NAME)
    if "." in folders:
        return ""
    zoos = [folder for folder in folders if "/" not in folder and folder != ".."]
    if not zoos:
        raise ZooNotFoundError(
            f"{where} holds no zoo: neither it nor one of its folders has a {INDEX_NAME}; read "
            "other data sets with `datasets.load_dataset`"
        )
    if name is None and len(zoos) == 1:
        return f"{zoos[0]}/"
    if name not in zoos:
        raise ValueError(f"{where} holds the zoos {zoos}: name must be one of them, got {name!r}")
    return f"{name}/"


def zoo_files(root: Path) -> list[str]:
    """List the `zoo.json` of a folder and of its sub-folders, as relative paths."""
    found = [*root.glob(INDEX_NAME), *root.glob(f"*/{INDEX_NAME}")]
    return [path.relative_to(root).as_posix() for path in found]


def damaged_files(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """Find files whose size or SHA-256 differs from the index.

    A correct file is not read again until its size or modification time changes.

    Args:
        folder: zoo folder.
        shards: files to check, as the index lists them.

    Returns:
        Paths of the damaged files within the folder.
    """
    memory = folder / CHECKED_NAME
    try:
        checked = dict(json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        checked = {}
    right, damaged = dict(checked), []
    for shard in shards:
        path = folder / shard.path
        stat = path.stat()
        state = [shard.sha256, stat.st_size, stat.st_mtime_ns]
        if checked.get(shard.path) == state:
            continue
        if stat.st_size == shard.size_bytes and file_sha256(path) == shard.sha256:
            right[shard.path] = state
        else:
            damaged.append(shard.path)
    if right != checked:
        with suppress(OSError):  # a read-only cache is checked each time
            memory.write_text(json_text(right))
    return damaged


def our_split(split: str | None) -> str | None:
    """Translate the Hub's name of a split ("validation") to ours ("val").

    Raises:
        ValueError: if there is no split of that name.
    """
    if split is not None and split not in SPLIT_WORDS:
        raise ValueError(f"split must be one of {tuple(FILE_SPLITS)}, got {split!r}")
    return None if split is None else SPLIT_WORDS[split]


def _list_remote(repo: HubRepo, revision: str | None) -> tuple[str, list[str]]:
    """The chosen revision, and the files of the repository at it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi(token=repo.token)
    with hub_errors(repo.name):
        refs = patiently(partial(api.list_repo_refs, repo.name, repo_type="dataset"))
        revision = revision or _default_revision(tag.name for tag in refs.tags)
        try:
            info = patiently(partial(api.dataset_info, repo.name, revision=revision))
        except RevisionNotFoundError as error:
            names = [ref.name for ref in (*refs.branches, *refs.tags)]
            raise ValueError(
                f"{repo.name} has no revision {revision!r}: pass a commit, or one of {names}"
            ) from error
    return revision, [file.rfilename for file in info.siblings or ()]


def _list_cached(repo: HubRepo, revision: str | None) -> tuple[str, list[str]]:
    """As `_list_remote`, without a request: the last seen commit, and its zoos in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    store = Path(repo.cache_dir or constants.HF_HUB_CACHE).expanduser()
    store /= repo_folder_name(repo_id=repo.name, repo_type="dataset")
    revision = revision or _default_revision(path.name for path in store.glob("refs/*"))
    ref = store / "refs" / revision
    commit = ref.read_text() if ref.is_file() else revision
    root = store / "snapshots" / commit
    if not root.is_dir():
        raise HubError(
            f"offline, and the cache {store} holds no revision {revision!r} of {repo.name}: "
            "unset HF_HUB_OFFLINE to fetch it"
        )
    return commit, zoo_files(root)


def _default_revision(names: Iterable[str]) -> str:
    """The latest tag of our major format version, or main."""
    minors = [int(match[1]) for n in names if (match := re.fullmatch(rf"v{MAJOR}\.(\d+)", n))]
    return f"v{MAJOR}.{max(minors)}" if minors else "main"


def _get_index(repo: HubRepo, prefix: str, revision: str) -> Path:
    """Fetch `zoo.json`, and once more if its bytes do not match its git hash."""
    for _ in range(2):
        path = repo.get(prefix + INDEX_NAME, revision)
        if _is_sound(path):
            return path
        _discard(path)
    raise ZooFormatError(f"{repo.name}: {INDEX_NAME} arrived damaged twice: call again")


def _download(zoo: HubZoo, paths: Sequence[str]) -> None:
    """Download files of a zoo into its folder, several at once."""
    from huggingface_hub.utils import are_progress_bars_disabled

    missing = [path for path in paths if not (zoo.folder / path).exists()]
    silent = not missing or are_progress_bars_disabled()
    with ThreadPoolExecutor(THREADS) as pool:
        fetched = pool.map(lambda path: zoo.repo.get(zoo.prefix + path, zoo.commit), missing)
        list(tqdm(fetched, zoo.repo.name, len(missing), unit="file", disable=silent))


def _is_sound(path: Path) -> bool:
    """Whether the bytes of a small cached file match its name, which is a git hash."""
    name, data = path.resolve().name, path.read_bytes()
    is_hash = (
        re.fullmatch("[0-9a-f]{40}", name) is not None
    )  # no hash where the file system has no links
    return not is_hash or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == name


def _discard(path: Path) -> None:
    """Remove a file from the cache: the link and its target."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
