"""Publish zoos on the Hugging Face Hub, checked, with a card, and readable without weightzoo."""

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

FILES_PER_COMMIT = 1000  # largest commit of the client's own uploads; the Hub rejects 25,000


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

    Files are checked, then uploaded, then committed together with the card. The tag of the format
    version is moved last, so that readers see either the new or the previous repository. More than
    `FILES_PER_COMMIT` files take several commits, in which the index of a zoo follows its files and
    the card comes last. After a failure call again: uploaded files are not sent again. Other zoos
    of the repository are kept.

    Args:
        folder: a zoo folder, published under the name of the zoo, or a folder of zoo folders, each
            published under the name of its folder.
        repo_id: repository, "org/name"; created if it does not exist.
        token: token for writing; None takes the token that `hf auth login` saved.
        private: visibility of a new repository; True shows it to its owners only.
        message: commit message; None names the zoos.
        plot: a PNG file for the card, if the folder is one zoo.
        overwrite: replace a zoo of the same name that holds other data.

    Returns:
        Hash of the commit, which can be passed as `revision`.

    Raises:
        ZooNotFoundError: if there is no zoo at the folder.
        ZooFormatError: if a file differs from `zoo.json`.
        ValueError: if a name is not allowed on the Hub, `repo_id` is not "org/name", the repository
            is one flat zoo folder, is public despite `private`, or holds other data under the same
            name.
        HubError: if the Hub cannot be reached or refuses a request.
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
            warnings.warn(f"{error}; trying once more on top of the new commit", stacklevel=2)
            commit = push(message, overwrite)
        _move_tag(api, repo_id, f"v{FORMAT_VERSION}", commit)
    return commit


class _StaleParentError(HubError):
    """The repository has a new commit by somebody else."""


@dataclass(frozen=True, kw_only=True)
class _LocalZoo:
    """A zoo to publish: its folder, its entry in the card and its plot."""

    folder: Path
    card: CardZoo
    plot: Path | None


def _local_zoos(folder: Path, plot: str | Path | None) -> list[_LocalZoo]:
    """The zoos of a folder, after a check of all their files."""
    if (folder / INDEX_NAME).is_file():
        folders = {ZooIndex.read(folder).name: folder}
    else:
        folders = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{INDEX_NAME}"))}
    if not folders:
        raise ZooNotFoundError(
            f"no zoo at {folder}: no {INDEX_NAME} in it or in its sub-folders; build one with "
            "`weightzoo build RECIPE --out FOLDER`"
        )
    if plot and len(folders) > 1:
        raise ValueError(
            f"{folder} holds {len(folders)} zoos and a plot shows one: publish them one by one"
        )
    png = Path(plot) if plot else None
    return [_local_zoo(path, name, png) for name, path in folders.items()]


def _local_zoo(folder: Path, name: str, plot: Path | None) -> _LocalZoo:
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(
            f"a zoo's name on the Hub must be of letters, digits, '_', '-' and '.', got {name!r}"
        )
    index = ZooIndex.read(folder)
    index.open(folder)
    damaged = [
        shard.path for shard in index.shards if file_sha256(folder / shard.path) != shard.sha256
    ]
    if damaged:
        raise ZooFormatError(
            f"{folder}: {damaged} differ from their checksums in {INDEX_NAME}: build the zoo again"
        )
    card = read_card_zoo(folder, index, name, has_plot=plot is not None)
    return _LocalZoo(folder=folder, card=card, plot=plot)


def _files(zoo: _LocalZoo) -> list[Any]:
    """The files to add to the repository for a zoo."""
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
    """Commit files and card on top of the latest commit; return the new commit."""
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
    """Commit on top of a parent; safe to repeat, because a parent takes such a commit only once."""
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
            f"{repo} is one flat zoo folder, which takes no other zoo: choose another repository"
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
    """The files that the text of a `zoo.json` lists; None if it is damaged."""
    try:
        data = json.loads(index)
    except (ValueError, RecursionError):
        return None
    return data.get("shards") if isinstance(data, dict) else None


def _move_tag(api: Any, repo: str, tag: str, commit: str) -> None:
    """Move a tag to a commit; while the tag is missing, readers take main, the same commit."""
    refs = patiently(partial(api.list_repo_refs, repo, repo_type="dataset"))
    there = {ref.name: ref.target_commit for ref in refs.tags}
    if there.get(tag) == commit:
        return
    if tag in there:
        patiently(partial(api.delete_tag, repo, tag=tag, repo_type="dataset"))
    options = {"tag": tag, "revision": commit, "repo_type": "dataset", "exist_ok": True}
    patiently(partial(api.create_tag, repo, **options))
