"""The outcome of a property prediction: numbers by predictor, as Markdown and as JSON."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..scoring.metrics import Scores, tau_share

NOT_DEFINED = "–"


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Size of one split: models and rows used, and rows left out because unusable."""

    models: int
    rows: int
    dropped_rows: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictorResult:
    """One predictor over all seeds.

    Attributes:
        name: of the predictor.
        seeds: one fit each; a single one if the seed changes nothing.
        scores: on the test split, by seed.
        train_seconds: time to fit, by seed.
        predicted: (N,), predictions for the test split with the first seed.
    """

    name: str
    seeds: tuple[int, ...]
    scores: tuple[Scores, ...]
    train_seconds: tuple[float, ...]
    predicted: np.ndarray

    def mean(self, metric: str) -> float:
        """Mean of "tau_b", "r2" or "mae" over the seeds."""
        return statistics.fmean(getattr(scores, metric) for scores in self.scores)

    def spread(self, metric: str) -> float:
        """Sample standard deviation over the seeds; NaN for a single one."""
        values = [getattr(scores, metric) for scores in self.scores]
        if len(values) < 2 or not all(map(math.isfinite, values)):
            return math.nan
        return statistics.stdev(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class PropertyReport:
    """What `predict_property` found.

    Attributes:
        target: the predicted column.
        rows: "all" or "last" checkpoints.
        tau_ceiling: largest tau_b of a predictor without ties on this test split.
        counts: by split.
        results: by predictor, in the order given.
        true: (N,), the target on the test split.
    """

    target: str
    rows: str
    tau_ceiling: float
    counts: dict[str, SplitCounts]
    results: tuple[PredictorResult, ...]
    true: np.ndarray

    def to_markdown(self) -> str:
        """A table with one line per predictor, and notes on what it rests on."""
        head = ["predictor", "τ_b", "of ceiling", "R²", "MAE", "train s", "fits"]
        lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
        lines += [_line(self._cells(result)) for result in self.results]
        return "\n".join([*lines, "", *self._notes()]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Plain data without the predictions; a number that is not defined is None."""
        return {
            "target": self.target,
            "rows": self.rows,
            "tau_ceiling": self.tau_ceiling,
            "counts": {split: asdict(counts) for split, counts in self.counts.items()},
            "predictors": [self._result_json(result) for result in self.results],
        }

    def _cells(self, result: PredictorResult) -> list[str]:
        return [
            result.name,
            _with_spread(result, "tau_b"),
            _number(tau_share(result.mean("tau_b"), self.tau_ceiling)),
            _with_spread(result, "r2"),
            _with_spread(result, "mae"),
            f"{statistics.fmean(result.train_seconds):.1f}",
            str(len(result.seeds)),
        ]

    def _notes(self) -> list[str]:
        sizes = ", ".join(
            f"{split} {counts.models} models / {counts.rows} rows"
            for split, counts in self.counts.items()
        )
        dropped = sum(counts.dropped_rows for counts in self.counts.values())
        notes = [
            f"Target {self.target}, {self.rows} checkpoints, split by model: {sizes}; {dropped} "
            "rows left out (diverged, or not finite).",
            f"Ceiling of τ_b on the test split, for predictors without ties: "
            f"{self.tau_ceiling:.3f}; "
            "one that ties where the truth does can exceed it.",
            "Means over fits with different seeds, ± their standard deviation.",
        ]
        if any(math.isnan(result.mean("tau_b")) for result in self.results):
            notes.append(f"{NOT_DEFINED}: equal predictions for all rows have no τ_b.")
        return notes

    def _result_json(self, result: PredictorResult) -> dict[str, Any]:
        data: dict[str, Any] = {"name": result.name, "seeds": list(result.seeds)}
        for metric in ("tau_b", "r2", "mae"):
            data[metric] = _defined(result.mean(metric))
            data[f"{metric}_spread"] = _defined(result.spread(metric))
        data["tau_share_of_ceiling"] = _defined(tau_share(result.mean("tau_b"), self.tau_ceiling))
        data["train_seconds"] = list(result.train_seconds)
        return data


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOT_DEFINED


def _with_spread(result: PredictorResult, metric: str) -> str:
    mean, spread = _number(result.mean(metric)), result.spread(metric)
    return f"{mean} ± {spread:.3f}" if math.isfinite(spread) else mean


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
