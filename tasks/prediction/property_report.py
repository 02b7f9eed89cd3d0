"""The results of a property prediction by predictor, as Markdown and as JSON.

tau_b is Kendall's rank correlation corrected for ties; R2 is the coefficient of determination; MAE
is the mean absolute error.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...zoos.protocols.protocol import protocol_notes
from ..scoring.accuracy_ceilings import AccuracyCeilings
from ..scoring.metrics import Scores, tau_share

NOT_DEFINED = "–"


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Size of one split.

    Attributes:
        models: number of models used.
        rows: number of rows used.
        dropped_rows: number of rows left out because they cannot be used.
    """

    models: int
    rows: int
    dropped_rows: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictorResult:
    """Results of one predictor over all seeds.

    Attributes:
        name: name of the predictor.
        seeds: seeds of the fits; a single one for a predictor without randomness.
        scores: scores on the test split, by seed.
        train_seconds: seconds of the fit, by seed.
        predicted: predictions for the test split with the first seed, (N,).
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
        """Sample standard deviation over the seeds; NaN for a single seed."""
        values = [getattr(scores, metric) for scores in self.scores]
        if len(values) < 2 or not all(map(math.isfinite, values)):
            return math.nan
        return statistics.stdev(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class PropertyReport:
    """Results of `predict_property`.

    Attributes:
        target: name of the predicted column.
        rows: checkpoints used, "all" or "last".
        tau_ceiling: largest tau_b of a predictor without ties on this test split.
        counts: size of each split.
        results: results of each predictor, in the given order.
        true: target on the test split, (N,).
        accuracy: ceilings of test accuracy on the test split; None for another target.
        splitting: description of the zoo's splits, with the name of a published protocol.

    Example:
        >>> import numpy as np
        >>> from weightzoo.tasks import PropertyReport
        >>> from weightzoo.tasks.prediction.property_report import SplitCounts
        >>> report = PropertyReport(
        ...     target="test_accuracy",
        ...     rows="last",
        ...     tau_ceiling=1.0,
        ...     counts={"test": SplitCounts(models=3, rows=3, dropped_rows=0)},
        ...     results=(),
        ...     true=np.array([0.1, 0.2, 0.3]),
        ... )
        >>> report.to_json()["counts"]
        {'test': {'models': 3, 'rows': 3, 'dropped_rows': 0}}
    """

    target: str
    rows: str
    tau_ceiling: float
    counts: dict[str, SplitCounts]
    results: tuple[PredictorResult, ...]
    true: np.ndarray
    accuracy: AccuracyCeilings | None = None
    splitting: Mapping[str, Any] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """A table with one line per predictor, and notes on data and scores."""
        head = ["predictor", "τ_b", "of ceiling", "R²", "MAE", "train s", "fits"]
        lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
        lines += [_line(self._cells(result)) for result in self.results]
        return "\n".join([*lines, "", *self._notes()]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Plain data without the predictions; an undefined number is None."""
        return {
            "target": self.target,
            "rows": self.rows,
            "splitting": dict(self.splitting),
            "tau_ceiling": self.tau_ceiling,
            "counts": {split: asdict(counts) for split, counts in self.counts.items()},
            "predictors": [self._result_json(result) for result in self.results],
        } | ({} if self.accuracy is None else {"accuracy": asdict(self.accuracy)})

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
            f"Ceiling of τ_b (Kendall's rank correlation) on the test split for predictors without "
            f"ties: {self.tau_ceiling:.3f}; a predictor with ties can exceed it.",
            *self._accuracy_notes(),
            "MAE: mean absolute error. Scores are means over fits with different seeds, ± their "
            "standard deviation.",
            *(f"{line[0].upper()}{line[1:]}." for line in protocol_notes(self.splitting)),
        ]
        if any(math.isnan(result.mean("tau_b")) for result in self.results):
            notes.append(f"{NOT_DEFINED}: τ_b is undefined for equal predictions in all rows.")
        return notes

    def _accuracy_notes(self) -> list[str]:
        """What test accuracy can be predicted to at all, as far as it is known."""
        found, notes = self.accuracy, list[str]()
        if found is not None and found.measurement is not None:
            notes.append(
                f"Measurement ceiling of τ_b: {found.measurement:.3f}, expected between two draws "
                f"of the same networks' accuracy on {found.images} test images."
            )
        if found is not None and found.oracle is not None:
            notes.append(f"Oracle, accuracy on val images: τ_b {found.oracle:.3f}.")
        if found is not None and found.above_chance is not None:
            notes.append(f"Above chance: {found.above_chance:.0%} of the test rows.")
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
