"""Publish zoos on the Hugging Face Hub, checked and with a card, so that they work without us."""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...zoos.card import CARD_NAME, PLOT_NAME, CardZoo, read_card_zoo, repo_card
from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.format import FORMAT_VERSION
from ...zoos.index import INDEX_NAME, ZooIndex, file_sha256
from .requests import HubError, hub_errors, patiently

FILES_PER_COMMIT = 1000  # the most that the client's own uploads take; the Hub refuses 25,000


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
) -> str:
    """Publish a zoo, or a folder of zoos, so that stock `load_dataset(repo_id, name)` works too.

    Files are checked first, then uploaded, then committed together with the card; the tag of
    the format version is moved last, so that readers see a whole repo or the one before. More
    than `FILES_PER_COMMIT` files take several commits, in which a zoo's index follows its files
    and the card comes last. Call again after a failure: what was uploaded is not sent again.
    Other zoos of the repo stay.

    Args:
        folder: a zoo folder, published under the zoo's own name, or a folder of zoo folders,
            each published under its folder's name.
        repo_id: "org/name"; created if it does not exist.
        token: None takes the one that `hf auth login` saved.
        private: of a new repo: only its owners see it.
        message: of the commit.
        plot: a PNG for the card, if the folder is one zoo.
        overwrite: replace a zoo of the same name that holds other data.

    Returns:
        The commit's hash, which can be given as `revision`.

    Raises:
        ZooNotFoundError: if there is no zoo at the folder.
        ZooFormatError: if a file is not as `zoo.json` lists it.
        ValueError: if a name is unfit for the Hub, the repo is none, flat, or public against
            `private`, or it holds other data under the same name.
        HubError: if the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    if repo_id.count("/") != 1:
        raise ValueError(f"repo must be 'org/name', got {repo_id!r}")
    api = HfApi(token=token)
    zoos = _local_zoos(Path(folder), plot)
    push = partial(_commit, api, repo_id, zoos)
    message = message or f"Publish {', '.join(zoo.card.name for zoo in zoos)}"
    with hub_errors(repo_id):
        _create_repo(api, repo_id, private)
        try:
            commit = push(message, overwrite)
        except _StaleParentError as error:
            warnings.warn(f"{error}; trying once more on top of that", stacklevel=2)
            commit = push(message, overwrite)
        _move_tag(api, repo_id, f"v{FORMAT_VERSION}", commit)
    return commit


class _StaleParentError(HubError):
    """Somebody else has committed in the meantime."""


@dataclass(frozen=True, kw_only=True)
class _LocalZoo:
    """A zoo to publish: its folder, its entry in the card, its plot."""

    folder: Path
    card: CardZoo
    plot: Path | None


def _local_zoos(folder: Path, plot: str | Path | None) -> list[_LocalZoo]:
    """The zoos of a folder, all of them checked."""
    if (folder / INDEX_NAME).is_file():
        folders = {ZooIndex.read(folder).name: folder}
    else:
        folders = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{INDEX_NAME}"))}
    if not folders:
        raise ZooNotFoundError(
            f"no zoo at {folder}: no {INDEX_NAME} in it or in its folders; build one with "
            "`weightzoo build RECIPE --out FOLDER`"
        )
    if plot and len(folders) > 1:
        raise ValueError(f"{folder} holds {len(folders)} zoos: publish them one by one for plots")
    png = Path(plot) if plot else None
    return [_local_zoo(path, name, png) for name, path in folders.items()]


def _local_zoo(folder: Path, name: str, plot: Path | None) -> _LocalZoo:
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(
            f"a zoo's name on the Hub is of letters, digits, '_', '-' and '.', got {name!r}"
        )
    index = ZooIndex.read(folder)
    index.open(folder)
    damaged = [
        shard.path for shard in index.shards if file_sha256(folder / shard.path) != shard.sha256
    ]
    if damaged:
        raise ZooFormatError(
            f"{folder}: {damaged} differ from their checksums in {INDEX_NAME}: build it again"
        )
    card = read_card_zoo(folder, index, name, has_plot=plot is not None)
    return _LocalZoo(folder=folder, card=card, plot=plot)


def _files(zoo: _LocalZoo) -> list[Any]:
    """What is to be added to the repo for a zoo."""
    from huggingface_hub import CommitOperationAdd

    names = [shard.path for shard in zoo.card.index.shards]
    paths = {name: zoo.folder / name for name in [*names, INDEX_NAME]}
    if zoo.plot:
        paths[PLOT_NAME] = zoo.plot
    return [CommitOperationAdd(f"{zoo.card.name}/{name}", path) for name, path in paths.items()]


def _create_repo(api: Any, repo: str, private: bool) -> None:
    options = {"repo_type": "dataset", "private": private or None, "exist_ok": True}
    patiently(partial(api.create_repo, repo, **options))
    if private and not patiently(partial(api.dataset_info, repo)).private:
        raise ValueError(
            f"{repo} exists and is public: make it private in its settings, or choose another name"
        )


def _commit(api: Any, repo: str, zoos: Sequence[_LocalZoo], message: str, overwrite: bool) -> str:
    """Commit files and card on top of the latest commit; return the new one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    info = patiently(partial(api.dataset_info, repo))
    files = {file.rfilename for file in info.siblings or ()}
    get = partial(api.hf_hub_download, repo, repo_type="dataset", revision=info.sha)
    remote = {
        path: Path(patiently(partial(get, path))).read_text(errors="replace")
        for path in files & {CARD_NAME, *(f"{zoo.card.name}/{INDEX_NAME}" for zoo in zoos)}
    }
    _check_may_write(repo, files, zoos, {} if overwrite else remote)
    text = repo_card(repo, [zoo.card for zoo in zoos], remote.get(CARD_NAME))
    additions = [file for zoo in zoos for file in _files(zoo)]
    names, kept = {zoo.card.name for zoo in zoos}, {file.path_in_repo for file in additions}
    stale = [path for path in sorted(files - kept) if "/" in path and path.split("/")[0] in names]
    operations = [*additions, CommitOperationAdd(CARD_NAME, text.encode())]
    operations += [CommitOperationDelete(path) for path in stale]
    commit = str(info.sha)
    for start in range(0, len(operations), FILES_PER_COMMIT):
        commit = _send(api, repo, operations[start : start + FILES_PER_COMMIT], message, commit)
    return commit


def _send(api: Any, repo: str, operations: Sequence[Any], message: str, parent: str) -> str:
    """One commit on top of a parent; repeating is safe: it can be made only once on the same."""
    from huggingface_hub.errors import HfHubHTTPError

    options = {"commit_message": message, "repo_type": "dataset", "parent_commit": parent}
    try:
        return str(patiently(partial(api.create_commit, repo, operations, **options)).oid)
    except HfHubHTTPError as error:
        if error.response.status_code == 412:
            raise _StaleParentError(f"{repo} changed while it was published") from error
        raise


def _check_may_write(
    repo: str, files: set[str], zoos: Sequence[_LocalZoo], remote: Mapping[str, str]
) -> None:
    if INDEX_NAME in files:
        raise ValueError(
            f"{repo} is one flat zoo folder, which takes no other: choose another repo"
        )
    for zoo in zoos:
        there = remote.get(f"{zoo.card.name}/{INDEX_NAME}")
        here = json.loads((zoo.folder / INDEX_NAME).read_text())["shards"]
        if there is not None and _listed(there) != here:
            raise ValueError(
                f"{repo} holds other data as {zoo.card.name!r}: publish changed data under a new "
                "name (name it '...-v2'), or pass overwrite=True to replace it"
            )


def _listed(index: str) -> Any:
    """The files that the text of a `zoo.json` lists; None if it is damaged, which is other data."""
    try:
        data = json.loads(index)
    except (ValueError, RecursionError):
        return None
    return data.get("shards") if isinstance(data, dict) else None


def _move_tag(api: Any, repo: str, tag: str, commit: str) -> None:
    """Let a tag point to a commit; readers take main while there is none, which is the same."""
    refs = patiently(partial(api.list_repo_refs, repo, repo_type="dataset"))
    there = {ref.name: ref.target_commit for ref in refs.tags}
    if there.get(tag) == commit:
        return
    if tag in there:
        patiently(partial(api.delete_tag, repo, tag=tag, repo_type="dataset"))
    options = {"tag": tag, "revision": commit, "repo_type": "dataset", "exist_ok": True}
    patiently(partial(api.create_tag, repo, **options))
