"""Lineage: where the rows of a zoo come from, as four optional columns.

A fine-tuned, pruned, merged or generated population is a zoo like any other. These columns give the
origin of each row and name its parent row and zoo. A file has all four columns or none; without
them every row was trained from an initial state of its own.

Shape letters: N rows, M models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from .errors import ZooFormatError

RELATIONS = ("trained", "fine-tuned", "pruned", "merged", "generated")
NO_PARENT = -1


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """How a model was made, and from what; every field is a column of the zoo file.

    A parent may be a row, a model (epoch -1), or only a zoo (model and epoch -1), as for a
    merged model with several parents or one drawn from a generator that learned a whole zoo.

    Attributes:
        relation: one of `RELATIONS`; "trained" means from an initial state, without a parent.
        parent_zoo: name of the zoo the parent is in, "" for none.
        parent_model_id: `model_id` there, -1 for none.
        parent_epoch: `epoch` there, -1 for none.
    """

    relation: str = "trained"
    parent_zoo: str = ""
    parent_model_id: int = NO_PARENT
    parent_epoch: int = NO_PARENT

    def __post_init__(self) -> None:
        """Refuse unknown words and contradictions."""
        if self.relation not in RELATIONS:
            raise ZooFormatError(f"relation must be one of {RELATIONS}, got {self.relation!r}")
        if min(self.parent_model_id, self.parent_epoch) < NO_PARENT:
            raise ZooFormatError(f"parent_model_id and parent_epoch must be -1 or more, got {self}")
        named = (self.parent_zoo != "", self.parent_model_id >= 0, self.parent_epoch >= 0)
        if self.relation == "trained" and any(named):
            raise ZooFormatError(f"a row with relation 'trained' has no parent, got {self}")
        if list(named) != sorted(named, reverse=True):
            raise ZooFormatError(
                f"a parent epoch needs a parent model, and that a parent zoo, got {self}"
            )


LINEAGE: dict[str, type] = {field.name: field.type for field in fields(Lineage)}  # type: ignore[misc]


def lineage_columns(lineages: Sequence[Lineage], repeat: int = 1) -> dict[str, np.ndarray]:
    """The four columns of M models.

    Args:
        lineages: one per model, in row order.
        repeat: rows of each model, one after the other.

    Returns:
        (M * repeat,) by name: int64, or str objects.
    """
    dtypes: dict[type, type] = {str: object, int: np.int64}
    return {
        name: np.repeat(np.array([getattr(one, name) for one in lineages], dtypes[kind]), repeat)
        for name, kind in LINEAGE.items()
    }


def check_lineage(columns: Mapping[str, np.ndarray]) -> None:
    """Check the columns of a zoo, if they say anything of lineage.

    Args:
        columns: (N,) each by name; others than the four are not looked at.

    Raises:
        ZooFormatError: if some but not all are there, a relation is unknown, or a row
            contradicts itself.
    """
    if check_lineage_names(columns):
        for values in set(zip(*(columns[name].tolist() for name in LINEAGE), strict=True)):
            Lineage(**dict(zip(LINEAGE, values, strict=True)))


def check_lineage_names(names: Mapping[str, object] | Sequence[str]) -> bool:
    """Whether the columns tell the lineage.

    Raises:
        ZooFormatError: if some of the four are there and others are not.
    """
    missing = [name for name in LINEAGE if name not in names]
    if missing and len(missing) < len(LINEAGE):
        raise ZooFormatError(
            f"lineage takes the columns {list(LINEAGE)} all together, missing are {missing}"
        )
    return not missing
