"""What the rule by kinship would have chosen in a family, and the best merge in hindsight."""

from collections.abc import Callable, Mapping
from typing import Any

from ...tasks.merge_methods.kinship import Kinship
from ...tasks.merging.settings import METHODS
from .report import HINDSIGHT, SINGLE

KNOWN = {"train data known": {"data": True}, "base known": {"base": True}, "weights alone": {}}
RULE = {name: f"rule, {name}" for name in KNOWN}


def rule_rows(rows: Mapping[str, Any], members: int, similarity: float) -> dict[str, Any]:
    """A row of the rule for everything that may be known of a family.

    Args:
        rows: rows of the family.
        members: number of members.
        similarity: mean column cosine of pairs of members.

    Returns:
        Rows by name; those whose merge is not among the rows are left out.
    """
    found = {}
    for name, facts in KNOWN.items():
        method = Kinship(members, similarity, **facts).method
        place = {"best single": SINGLE, "average": "search: average"}.get(method, method)
        if place in rows:
            found[RULE[name]] = dict(rows[place]) | {"pick": place}
    return found


def hindsight_row(
    rows: Mapping[str, Any], test: Callable[[Mapping[str, Any]], float]
) -> dict[str, Any]:
    """The merge that is best on test.

    Args:
        rows: rows of the family.
        test: test score of a row; larger is better.
    """
    merges = [name for name in rows if name in METHODS or name.startswith("search: ")]
    best = max(merges, key=lambda name: test(rows[name]))
    return {HINDSIGHT: dict(rows[best]) | {"pick": best}}
