"""Fetch zoos from the Hugging Face Hub, checked against their `zoo.json`.

A repo holds one folder per zoo, named as the config by which stock `datasets` loads it:
`README.md`, `<zoo>/train-00000-of-00001.h5`, ..., `<zoo>/zoo.json`; or it is one flat zoo folder.
Files lie in the cache that `huggingface_hub` keeps, and are checked once after each download.
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
from ...zoos.index import FILE_SPLITS, INDEX_NAME, Shard, ZooIndex, file_sha256
from ...zoos.strict_json import json_text
from .requests import HubError, hub_errors, patiently

MAJOR = FORMAT_VERSION.split(".")[0]
THREADS = 8  # files downloaded at once
CHECKED_NAME = "zoo.json.checked"  # files of a cached zoo whose checksum was once found right
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PATH = re.compile(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/([^/]+))?/?")


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """A repo, where its files are cached, and the token to read it with."""

    name: str
    cache_dir: str | Path | None
    token: str | bool | None

    def get(self, path: str, revision: str) -> Path:
        """One file, in the cache; fetched if it is not there.

        Raises:
            ZooNotFoundError: if there is no such repo or file.
            HubError: if the Hub cannot be reached.
        """
        from huggingface_hub import hf_hub_download

        download = partial(hf_hub_download, repo_type="dataset", revision=revision)
        with hub_errors(self.name):
            call = partial(download, self.name, path, cache_dir=self.cache_dir, token=self.token)
            return Path(patiently(call))


@dataclass(frozen=True, kw_only=True)
class HubZoo:
    """A zoo of a repo at one commit; of its files only `zoo.json` is here for certain.

    Attributes:
        repo: where it lies.
        commit: the full hash, so that nothing changes between two requests.
        prefix: "<zoo>/", or "" if the repo is one zoo folder.
        folder: where its files lie in the cache.
        index: what `zoo.json` holds.
    """

    repo: HubRepo
    commit: str
    prefix: str
    folder: Path
    index: ZooIndex


def is_hub_path(path: str | Path) -> bool:
    """Whether a repo is meant: text "hf://datasets/org/name", or "org/name" if no such path is."""
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

    Files that are here already are not fetched again; a connection that drops is taken up near
    the byte where it broke. With `HF_HUB_OFFLINE=1` no request is made and the cache is used.

    Args:
        repo: "org/name", or "hf://datasets/org/name[@revision][/zoo]".
        name: which zoo of the repo; may be left out if it holds only one.
        split: "train", "val" (or "validation", the Hub's word) or "test"; None takes all.
        revision: branch, tag or commit; None takes the latest tag "v1.x" of the format version
            that this weightzoo reads, or `main` if the repo has none.
        cache_dir: None takes the cache of `huggingface_hub`.
        token: None takes the one that `hf auth login` saved.

    Returns:
        The zoo folder, to be opened by `load_zoo` with the same split.

    Raises:
        ZooNotFoundError: if there is no such repo, no zoo in it, or a listed file is missing.
        ValueError: if name, split or revision is not one of those there are, which are listed.
        ZooFormatError: if the zoo has a format version that this weightzoo cannot read, or a
            file arrived twice with another checksum than listed; no such file is kept.
        HubError: if the Hub cannot be reached, or offline the cache lacks the files.
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
        f"{INDEX_NAME} lists, and were removed from the cache: call again to fetch them again; "
        "if that fails too, the repo is damaged, so tell its owner or choose another revision"
    )


def find_hub_zoo(
    repo: str,
    name: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> HubZoo:
    """Find a zoo in a repo and read its `zoo.json`, and nothing else.

    Arguments and errors are those of `fetch_zoo`.
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
    index = ZooIndex.read(path.parent)
    if not prefix and name not in (None, index.name):
        raise ValueError(f"{source.name} holds the zoo {index.name!r} only, got name={name!r}")
    root = path.parents[prefix.count("/")]  # named by the commit
    return HubZoo(repo=source, commit=root.name, prefix=prefix, folder=path.parent, index=index)


def choose_zoo(files: Iterable[str], name: str | None, where: str) -> str:
    """Which folder among relative paths holds the zoo: "<zoo>/", or "" for the root itself.

    Raises:
        ZooNotFoundError: if there is no `zoo.json` at the root or in a folder of it.
        ValueError: if name is not one of several zoos, which are listed.
    """
    paths = [PurePosixPath(file) for file in files]
    folders = sorted(str(path.parent) for path in paths if path.name == INDEX_NAME)
    if "." in folders:
        return ""
    zoos = [folder for folder in folders if "/" not in folder and folder != ".."]
    if not zoos:
        raise ZooNotFoundError(
            f"{where} holds no zoo: neither it nor a folder of it has a {INDEX_NAME}; other data "
            "sets are read with `datasets.load_dataset`"
        )
    if name is None and len(zoos) == 1:
        return f"{zoos[0]}/"
    if name not in zoos:
        raise ValueError(f"{where} holds the zoos {zoos}: name must be one of them, got {name!r}")
    return f"{name}/"


def zoo_files(root: Path) -> list[str]:
    """Paths of the `zoo.json` of a folder and of the folders in it."""
    found = [*root.glob(INDEX_NAME), *root.glob(f"*/{INDEX_NAME}")]
    return [path.relative_to(root).as_posix() for path in found]


def damaged_files(folder: Path, shards: Sequence[Shard]) -> list[str]:
    """Paths of the files whose size or SHA-256 is not as listed.

    A file found right is not read again until its size or time of change differs.
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
    """Our name of a split, which the Hub may have named.

    Raises:
        ValueError: if it is neither.
    """
    words = {hub: ours for ours, hub in FILE_SPLITS.items()} | {ours: ours for ours in FILE_SPLITS}
    if split is not None and split not in words:
        raise ValueError(f"split must be one of {tuple(FILE_SPLITS)}, got {split!r}")
    return None if split is None else words[split]


def _list_remote(repo: HubRepo, revision: str | None) -> tuple[str, list[str]]:
    """The revision to take, and the files of the repo there."""
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
    """The same without a request: the commit that was last seen, and the zoos kept of it."""
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
    """The latest tag of our format's major version, or main."""
    minors = [int(match[1]) for n in names if (match := re.fullmatch(rf"v{MAJOR}\.(\d+)", n))]
    return f"v{MAJOR}.{max(minors)}" if minors else "main"


def _get_index(repo: HubRepo, prefix: str, revision: str) -> Path:
    """Fetch `zoo.json`, again if its bytes are not those that git has a name for."""
    for _ in range(2):
        path = repo.get(prefix + INDEX_NAME, revision)
        if _is_sound(path):
            return path
        _discard(path)
    raise ZooFormatError(f"{repo.name}: {INDEX_NAME} arrived damaged twice: call again")


def _download(zoo: HubZoo, paths: Sequence[str]) -> None:
    """Fetch files of a zoo into its folder, several at once."""
    from huggingface_hub.utils import are_progress_bars_disabled

    missing = [path for path in paths if not (zoo.folder / path).exists()]
    silent = not missing or are_progress_bars_disabled()
    with ThreadPoolExecutor(THREADS) as pool:
        fetched = pool.map(lambda path: zoo.repo.get(zoo.prefix + path, zoo.commit), missing)
        list(tqdm(fetched, zoo.repo.name, len(missing), unit="file", disable=silent))


def _is_sound(path: Path) -> bool:
    """Whether a small file of the cache has the bytes that its name, a git hash, stands for."""
    name, data = path.resolve().name, path.read_bytes()
    is_hash = re.fullmatch("[0-9a-f]{40}", name) is not None  # not where links are impossible
    return not is_hash or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == name


def _discard(path: Path) -> None:
    """Remove a file from the cache: the link and what it leads to."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
