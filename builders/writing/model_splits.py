"""How the models of a zoo that a user writes are given splits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...zoos.format import SPLITS
from ...zoos.splits import draw_splits

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class SplitRule:
    """How models are given splits.

    Attributes:
        seed: seed of the draw.
        fractions: share of each split.
    """

    seed: int = 0
    fractions: dict[str, float] = field(default_factory=lambda: dict(FRACTIONS))

    @classmethod
    def of(cls, splits: Any) -> "SplitRule":
        """Read what a user says of splits.

        Args:
            splits: a seed, a mapping of shares by split (with an optional "seed"), or None.

        Raises:
            TypeError: if it is of another type.
            ValueError: if a name is no split, or the shares are none.
        """
        if splits is None:
            return cls()
        if isinstance(splits, int) and not isinstance(splits, bool) and splits >= 0:
            return cls(seed=splits)
        if not isinstance(splits, Mapping):
            raise TypeError(
                "splits must be a seed from 0, a dict of shares such as "
                f"{{'train': 0.7, 'val': 0.15, 'test': 0.15}}, or None, got {splits!r}"
            )
        shares = {key: value for key, value in splits.items() if key != "seed"}
        if odd := sorted(str(key) for key in set(shares) - set(SPLITS)):
            raise ValueError(f"splits must have keys of {SPLITS}, got {odd}")
        values = list(shares.values())
        if not values or min(values) < 0 or not math.isclose(sum(values), 1.0):
            raise ValueError(f"shares of splits must be from 0 and sum to 1, got {shares}")
        return cls(int(splits.get("seed", 0)), {key: float(shares[key]) for key in shares})

    def draw(self, model_ids: Sequence[int]) -> dict[int, str]:
        """The split of each model; does not depend on the order of the models."""
        ids = sorted(set(model_ids))
        drawn = draw_splits(len(ids), self.fractions, np.random.default_rng(self.seed))
        return dict(zip(ids, drawn, strict=True))

    def to_json(self) -> dict[str, Any]:
        """What the header says."""
        return {"by": "model", "fractions": self.fractions, "seed": self.seed}
