"""Comparisons that were named before any run, with intervals that are corrected for their number.

Shape letters: T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...tasks.scoring.ranks import Difference, difference
from .referee import FIXED, drawn_families

CLAIMS = (
    ("logme", FIXED),
    ("prior + logme", FIXED),
    ("prior + all, learned", FIXED),
    ("model-spider", FIXED),
    ("model-spider", "model-spider, mean label"),
    ("model-spider", "model-spider, task alone"),
)
"""Pairs of rankers, compared by weighted tau under both ways of holding out."""
OOD_CLAIMS = (
    ("zood-discriminability", FIXED),
    ("zood-discriminability", "logme"),
    ("zood-ranks", "zood-discriminability"),
    ("prior + logme", FIXED),
)
"""The same on unseen domains: what the two terms of ZooD add."""
ACCURACY_CLAIMS = (
    ("fine-tuned: first by zood-ranks", "fine-tuned: first by fixed order"),
    ("fine-tuned: first by prior + logme", "fine-tuned: first by fixed order"),
    ("head on the first 3 by logme, all features", "fine-tuned: first by logme"),
    (
        "head on the first 3 by logme, selected features",
        "head on the first 3 by logme, all features",
    ),
    ("head on the first 3 by logme, all features", "head on random 3, all features"),
    ("CORAL, first by logme", "ERM, first by logme"),
    ("weight averaging, first by logme", "ERM, first by logme"),
)
"""Pairs of choices, compared by accuracy on the unseen domain."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One named comparison.

    Attributes:
        first: ranker or choice of the claim.
        second: ranker or choice that it is compared with.
        under: way of holding truth out; "" where nothing was held out.
        difference: mean of first minus second over targets, with its interval.
    """

    first: str
    second: str
    under: str
    difference: Difference

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.difference.low > 0:
            return "higher"
        return "lower" if self.difference.high < 0 else "no difference shown"


def compare(
    pairs: Sequence[tuple[str, str]],
    values: dict[tuple[str, str], np.ndarray],
    families: Sequence[str],
) -> list[Claim]:
    """Compare named pairs; the bootstrap draws whole families, or targets of too few families.

    Args:
        pairs: names of the pairs.
        values: a measure (T,) by way of holding out and name; a pair without values is left out.
        families: family of each target.
    """
    asked = [
        (way, first, second)
        for way in dict.fromkeys(way for way, _ in values)
        for first, second in pairs
        if (way, first) in values and (way, second) in values
    ]
    return [
        Claim(
            first=first,
            second=second,
            under=way,
            difference=difference(
                values[way, first],
                values[way, second],
                families=drawn_families(families),
                comparisons=len(asked),
            ),
        )
        for way, first, second in asked
    ]


def claims_text(claims: Sequence[Claim], measure: str, families: Sequence[str]) -> str:
    """Markdown table of the comparisons.

    Args:
        claims: comparisons, not empty.
        measure: name of what was compared.
        families: family of each target.
    """
    lines = [
        f"| first | second | held out | {measure}: first - second | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for claim in claims:
        one = claim.difference
        interval = f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        cells = [claim.first, claim.second, claim.under or "-", interval, claim.verdict]
        lines.append("| " + " | ".join(cells) + " |")
    count = claims[0].difference.comparisons
    note = (
        "Pairs were named before the run. 95 % bootstrap intervals "
        f"{interval_note(families)}, corrected for {count} comparisons (Bonferroni)."
    )
    return "\n".join([*lines, "", note])


def interval_note(families: Sequence[str]) -> str:
    """What the intervals of named comparisons are drawn over.

    Args:
        families: family of each target.
    """
    count = len(set(families))
    if drawn_families(families) is None:
        return (
            f"over targets, because {count} families are too few to draw from: they hold for these "
            "image sets alone"
        )
    return f"over {count} families of targets, which are few: they are rather too narrow"
