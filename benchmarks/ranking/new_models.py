"""Model Spider on models that it was not trained with.

Models are held out by what they were pre-trained on, so that no model of the same source is known;
untrained models are one such group. Each time the ranker is trained with the other models' labels,
then ranks all models for every target from the task alone. A new model's token comes from
statistics of its weights. Beside it: a random token, which says nothing, and the architecture
alone as the token, which needs no weights. Without a ranker: the mean training label of the known
models, with the new ones at the mean, or guessed from size, source accuracy and architecture. The
last two rows know all models and show what retraining would give.

Shape letters: M models, T targets, G groups of models, E width of an embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...tasks.ranking.extraction import ModelGroup
from ...tasks.ranking.model_sources import weight_embeddings
from ...tasks.ranking.model_spider import SpiderConfig, spider_scores, train_spider
from ...tasks.ranking.prior import prior_of_new_models
from ...tasks.ranking.training_tasks import labels_of
from .claims import Claim, claims_text, compare
from .spider_rows import MEAN_LABEL, SETTINGS, TASK_ALONE, SpiderData, SpiderRows, agreements

WEIGHTS, RANDOM, KIND = "token from weights", "random token", "architecture as token"
AT_MEAN, GUESSED = "mean label, new at the mean", "mean label, new guessed from columns"
PAIRS = ((WEIGHTS, RANDOM), (WEIGHTS, KIND), (WEIGHTS, AT_MEAN), (WEIGHTS, GUESSED))
"""Named before the run; compared by weighted tau with every model new in turn."""
CLIP = 3.0  # deviations of the known models' embeddings; a new model may lie far outside
UNTRAINED = "untrained"
ALONE = replace(SETTINGS, most_specific=0)


@dataclass(frozen=True, kw_only=True)
class NewModels:
    """How well models are ranked that were not trained with.

    Attributes:
        rows: three means of weighted tau and one of regret, by way: over all models with one group
            new, over the models of that group, over all with every model new in turn; regret of
            the first pick of the last.
        claims: comparisons by weighted tau with every model new in turn.
        families: family of each target.
        groups: number of models by group.
    """

    rows: Mapping[str, tuple[float, float, float, float]]
    claims: tuple[Claim, ...]
    families: tuple[str, ...]
    groups: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "groups": dict(self.groups),
            "rows": {way: list(values) for way, values in self.rows.items()},
            "claims": [asdict(claim) for claim in self.claims],
        }

    def to_text(self) -> str:
        """Markdown."""
        head = (
            "way",
            "tau_w, all, one group new",
            "tau_w, the new ones",
            "tau_w, each model new",
            "regret@1, each new",
        )
        lines = [head, ("---",) * len(head)]
        for way, values in self.rows.items():
            lines.append((way, *("-" if np.isnan(one) else f"{one:.3f}" for one in values)))
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        groups = ", ".join(f"{name} ({count})" for name, count in self.groups.items())
        return (
            f"Groups that are new in turn, with their models: {groups}. Each model new: every "
            "model has the score that it got when its group was new, in deviations of the known "
            f"models' scores.\n\n{table}\n\n{claims_text(self.claims, 'tau_w', self.families)}"
        )


Scorer = Callable[[np.ndarray], np.ndarray]
"""Takes which models are known, (M,) bool; gives the scores of all models, (M, T)."""


def new_models(
    data: SpiderData,
    zoos: Sequence[Path | str],
    groups: Sequence[ModelGroup],
    known: SpiderRows,
    progress: bool = True,
) -> NewModels:
    """Hold out every group of models in turn.

    Args:
        data: training tasks and targets.
        zoos: the zoos of the models, FOLDER or FOLDER@EPOCH.
        groups: the same models with their details.
        known: what a ranker gives that was trained with all models.
        progress: whether to show progress on stderr.
    """
    details = {name: one for group in groups for name, one in group.details.items()}
    kinds = np.array([_kind(details[model]) for model in data.models])
    truth = data.matrix.accuracy[data.rows]
    found: dict[str, list[np.ndarray]] = {}
    ways = _scorers(data, _embeddings(data, zoos))
    names = list(dict.fromkeys(kinds))
    bar = tqdm(names, desc="new models", unit="group", disable=not progress)
    for kind in bar:
        for way, score in ways.items():
            found.setdefault(way, []).append(score(kinds != kind))
    crossed = {way: _crossed(scores, kinds, names) for way, scores in found.items()}
    rows = {
        way: (
            *_with_one_new(scores, kinds, names, truth),
            *agreements(truth, crossed[way]).mean(axis=0).tolist(),
        )
        for way, scores in found.items()
    }
    nothing = float("nan")
    for name in (TASK_ALONE, MEAN_LABEL):
        scores = known.scores[name][data.rows]
        tau, lost = agreements(truth, scores).mean(axis=0).tolist()
        own = _with_one_new([scores] * len(names), kinds, names, truth)[1]
        rows[f"{name}, trained with all"] = (tau, own, nothing, lost)
    values = {
        ("each model new", way): agreements(truth, scores)[:, 0] for way, scores in crossed.items()
    }
    families = data.matrix.families
    return NewModels(
        rows=rows,
        claims=tuple(compare(PAIRS, values, families)),
        families=families,
        groups={name: int((kinds == name).sum()) for name in names},
    )


def _scorers(data: SpiderData, embeddings: np.ndarray) -> dict[str, Scorer]:
    """The ways to score new models."""
    rng = np.random.default_rng(0)
    architectures = data.matrix.columns["architecture"][data.rows].astype(str)
    one_hot = (architectures[:, None] == np.unique(architectures)).astype(float)
    columns = {name: column[data.rows] for name, column in data.matrix.columns.items()}

    def by_token(tokens: np.ndarray, known: np.ndarray) -> np.ndarray:
        return _ranked(data, _standardised(tokens, known), known)

    def at_mean(known: np.ndarray) -> np.ndarray:
        labels = _mean_labels(data, known)
        return _repeated(np.where(known, labels, labels[known].mean()), data)

    def guessed(known: np.ndarray) -> np.ndarray:
        return _repeated(prior_of_new_models(_mean_labels(data, known), columns, ~known), data)

    random = rng.normal(size=embeddings.shape)
    return {
        WEIGHTS: lambda known: by_token(embeddings, known),
        RANDOM: lambda known: by_token(random, known),
        KIND: lambda known: by_token(one_hot, known),
        AT_MEAN: at_mean,
        GUESSED: guessed,
    }


def _ranked(data: SpiderData, tokens: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Scores (M, T) of a ranker that is trained with the known models' labels and tokens."""
    widths = tuple(width for width, one in zip(data.widths, known, strict=True) if one)
    config = SpiderConfig(
        generic=data.widths[data.models.index(data.generic)],
        specific=widths,
        embedding=tokens.shape[1],
    )
    labels = labels_of(data.scores[: data.kept, :, known])
    scorer = train_spider(data.tasks[: data.kept], labels, config, ALONE, tokens[known])
    return np.stack([spider_scores(scorer, task, 0, tokens) for task in data.asked], axis=1)


def _mean_labels(data: SpiderData, known: np.ndarray) -> np.ndarray:
    """Mean training label of the known models, (M,); 0 for the others."""
    labels = np.zeros(len(known))
    labels[known] = labels_of(data.scores[: data.kept, :, known]).mean(axis=0)
    return labels


def _embeddings(data: SpiderData, zoos: Sequence[Path | str]) -> np.ndarray:
    """Statistics of the weights, (M, E)."""
    found = {name: one for zoo in zoos for name, one in weight_embeddings(zoo).items()}
    return np.stack([found[model] for model in data.models])


def _standardised(tokens: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Tokens in deviations of the known models."""
    centre, scale = tokens[known].mean(axis=0), tokens[known].std(axis=0)
    deviations = (tokens - centre) / np.where(scale > 0, scale, 1)
    return np.clip(deviations, -CLIP, CLIP)


def _kind(details: Mapping[str, Any]) -> str:
    """The group that a model is held out with."""
    return str(details["source"]) if details["epoch"] else UNTRAINED


def _repeated(scores: np.ndarray, data: SpiderData) -> np.ndarray:
    return np.repeat(scores[:, None], len(data.asked), axis=1)


def _crossed(found: Sequence[np.ndarray], kinds: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Scores (M, T), each from when the model was new, in deviations of the known ones'."""
    crossed = np.empty(found[0].shape)
    for name, scores in zip(names, found, strict=True):
        new = kinds == name
        centre, scale = scores[~new].mean(axis=0), scores[~new].std(axis=0)
        crossed[new] = ((scores - centre) / np.where(scale > 0, scale, 1))[new]
    return crossed


def _with_one_new(
    found: Sequence[np.ndarray], kinds: np.ndarray, names: Sequence[str], truth: np.ndarray
) -> tuple[float, float]:
    """Mean weighted tau over all models, and over the new ones, with one group new."""
    over_all, over_new = [], []
    for name, scores in zip(names, found, strict=True):
        new = kinds == name
        over_all.append(agreements(truth, scores)[:, 0].mean())
        if new.sum() > 1:
            over_new.append(agreements(truth[new], scores[new])[:, 0].mean())
    return float(np.mean(over_all)), float(np.mean(over_new)) if over_new else float("nan")
