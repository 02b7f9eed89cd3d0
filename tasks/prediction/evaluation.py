"""The command `weightzoo evaluate`: a trained model scored on a zoo that it never saw.

tau_b is Kendall's rank correlation corrected for ties; R2 is the coefficient of determination; MAE
is the mean absolute error.

Shape letters: N rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...loaders import ZooDataset, concatenate_zoos
from ...zoos.protocols.protocol import protocol_notes
from ...zoos.strict_json import finite_or_null
from ..pretrained import Model, from_pretrained
from ..scoring.evaluator import Evaluator, evaluation_inputs
from ..scoring.metrics import accuracy, balanced_accuracy, mae, mse, r2
from ..scoring.targets import is_category
from ..training.fingerprints import row_fingerprints
from .property_prediction import usable_rows
from .trained import best_constant, datasets_of, predicted_rows

LEAST_ROWS = 3
_DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Rows of a zoo that the model saw in its training.

    Attributes:
        is_known: whether the model lists what it saw.
        rows: number of rows that it saw.
        models: number of models with such a row.
    """

    is_known: bool
    rows: int = 0
    models: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one model on one zoo.

    Attributes:
        model: name of the model.
        zoo: name of the zoo.
        target: name of the predicted column.
        dropped_rows: rows left out because they cannot be predicted or scored.
        scores: scores of the model, see `Evaluator.eval`.
        baselines: scores by name of the constants that the model is compared with.
        seen: rows that the model saw in its training.
        unseen_scores: scores on the models it did not see, if it saw some but not all; else None.
        splitting: description of the splits of the zoo.
    """

    model: str
    zoo: str
    target: str
    dropped_rows: int
    scores: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, float]]
    seen: Seen
    unseen_scores: Mapping[str, Any] | None
    splitting: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data: dict[str, Any] = finite_or_null(asdict(self))
        return data

    def to_text(self) -> str:
        """A table of the model and the constants, and notes, as Markdown."""
        names = ["tau_b", "r2", "mae"] if "tau_b" in self.scores else _CLASS_METRICS
        head = ["predictor", *names]
        rows = [self._row(self.model, self.scores, names)]
        if self.unseen_scores is not None:
            rows.append(self._row(f"{self.model}, unseen models", self.unseen_scores, names))
        rows += [self._row(name, found, names) for name, found in self.baselines.items()]
        lines = [_line(head), _line(["---"] + ["---:"] * len(names)), *map(_line, rows)]
        return "\n".join([*lines, "", *self.notes()])

    def notes(self) -> list[str]:
        """What the table leaves open, with a warning if models of the training are in the zoo."""
        scores = self.scores
        lines = [
            f"{self.target} of {scores['models']} models, {scores['rows']} rows of {self.zoo}; "
            f"{self.dropped_rows} rows left out; in brackets 95 % intervals over the choice of "
            "models",
        ]
        if "tau_max" in scores:
            share = scores["tau_share"]
            shown = _DASH if share is None else f"{share:.3f}"
            lines.append(f"ceiling of tau_b by ties: {scores['tau_max']:.3f}, reached: {shown}")
        lines += protocol_notes(self.splitting)
        if not self.seen.is_known:
            lines.append("warning: the model does not list its training: it may know this zoo")
        elif self.seen.rows:
            lines.append(
                f"warning: {self.seen.models} models ({self.seen.rows} rows) of this zoo were in "
                "the model's training: it is not held out"
            )
        return lines

    def _row(self, name: str, scores: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
        return [name, *(_cell(scores, metric) for metric in metrics)]


_CLASS_METRICS = ["accuracy", "balanced_accuracy"]


def evaluate_model(
    model: str | Path,
    zoo: str | Path,
    split: str | None = None,
    rows: str = "all",
    device: str = "cpu",
    encoder: str | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score a trained encoder, or an autoencoder with a probe, on a zoo.

    Args:
        model: folder or Hub repository of the model.
        zoo: zoo to predict.
        split: split of the rows; None takes the rows of all splits, as none was trained on.
        rows: checkpoints to use, "all" or only the "last" one of each model.
        device: device of the model.
        encoder: name of the encoder's class, see `from_pretrained`.
        progress: whether to show a progress bar on stderr.

    Raises:
        ValueError: if the model predicts nothing or cannot take the zoo, or the zoo lacks the
            target or has too few rows with it.
    """
    predictor = from_pretrained(model, device=device, encoder=encoder)
    target = predictor.target
    if target is None:
        raise ValueError(
            f"{model} is an autoencoder without a probe: train it with --target COLUMN, or give a "
            "model that predicts a column"
        )
    whole = concatenate_zoos(datasets_of(zoo, split))
    if target not in whole.columns:
        raise ValueError(f"zoo {zoo} has no column {target!r}, which {model} predicts")
    kept = usable_rows(whole, target, rows)
    if len(kept) < LEAST_ROWS:
        raise ValueError(
            f"zoo {zoo} has {len(kept)} usable rows with a finite {target!r}, {LEAST_ROWS} are "
            "needed"
        )
    predicted = predictor.predict(kept, progress)
    kept = predicted_rows(predictor, kept)
    return _evaluation(predictor, kept, target, predicted, str(model), len(whole))


def _evaluation(
    predictor: Model,
    kept: ZooDataset,
    target: str,
    predicted: np.ndarray,
    name: str,
    whole_rows: int,
) -> Evaluation:
    kind = "category" if is_category(target, kept.columns[target]) else "number"
    training = getattr(predictor, "training", None) or {}
    is_seen, seen = _seen(training, kept)
    fresh = np.flatnonzero(~is_seen)
    partly = 0 < len(fresh) < len(kept) and len(fresh) >= LEAST_ROWS
    evaluator = Evaluator(target, kind)

    def scores(rows: np.ndarray) -> dict[str, Any]:
        return evaluator.eval(evaluation_inputs(kept.select(rows), target, predicted[rows]))

    return Evaluation(
        model=name,
        zoo=kept.name,
        target=target,
        dropped_rows=whole_rows - len(kept),
        scores=scores(np.arange(len(kept))),
        baselines=_baselines(training.get("train_constant"), kept.columns[target], target, kind),
        seen=seen,
        unseen_scores=scores(fresh) if partly else None,
        splitting=kept.splitting,
    )


def _seen(training: Mapping[str, Any], kept: ZooDataset) -> tuple[np.ndarray, Seen]:
    """Whether a row is of a model that the training saw in any checkpoint, (N,)."""
    known = training.get("fingerprints")
    if known is None:
        return np.zeros(len(kept), bool), Seen(is_known=False)
    listed = set(known)
    is_row = np.array([mark in listed for mark in row_fingerprints(kept)])
    models = kept.columns["model_id"]
    hit = np.unique(models[is_row])
    return np.isin(models, hit), Seen(is_known=True, rows=int(is_row.sum()), models=len(hit))


def _baselines(
    constant: Any, true: np.ndarray, target: str, kind: str
) -> dict[str, dict[str, float]]:
    """Scores of a constant from the training, and of the best constant for this zoo."""
    guess, metrics = "mean", dict[str, Any](r2=r2, mae=mae, mse=mse)
    if kind == "category":
        guess = "most frequent class"
        metrics = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    else:
        true = np.asarray(true, np.float64)
    guesses = {} if constant is None else {f"{guess} of the training": constant}
    guesses[f"{guess} here"] = best_constant(true, target)
    made = {}
    for name, value in guesses.items():
        filled = np.full(len(true), value, true.dtype)
        made[name] = {metric: score(true, filled) for metric, score in metrics.items()}
    return made


def _cell(scores: Mapping[str, Any], metric: str) -> str:
    value, ends = scores.get(metric), (scores.get("intervals") or {}).get(metric)
    if value is None or not np.isfinite(value):
        return _DASH
    if not ends or None in ends:
        return f"{value:.3f}"
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
