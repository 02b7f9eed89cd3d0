"""Results of the checks of `weightzoo verify`."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: name of the check, as a statement.
        passed: whether the statement is true; None if it could not be checked.
        detail: findings of the check.
        numbers: findings that are numbers, by name.
    """

    name: str
    passed: bool | None
    detail: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def check(name: str, bad: list[str], detail: str, **numbers: float) -> Check:
    """A passed check if nothing is bad, else a failed one that names the first five faults.

    Args:
        name: name of the check, as a statement.
        bad: faults.
        detail: findings of a passed check.
        **numbers: findings that are numbers.
    """
    numbers |= {"faults": len(bad)}
    if not bad:
        return Check(name, True, detail, numbers)
    more = f"; {len(bad)} in all" if len(bad) > 5 else ""
    return Check(name, False, "; ".join(bad[:5]) + more, numbers)
