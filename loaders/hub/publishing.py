"""Publish zoos on the Hugging Face Hub, checked, with a card, and readable without weightzoo."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...zoos.cards.card import repo_card
from ...zoos.cards.card_zoo import CardZoo, read_card_zoo
from ...zoos.cards.licences import UNKNOWN_LICENCE, lacks_licence, stated_licence, under_licence
from ...zoos.cards.metadata import CARD_NAME
from ...zoos.cards.section import PLOT_NAME
from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.format import FORMAT_VERSION
from ...zoos.hub.requests import HubError, hub_errors, patiently
from ...zoos.index import INDEX_NAME, ZooIndex, file_sha256
from ...zoos.mixed_format import read_index
from .sums import SUMS_NAME, damaged_by_sums, read_sums

FILES_PER_COMMIT = 1000  # largest commit of the client's own uploads; the Hub rejects 25,000


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str | None = None,
    plot: str | Path | None = None,
    licence: str | None = None,
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
        licence: licence of the publishers of an imported zoo, as the Hub names it, such as "mit";
            needed where the zoo states none.
        overwrite: replace a zoo of the same name that holds other data.

    Returns:
        Hash of the commit, which can be passed as `revision`.

    Raises:
        ZooNotFoundError: if there is no zoo at the folder.
        ZooFormatError: if a file differs from `zoo.json`.
        ValueError: if a name is not allowed on the Hub, `repo_id` is not "org/name", the repository
            is one flat zoo folder, is public despite `private`, or holds other data under the same
            name; or an imported zoo states no licence and none is given.
        HubError: if the Hub cannot be reached or refuses a request.
    """
    check_repo_name(repo_id)
    zoos = [_with_licence(zoo, licence) for zoo in _local_zoos(Path(folder), plot)]
    upload = _Upload(
        zoos={zoo.card.name: zoo.folder for zoo in zoos},
        files={path: file for zoo in zoos for path, file in _files(zoo).items()},
        card=partial(repo_card, repo_id, [zoo.card for zoo in zoos]),
        whole=False,
    )
    message = message or f"Publish {', '.join(upload.zoos)}"
    return _publish(upload, repo_id, token, private, message, overwrite)


def push_collection(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool = False,
    message: str | None = None,
    overwrite: bool = False,
) -> str:
    """Publish a finished collection: the files that SHA256SUMS lists, and its card as it is.

    Files are checked against SHA256SUMS first. Uploads, commits and the tag are made as in
    `push_to_hub`, so that a push that was stopped continues when it is called again.

    Args:
        folder: collection with zoo folders, `README.md` and `SHA256SUMS`, see `sums.write_sums`.
        repo_id: repository, "org/name"; created if it does not exist. It holds this collection
            alone.
        token: token for writing; None takes the token that `hf auth login` saved.
        private: visibility of a new repository; True shows it to its owners only.
        message: commit message; None names the zoos.
        overwrite: replace zoos that hold other data, and remove zoos of other collections.

    Returns:
        Hash of the commit, which can be passed as `revision`.

    Raises:
        ZooNotFoundError: if SHA256SUMS is missing, as in a collection that is half done.
        ZooFormatError: if a file is missing or differs from SHA256SUMS.
        ValueError: if the card states no licence, `repo_id` is not "org/name", or the repository
            holds other zoos, or other data under the same names.
        HubError: if the Hub cannot be reached, or the token may not write to the repository.
    """
    folder = Path(folder)
    check_repo_name(repo_id)
    sums = read_sums(folder)
    if damaged := damaged_by_sums(folder, sums):
        raise ZooFormatError(
            f"{folder}: {damaged[:5]} are missing or differ from {SUMS_NAME}: delete their folders "
            "and release again"
        )
    text = (folder / CARD_NAME).read_text(encoding="utf-8")
    if not stated_licence(text):
        raise ValueError(
            f"{folder / CARD_NAME} states no licence, and data without one may not be used: write "
            "`license:` into its metadata, or `licence` into the plan of the release"
        )
    zoos = [path.split("/")[0] for path in sums if path.endswith(f"/{INDEX_NAME}")]
    upload = _Upload(
        zoos={name: folder / name for name in zoos},
        files={path: folder / path for path in (*sums, SUMS_NAME)},
        card=lambda _: text,
        whole=True,
    )
    message = message or f"Publish {', '.join(zoos)}"
    return _publish(upload, repo_id, token, private, message, overwrite)


def check_repo_name(repo_id: str) -> None:
    """Reject a name that is not "org/name".

    Raises:
        ValueError: if it is not.
    """
    if repo_id.count("/") != 1:
        raise ValueError(f"repo must be 'org/name', got {repo_id!r}")


def check_token(token: str | bool | None) -> None:
    """Reject a push without any token, before long work.

    Raises:
        HubError: if no token is given or saved.
    """
    from huggingface_hub import get_token

    if token is False or (token in (None, True) and get_token() is None):
        raise HubError(
            "a push needs a token of the Hub that may write: log in with `hf auth login`, or set "
            "HF_TOKEN"
        )


@dataclass(frozen=True, kw_only=True)
class _Upload:
    """Contents of a push.

    Attributes:
        zoos: zoo folder by name.
        files: local file by path in the repository, without the card.
        card: function from the repository's card, or None, to the new one.
        whole: whether the repository shall hold nothing else.
    """

    zoos: Mapping[str, Path]
    files: Mapping[str, Path]
    card: Callable[[str | None], str]
    whole: bool


def _publish(
    upload: _Upload,
    repo: str,
    token: str | bool | None,
    private: bool,
    message: str,
    overwrite: bool,
) -> str:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    push = partial(_commit, api, repo, upload)
    with hub_errors(repo), _write_access(repo):
        _create_repo(api, repo, private)
        try:
            commit = push(message, overwrite)
        except _StaleParentError as error:
            warnings.warn(f"{error}; trying once more on top of the new commit", stacklevel=3)
            commit = push(message, overwrite)
        _move_tag(api, repo, f"v{FORMAT_VERSION}", commit)
    return commit


@contextmanager
def _write_access(repo: str) -> Iterator[None]:
    """Say what to do if the Hub does not let the token write; it answers so before any upload."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (401, 403) or isinstance(error, GatedRepoError):
            raise
        reason = " ".join(str(error).split())
        raise HubError(
            f"the Hub does not let you write to {repo}: log in with `hf "
            "auth login` and a token that may write there, check the organisation, or choose "
            f"another repository ({reason})"
        ) from error


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
        folders = {read_index(folder).name: folder}
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
    index = read_index(folder)
    if isinstance(index, ZooIndex):
        index.open(folder)
    if missing := [one.path for one in index.shards if not (folder / one.path).is_file()]:
        raise ZooNotFoundError(f"{folder} lacks {missing[:5]}: copy or build the zoo again")
    damaged = [
        shard.path for shard in index.shards if file_sha256(folder / shard.path) != shard.sha256
    ]
    if damaged:
        raise ZooFormatError(
            f"{folder}: {damaged} differ from their checksums in {INDEX_NAME}: build the zoo again"
        )
    card = read_card_zoo(folder, index, name, has_plot=plot is not None)
    return _LocalZoo(folder=folder, card=card, plot=plot)


def _with_licence(zoo: _LocalZoo, licence: str | None) -> _LocalZoo:
    """The zoo with its licence, which must be known if others hold rights in it."""
    if not lacks_licence(zoo.card):
        return zoo
    if not licence or licence == UNKNOWN_LICENCE:
        raise ValueError(
            f"the zoo {zoo.card.name!r} holds networks of others and states no licence, and data "
            "without one may not be used: ask its publishers, and give their licence as the Hub "
            'names it, licence="mit" (on the command line --licence mit)'
        )
    return replace(zoo, card=under_licence(zoo.card, licence))


def _files(zoo: _LocalZoo) -> dict[str, Path]:
    """The files of a zoo by path in the repository."""
    names = [shard.path for shard in zoo.card.index.shards]
    paths = {name: zoo.folder / name for name in [*names, INDEX_NAME]}
    if zoo.plot:
        paths[PLOT_NAME] = zoo.plot
    return {f"{zoo.card.name}/{name}": path for name, path in paths.items()}


def _create_repo(api: Any, repo: str, private: bool) -> None:
    options = {"repo_type": "dataset", "private": private or None, "exist_ok": True}
    patiently(partial(api.create_repo, repo, **options))
    if private and not patiently(partial(api.dataset_info, repo)).private:
        raise ValueError(
            f"{repo} exists and is public: make it private in its settings, or choose another name"
        )


def _commit(api: Any, repo: str, upload: _Upload, message: str, overwrite: bool) -> str:
    """Commit files and card on top of the latest commit; return the new commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    info = patiently(partial(api.dataset_info, repo))
    files = {file.rfilename for file in info.siblings or ()}
    get = partial(api.hf_hub_download, repo, repo_type="dataset", revision=info.sha)
    remote = {
        path: Path(patiently(partial(get, path))).read_text(errors="replace")
        for path in files & {CARD_NAME, *(f"{name}/{INDEX_NAME}" for name in upload.zoos)}
    }
    _check_not_flat(repo, files)
    if not overwrite:
        _check_may_write(repo, files, upload, remote)
    text = upload.card(remote.get(CARD_NAME))
    operations: list[Any] = [CommitOperationAdd(path, file) for path, file in upload.files.items()]
    operations.append(CommitOperationAdd(CARD_NAME, text.encode()))
    operations += [CommitOperationDelete(path) for path in _stale(files, upload)]
    commit = str(info.sha)
    for start in range(0, len(operations), FILES_PER_COMMIT):
        commit = _send(api, repo, operations[start : start + FILES_PER_COMMIT], message, commit)
    return commit


def _stale(files: set[str], upload: _Upload) -> list[str]:
    """Files of the repository to delete: those in folders of the upload that it does not have."""
    folders = {path.split("/")[0] for path in files if path.endswith(f"/{INDEX_NAME}")}
    own = {path.split("/")[0] for path in upload.files if "/" in path} | set(upload.zoos)
    own |= folders if upload.whole else set()
    left = sorted(files - set(upload.files))
    return [path for path in left if "/" in path and path.split("/")[0] in own]


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


def _check_not_flat(repo: str, files: set[str]) -> None:
    if INDEX_NAME in files:
        raise ValueError(
            f"{repo} is one flat zoo folder, which takes no other zoo: choose another repository"
        )


def _check_may_write(
    repo: str, files: set[str], upload: _Upload, remote: Mapping[str, str]
) -> None:
    for name, folder in upload.zoos.items():
        there = remote.get(f"{name}/{INDEX_NAME}")
        here = _listed((folder / INDEX_NAME).read_text())
        if there is not None and _listed(there) != here:
            raise ValueError(
                f"{repo} holds other data as {name!r}: publish changed data under a new "
                "name (name it '...-v2'), or pass overwrite=True to replace it"
            )
    held = {path.split("/")[0] for path in files if path.endswith(f"/{INDEX_NAME}")}
    if upload.whole and (others := sorted(held - set(upload.zoos))):
        raise ValueError(
            f"{repo} holds the zoos {others}, which are not in this collection: choose another "
            "repository, or pass overwrite=True to remove them"
        )


def _listed(index: str) -> Any:
    """The files that the text of a `zoo.json` lists; None if it is damaged."""
    try:
        data = json.loads(index)
    except (ValueError, RecursionError):
        return None
    return data.get("shards", data.get("files")) if isinstance(data, dict) else None


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
