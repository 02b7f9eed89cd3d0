"""The plan of a collection: plain data that names every member, its command, parents and sizes.

`collection.toml` is the plan of the project's own collection.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...zoos.errors import RecipeError, did_you_mean
from .members import Glue, Member, Population, RankingMatrix, read_member

PLAN_PATH = Path(__file__).parent / "collection.toml"


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of zoos to build and publish together.

    Attributes:
        title: title of the card.
        licence: licence of all members, as the Hub names it; "" for none.
        members: members; parents come before their children.
    """

    title: str
    licence: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        """Reject names that the Hub does not take, names given twice, and unknown parents."""
        if not self.members:
            raise RecipeError("a collection needs at least one member")
        earlier: dict[str, Member] = {}
        for member in self.members:
            _check_member(member, earlier)
            earlier[member.name] = member

    @property
    def names(self) -> list[str]:
        """Names of the members."""
        return [member.name for member in self.members]

    def populations(self) -> dict[str, Population]:
        """Models of every member before any training.

        Raises:
            RecipeError: if a recipe is unknown, or has too few models.
        """
        found: dict[str, Population] = {}
        for member in self.members:
            found[member.name] = member.population([found[name] for name in member.parents])
        return found

    def only(self, names: Sequence[str]) -> "Collection":
        """The members of these names, with their parents; all members for no names.

        Raises:
            RecipeError: if a name is unknown.
        """
        if odd := [name for name in names if name not in self.names]:
            raise RecipeError(
                f"no member {odd} in the plan, its members are {self.names}"
                + did_you_mean(odd, self.names)
            )
        wanted = set(names or self.names)
        for member in reversed(self.members):
            if member.name in wanted:
                wanted |= set(member.parents)
        chosen = tuple(member for member in self.members if member.name in wanted)
        return Collection(title=self.title, licence=self.licence, members=chosen)


def load_collection(path: Path | str = PLAN_PATH) -> Collection:
    """Read the plan of a collection, by default of the project's own.

    Raises:
        RecipeError: if there is no such file, or the plan is not valid.
    """
    path = Path(path)
    try:
        return read_collection(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecipeError) as error:
        raise RecipeError(f"{path}: {error}") from error


def read_collection(data: Mapping[str, Any]) -> Collection:
    """Check plain data as the plan of a collection.

    Raises:
        RecipeError: if a key is unknown or missing, a name is taken twice or not fit for the Hub,
            or a parent is not an earlier member.
    """
    known = [field.name for field in fields(Collection)]
    if set(data) != set(known) or not isinstance(data["members"], list):
        raise RecipeError(f"the plan of a collection has the keys {known}, got {sorted(data)}")
    for key in ("title", "licence"):
        if not isinstance(data[key], str):
            raise RecipeError(f"{key} must be a text, got {data[key]!r}")
    members = tuple(read_member(one) for one in data["members"])
    return Collection(title=data["title"], licence=data["licence"], members=members)


def _check_member(member: Member, earlier: Mapping[str, Member]) -> None:
    if not re.fullmatch(r"\w[\w.-]*", member.name, re.ASCII):
        raise RecipeError(
            f"a name must be of letters, digits, '_', '-' and '.', got {member.name!r}"
        )
    if member.name in earlier:
        raise RecipeError(f"two members have the name {member.name!r}: name one of them otherwise")
    most = {"build": 0, RankingMatrix.command: len(member.parents)}.get(member.command, 1)
    if len(member.parents) != most or (member.command != "build" and not member.parents):
        wanted = "at least 1" if member.command == RankingMatrix.command else str(most)
        raise RecipeError(
            f"{member.name!r} is made by {member.command!r}, which takes {wanted} parents, got "
            f"{list(member.parents)}"
        )
    for parent in member.parents:
        if isinstance(earlier.get(parent, member), RankingMatrix | Glue) or parent not in earlier:
            raise RecipeError(
                f"parent {parent!r} of {member.name!r} must be an earlier zoo of the plan, got "
                f"{list(earlier)}"
            )
