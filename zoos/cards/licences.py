"""Licences of zoos on their cards: those stated, and those that others hold."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .card_zoo import CardZoo

LICENCE, UNKNOWN_LICENCE = "cc-by-4.0", "unknown"  # of zoos built here; of zoos of others
MIXED_LICENCES = "other"  # the Hub's word where the zoos of a repository differ
_DESCENDED = " Made from an imported zoo: the licence of its publishers applies; cite them."
_IMPORTED = " Imported, not built here: the licence of its publishers applies; cite them."


def lacks_licence(zoo: CardZoo) -> bool:
    """Whether others hold rights in a zoo and no licence is stated."""
    return _own_licence(zoo) == UNKNOWN_LICENCE


def under_licence(zoo: CardZoo, licence: str) -> CardZoo:
    """The same facts with a licence that the publisher states.

    Args:
        zoo: zoo of a card.
        licence: licence as the Hub names it.
    """
    provenance = dict(zoo.header.provenance) | {"licence": licence}
    header: Any = replace(zoo.header, provenance=provenance)
    return replace(zoo, header=header)


def stated_licence(text: str) -> str:
    """The licence in a card's metadata; "" if there is none, or "unknown"."""
    from huggingface_hub import DatasetCard

    licence: Any = DatasetCard(text).data.get("license")
    return "" if licence in (None, UNKNOWN_LICENCE) else str(licence)


def is_imported(zoo: CardZoo) -> bool:
    """Whether a zoo was imported, not built here."""
    return "imported" in zoo.header.provenance


def _descends_from_imported(zoo: CardZoo) -> bool:
    parent = zoo.header.provenance.get("parent")
    return isinstance(parent, dict) and "imported" in parent


def shared_licence(zoos: Sequence[CardZoo]) -> str:
    """The licence as the Hub names it; "unknown" where others hold rights in a zoo."""
    licences = {_own_licence(zoo) for zoo in zoos}
    if len(licences) > 1 and UNKNOWN_LICENCE not in licences:
        return MIXED_LICENCES
    return UNKNOWN_LICENCE if UNKNOWN_LICENCE in licences else licences.pop()


def joint_licence(card: Any, zoos: Sequence[CardZoo]) -> str:
    """The licence of a repository's card with further zoos; that of others is never hidden.

    Args:
        card: present card of the repository, a `DatasetCard`.
        zoos: zoos that it is to describe too.
    """
    current, added = str(card.data.license), shared_licence(zoos)
    if current == added or not any("licence" in zoo.header.provenance for zoo in zoos):
        return current
    names = {zoo.name for zoo in zoos}
    others = [one for one in card.data.get("configs") or [] if one.get("config_name") not in names]
    if not others:
        return added
    return UNKNOWN_LICENCE if UNKNOWN_LICENCE in (current, added) else MIXED_LICENCES


def _own_licence(zoo: CardZoo) -> str:
    """The licence that the zoo states, else that of zoos built here."""
    if isinstance(stated := zoo.header.provenance.get("licence"), str):
        return stated
    foreign = is_imported(zoo) or _descends_from_imported(zoo)
    return UNKNOWN_LICENCE if foreign else LICENCE


def licence_note(zoo: CardZoo) -> str:
    """What a reader must know about the licence of an imported zoo, and of its descendants."""
    if is_imported(zoo):
        return _IMPORTED
    return _DESCENDED if _descends_from_imported(zoo) else ""
