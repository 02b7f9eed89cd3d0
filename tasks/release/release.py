"""The command `weightzoo release`: build a collection, describe it, and push it to the Hub."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...loaders.hub.publishing import check_repo_name, check_token, push_collection
from ...loaders.hub.sums import SUMS_NAME, write_sums
from ...zoos.cards.card import with_facts
from ...zoos.cards.card_zoo import read_card_zoo
from ...zoos.cards.metadata import CARD_NAME
from ...zoos.cards.section import PLOT_NAME
from ...zoos.disk import write_whole
from ...zoos.errors import BuildError
from ...zoos.index import INDEX_NAME, ZooIndex, file_sha256
from ...zoos.provenance import commit, package_version
from ...zoos.strict_json import json_text
from .card import PLACEHOLDER, citation_text, licence_text, release_card
from .collection import Collection, load_collection
from .units import Unit, provide_unit

RELEASE_NAME, LICENCE_NAME, CITATION_NAME = "release.json", "LICENSE", "CITATION.cff"


def release_collection(
    folder: Path | str,
    plan: Collection | None = None,
    *,
    only: Sequence[str] = (),
    push: str | None = None,
    private: bool = False,
    token: str | bool | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Build and describe a collection of zoos, and push it to one dataset repository.

    Every member is a unit that is made, verified and plotted, then recorded. A release that was
    killed continues in the unit that it was in, when it is called again with the same arguments.
    After the last unit, card, licence, citation, `release.json` and `SHA256SUMS` are written.

    Args:
        folder: folder of the collection; created if it does not exist.
        plan: plan of the collection; None takes the project's own.
        only: names of the members to build, with the parents they need; empty for all.
        push: repository to publish in, "org/name"; None publishes nothing.
        private: visibility of a new repository; True shows it to its owners only.
        token: token for writing; None takes the token that `hf auth login` saved.
        workers: number of worker processes; None takes one per core.
        progress: whether to show progress on stderr.

    Returns:
        Plain data: "path", "members", "bytes" and "commit" ("" without a push).

    Raises:
        ValueError: if `push` is not "org/name", is combined with `only`, or the plan states no
            licence.
        RecipeError: if a name of `only` is not in the plan.
        BuildError: if a member cannot be made, does not pass its checks, or its folder holds
            something else.
        HubError: if there is no token or it may not write to the repository, or the Hub cannot be
            reached.
    """
    folder, plan = Path(folder), plan or load_collection()
    chosen = plan.only(only)
    if push is not None:
        _check_push(push, only, plan)
        check_token(token)
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder} is a file: name a folder for the release")
    folder.mkdir(parents=True, exist_ok=True)
    units = _provide(chosen, folder, workers, progress)
    size = describe_collection(folder, chosen, units, push or PLACEHOLDER)
    sent = push_collection(folder, push, private=private, token=token) if push else ""
    return {"path": str(folder), "members": chosen.names, "bytes": size, "commit": sent}


def describe_collection(
    folder: Path, collection: Collection, units: Mapping[str, Unit], repo: str
) -> int:
    """Write card, licence, citation, `release.json` and `SHA256SUMS`; the last one goes last.

    Args:
        folder: folder of the collection.
        collection: plan of the members that are built.
        units: records of these members.
        repo: repository on the Hub, "org/name".

    Returns:
        Size of all listed files, in bytes.
    """
    (folder / SUMS_NAME).unlink(missing_ok=True)
    card = release_card(collection, repo, units)
    zoos = [
        read_card_zoo(own, ZooIndex.read(own), name, has_plot=(own / PLOT_NAME).is_file())
        for name in collection.names
        if ((own := folder / name) / INDEX_NAME).is_file()
    ]
    write_whole(folder / CARD_NAME, with_facts(card, zoos).encode() if zoos else card.encode())
    texts = {
        LICENCE_NAME: licence_text(collection),
        CITATION_NAME: citation_text(collection, repo),
        RELEASE_NAME: _release_text(collection, units),
    }
    sums = {path: sha for unit in units.values() for path, (_, sha) in unit.files.items()}
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
        sums[name] = file_sha256(folder / name)
    write_sums(folder, sums)
    return sum((folder / path).stat().st_size for path in sums)


def _provide(
    collection: Collection, folder: Path, workers: int | None, progress: bool
) -> dict[str, Unit]:
    """Make every member that is not done, parents first."""
    populations, units = collection.populations(), dict[str, Unit]()
    for number, member in enumerate(collection.members, 1):
        if progress:
            count = len(collection.members)
            print(f"member {number} of {count}: {member.name}", file=sys.stderr)
        units[member.name] = provide_unit(
            member, folder, populations[member.name], workers, progress
        )
    return units


def _check_push(repo: str, only: Sequence[str], plan: Collection) -> None:
    """Reject a push that cannot succeed, before hours of building."""
    check_repo_name(repo)
    if only:
        raise ValueError("a release is published whole: leave out --only, or --push")
    if not plan.licence:
        raise ValueError(
            "the plan states no licence, and data without one may not be used: write `licence` "
            "into the plan before a push"
        )


def _release_text(collection: Collection, units: Mapping[str, Unit]) -> str:
    """Contents of `release.json`: versions, plan and measurements of every member."""
    data = {
        "title": collection.title,
        "licence": collection.licence,
        "weightzoo": package_version(),
        "commit": commit(),
        "members": {name: asdict(unit) for name, unit in units.items()},
    }
    return json_text(data, indent=1) + "\n"
