"""The rule by kinship: which merge a family gets, from what is known before any merge is evaluated.

The order of the methods was read from val figures of the small benchmark of merging; the full one
scores the rule on other networks, on test.
"""

from dataclasses import dataclass

DUPLICATE = 0.9999  # mean column cosine above which members are the same model
LEAST_SIMILARITY = 0.5  # mean column cosine below which members lie in different basins
RULE_SCALES = (0.3, 0.5, 1.0)  # of a merged task vector; the best on val is taken
KEEP, DATA, BASE, WEIGHTS = "best single", "regmean++", "task_arithmetic", "average"


@dataclass(frozen=True)
class Kinship:
    """What is known of a family.

    Attributes:
        members: number of members.
        similarity: mean column cosine of pairs of members, after alignment if they are aligned.
        base: whether the model is known that all were trained from.
        data: whether every member has train data of its own that are at hand.

    Example:
        >>> from weightzoo.tasks.merge_methods.kinship import Kinship
        >>> Kinship(members=4, similarity=0.96, base=True).method
        'task_arithmetic'
    """

    members: int
    similarity: float
    base: bool = False
    data: bool = False

    @property
    def method(self) -> str:
        """Name of the merge: a method of `METHODS`, RegMean++, a search, or "best single"."""
        return self._decision[0]

    @property
    def reason(self) -> str:
        """The fact that decided, in words."""
        return self._decision[1]

    @property
    def _decision(self) -> tuple[str, str]:
        if self.members < 2:
            return KEEP, "one member"
        if self.similarity > DUPLICATE:
            return KEEP, "duplicates"
        if not self.similarity >= LEAST_SIMILARITY:  # NaN: nothing to compare
            return KEEP, f"similarity below {LEAST_SIMILARITY}: align first"
        if self.data:
            return DATA, "train data of every member"
        if self.base:
            return BASE, "known base"
        return WEIGHTS, "weights alone"
