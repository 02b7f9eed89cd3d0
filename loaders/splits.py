"""Split expressions: `"train"`, `"train[:50%]"`, `"train[10:20]"`, `"train[:50%]+val"`.

A slice counts models, not rows, in the order in which models appear. All checkpoints of a model
stay together. Percentages are rounded down, so `[:33%]` and `[33%:]` share no model and lose none.

Shape letters: N rows.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ..zoos.format import SPLITS
from ..zoos.index import SPLIT_WORDS

_BOUND = r"(-?\d+%?)?"
_PART = re.compile(rf"([a-z]+)(?:\[{_BOUND}:{_BOUND}\])?")


@dataclass(frozen=True)
class SplitPart:
    """One term of a split expression.

    Attributes:
        split: one of `SPLITS`.
        start: first model, as a number or percentage; None starts at the first model.
        stop: one past the last model, likewise; None stops after the last model.
    """

    split: str
    start: str | None = None
    stop: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the term has no slice."""
        return self.start is None and self.stop is None

    def __str__(self) -> str:
        """The term as it is written in a split expression."""
        return self.split if self.whole else f"{self.split}[{self.start or ''}:{self.stop or ''}]"

    def rows(self, model_id: np.ndarray) -> np.ndarray:
        """Find the rows of the models in the slice.

        Args:
            model_id: model number of every row of the split, (N,).

        Returns:
            Row numbers in ascending order.

        Raises:
            ValueError: if the slice holds no model.
        """
        ids, first, model = np.unique(model_id, return_index=True, return_inverse=True)
        rank = np.empty(len(ids), np.int64)  # order in which each model first appears
        rank[np.argsort(first)] = np.arange(len(ids))
        start, stop, _ = slice(*self._bounds(len(ids))).indices(len(ids))
        if start >= stop:
            raise ValueError(f"split {str(self)!r} is empty: {self.split!r} has {len(ids)} models")
        return np.flatnonzero((rank[model] >= start) & (rank[model] < stop))

    def _bounds(self, models: int) -> tuple[int | None, int | None]:
        return _bound(self.start, models), _bound(self.stop, models)


def parse_split(text: str) -> list[SplitPart]:
    """Read a split expression.

    Args:
        text: names of splits ("validation" on the Hub is "val"), joined by `+`, each with an
            optional slice of models `[start:stop]`, in numbers or percent.

    Raises:
        TypeError: if `text` is no text.
        ValueError: if a name is no split, or a slice is malformed.
    """
    if not isinstance(text, str):
        raise TypeError(f"split must be a text such as 'train' or 'train+val', got {text!r}")
    return [_part(term.strip(), text) for term in text.split("+")]


def _part(term: str, text: str) -> SplitPart:
    match = _PART.fullmatch(term)
    if match is None or match[1] not in SPLIT_WORDS:
        close = get_close_matches(term.partition("[")[0], SPLIT_WORDS, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"split must be one of {SPLITS}, got {text!r}{meant}; write a slice of models as "
            "'train[:50%]' or 'train[10:20]', a sum as 'train+val'"
        )
    for bound in match.groups()[1:]:
        if bound is not None and bound.endswith("%") and not -100 <= int(bound[:-1]) <= 100:
            raise ValueError(f"split {text!r}: percentages must be from -100 to 100, got {bound!r}")
    return SplitPart(SPLIT_WORDS[match[1]], match[2], match[3])


def _bound(bound: str | None, models: int) -> int | None:
    """A bound as a number of models; a negative percentage counts from the end."""
    if bound is None or not bound.endswith("%"):
        return None if bound is None else int(bound)
    percent = int(bound[:-1])
    return (percent if percent >= 0 else 100 + percent) * models // 100
