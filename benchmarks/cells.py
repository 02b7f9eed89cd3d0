"""Cells of the tables of a benchmark: scores of equal fits with different seeds, as text.

tau_b (τ_b) is Kendall's rank correlation with ties.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_DEFINED = "–"
HEADS = {"tau_b": "τ_b", "tau_share": "τ_b / ceiling", "r2": "R²", "mae": "MAE"}
HEADS |= {"mse": "MSE", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Cell:
    """The scores in one table cell, one per seed.

    Attributes:
        scores: scores of the fits that did not diverge.
        diverged: number of fits without a score because they diverged.
    """

    scores: tuple[Mapping[str, Any], ...]
    diverged: int = 0

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN where a seed has no such metric."""
        values = self._values(metric)
        return statistics.fmean(values) if values else math.nan

    def spread(self, metric: str) -> float:
        """Sample standard deviation over the seeds; NaN for fewer than two."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def text(self, metric: str) -> str:
        """Mean ± spread, and the number of fits left out because they diverged."""
        if not math.isfinite(mean := self.mean(metric)):
            return self.note or NOT_DEFINED
        spread = self.spread(metric)
        shown = f"{mean:.3f}" + (f" ± {spread:.3f}" if math.isfinite(spread) else "")
        return noted(shown, self.note)

    @property
    def count(self) -> int:
        """Number of scores."""
        return len(self.scores)

    @property
    def note(self) -> str:
        """Number of fits that diverged, as text; empty for none."""
        return diverged_note([self])

    def part(self, name: str) -> "Cell":
        """The cell with the scores of a part of the rows; empty where a seed has none."""
        parts = [scores.get(name) for scores in self.scores]
        return Cell(tuple(part for part in parts if part), self.diverged)

    def interval(self, metric: str) -> str:
        """The 95 % interval of the first seed as text; a dash where a seed diverged."""
        ends = self.interval_ends(metric)
        return NOT_DEFINED if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"

    def interval_ends(self, metric: str) -> tuple[float, float] | None:
        """Ends of the 95 % interval of the first seed; None where a seed diverged."""
        ends = (self.scores[0].get("intervals") or {}).get(metric) if self.scores else None
        if not ends or None in ends or self.diverged:
            return None
        return float(ends[0]), float(ends[1])

    def _values(self, metric: str) -> list[float]:
        values = [scores.get(metric) for scores in self.scores]
        return [] if None in values else [float(value) for value in values if value is not None]


def cell(runs: Iterable[Mapping[str, Any]], tested: str, **wanted: Any) -> Cell:
    """The scores of the runs with the wanted values, on one tested zoo.

    Args:
        runs: runs of a result.
        tested: name of the tested zoo.
        **wanted: required values: `predictor` by name, `sources` as a list, `target`, `fraction`.
    """
    found = [run for run in runs if all(value_of(run, key) == wanted[key] for key in wanted)]
    return Cell(
        tuple(run["scores"][tested] for run in found if tested in run["scores"]),
        sum(tested in run.get("diverged", {}) for run in found),  # older results have none
    )


def diverged_note(cells: Sequence[Cell]) -> str:
    """Number of fits of some cells that diverged, as text; empty for none."""
    diverged = sum(found.diverged for found in cells)
    return (
        f"{diverged} of {diverged + sum(one.count for one in cells)} diverged" if diverged else ""
    )


def value_of(run: Mapping[str, Any], key: str) -> Any:
    """A field of a run; for the predictor, its name.

    Args:
        run: run of a result.
        key: name of the field.
    """
    return run["predictor"]["name"] if key == "predictor" else run[key]


def distinct(runs: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """The values of a field in order of first appearance.

    Args:
        runs: runs of a result.
        key: name of the field.
    """
    values: list[Any] = []
    for run in runs:
        if (value := value_of(run, key)) not in values:
            values.append(value)
    return values


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with right-aligned numbers.

    Args:
        head: titles of the columns.
        rows: cells of each row, the first being its name.
    """
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    return "\n".join([*lines, *map(_line, rows)])


def noted(shown: str, note: str) -> str:
    """A text with a note in brackets, unless the note is empty.

    Args:
        shown: text.
        note: note.
    """
    return f"{shown} ({note})" if note else shown


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
