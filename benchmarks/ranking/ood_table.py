"""Accuracy on unseen domains: the model that a ranking picks, and ensembles of the first ones.

Source of the comparison: ZooD (Dong et al. 2022, arXiv 2210.09236), whose second table has the best
single model, ensembles without and with selected features, random ones, and baselines of domain
generalisation. Fine-tuned models minimise the plain risk (ERM) over the training domains.

Shape letters: M models, T targets, K models of an ensemble.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...tasks.ranking.domain_generalisation import METHODS, generalise
from ...tasks.ranking.ensemble import fit_ensemble, joined
from ...tasks.ranking.extraction import ModelGroup, extract_features
from ...tasks.ranking.features import FeatureFile
from ...tasks.ranking.fine_tuning_matrix import Protocol
from ...tasks.ranking.matrix import Matrix
from ...tasks.ranking.model_sources import model_source
from ...tasks.ranking.prior import fixed_order, plain_sum
from ...tasks.ranking.targets import make_target
from ...tasks.transferability.task_features import TaskFeatures
from ...zoos.disk import write_whole
from ...zoos.strict_json import json_text
from .features_of_targets import features_path, read_features

TOP = 3
RANDOM_DRAWS = 3
PARTS = ("train", "val", "test")
ENSEMBLE_SCORES = ("logme", "zood-discriminability")

Models = Mapping[str, TaskFeatures]


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracy of one way to choose, on the unseen domain of each target.

    Attributes:
        way: what was chosen, and by what.
        accuracies: (T,).
        kept: mean share of features that a head reads; NaN for a fine-tuned model.
    """

    way: str
    accuracies: tuple[float, ...]
    kept: float


def ood_table(matrix: Matrix, groups: Sequence[ModelGroup], folder: Path) -> list[Accuracies]:
    """Fine-tuned picks by each score, and heads on features of several models.

    Args:
        matrix: fine-tuning on unseen domains, with scores.
        groups: the matrix's models, to extract features of val and test images with.
        folder: holds the features of the train images already, one file per target.
    """
    rows = [_picked(matrix, name) for name in (*matrix.scores, *_WITH_HISTORY)]
    truth = matrix.accuracy
    rows.append(_row("fine-tuned: random model", np.nanmean(truth, axis=0)))
    rows.append(_row("fine-tuned: best of all, known afterwards", np.nanmax(truth, axis=0)))
    found: dict[str, list[tuple[float, float]]] = {}
    for index, target in enumerate(matrix.targets):
        parts = _features(matrix, target, groups, folder)
        for way, heads in _ensembles(matrix, index, parts).items():
            found.setdefault(way, []).append(heads)
    for way, values in found.items():
        accuracies, kept = np.array(values).T
        rows.append(_row(way, accuracies, float(kept.mean())))
    return sorted(rows, key=lambda row: -float(np.mean(row.accuracies)))


def table_text(rows: Sequence[Accuracies]) -> str:
    """Markdown, best mean accuracy first."""
    lines = ["| choice | accuracy | features read |", "| --- | --- | --- |"]
    for row in rows:
        kept = f"{row.kept:.0%}" if np.isfinite(row.kept) else "-"
        lines.append(f"| {row.way} | {np.mean(row.accuracies):.3f} | {kept} |")
    return "\n".join(lines)


def baseline_rows(
    matrix: Matrix, zoos: Sequence[Path | str], protocol: Protocol, folder: Path
) -> list[Accuracies]:
    """Baselines of domain generalisation, each on the model that LogME puts first.

    Finished targets are kept in the folder, so that a run that was stopped goes on.

    Args:
        matrix: targets with the score "logme".
        zoos: the zoos that the models are of, as the matrix was made with.
        protocol: settings of the fine-tuning, as the matrix was made with.
        folder: for one file of results per target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = dict(model_source(zoo) for zoo in zoos)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for index, target in enumerate(matrix.targets):
        first = matrix.models[int(np.nanargmax(matrix.scores["logme"][:, index]))]
        path = folder / f"{target.replace('/', '-unseen-')}.json"
        asked = json_text({"model": first, "protocol": asdict(protocol)}, sort_keys=True)
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if kept.get("asked") != asked:
            label, _, model = first.rpartition("/")
            parents = sources[label]
            row = [one.model_id for one in parents.models].index(int(model))
            made = make_target(target, protocol.shots)
            runs = [
                generalise(parents, row, made, protocol, seed) for seed in range(protocol.seeds)
            ]
            means = {name: float(np.mean([run[name].test for run in runs])) for name in METHODS}
            kept = {"asked": asked, "accuracy": means}
            write_whole(path, json_text(kept).encode())
        for name in METHODS:
            found[name].append(kept["accuracy"][name])
    return [_row(f"{name}, first by logme", np.array(values)) for name, values in found.items()]


def _history(matrix: Matrix, target: int) -> np.ndarray:
    return fixed_order(matrix.accuracy, _family(matrix, target))


def _history_and_logme(matrix: Matrix, target: int) -> np.ndarray:
    scores = {"logme": matrix.scores["logme"]}
    return plain_sum(matrix.accuracy, scores, target, _family(matrix, target))


_WITH_HISTORY = {"fixed order": _history, "prior + logme": _history_and_logme}


def _family(matrix: Matrix, target: int) -> list[int]:
    return [i for i, name in enumerate(matrix.families) if name == matrix.families[target]]


def _picked(matrix: Matrix, name: str) -> Accuracies:
    """Accuracy of the fine-tuned model that a score, or history on other sets, puts first."""
    picks = []
    for target in range(len(matrix.targets)):
        if name in _WITH_HISTORY:
            scores = _WITH_HISTORY[name](matrix, target)
        else:
            scores = matrix.scores[name][:, target]
        run = np.isfinite(matrix.accuracy[:, target]) & np.isfinite(scores)
        picks.append(int(np.where(run, scores, -np.inf).argmax()))
    values = matrix.accuracy[picks, np.arange(len(picks))]
    return _row(f"fine-tuned: first by {name}", values)


def _features(
    matrix: Matrix, target: str, groups: Sequence[ModelGroup], folder: Path
) -> dict[str, Models]:
    """Features of every model on the train, val and test images of a target."""
    made = make_target(target, int(matrix.protocol["shots"]))
    parts: dict[str, Models] = {}
    for part in PARTS:
        path = features_path(folder, target, part)
        domains = made.domains if part == "train" else None
        extract_features(groups, made.images, part, path, domains=domains, progress=False)
        with FeatureFile(path) as file:
            parts[part] = read_features(file, matrix.models)
    return parts


def _ensembles(
    matrix: Matrix, target: int, parts: Mapping[str, Models]
) -> dict[str, tuple[float, float]]:
    """(accuracy, share of features read) by way."""
    usable = [
        i for i, model in enumerate(matrix.models) if all(model in one for one in parts.values())
    ]
    count = min(TOP, len(usable))
    ways: dict[str, list[tuple[float, float]]] = {}
    for name in (one for one in ENSEMBLE_SCORES if one in matrix.scores):
        scores = matrix.scores[name][:, target]
        first = sorted(usable, key=lambda index: -scores[index])
        ways[f"head on the first by {name}"] = [_head(matrix, first[:1], parts, False)]
        for select, how in ((False, "all features"), (True, "selected features")):
            chosen = _head(matrix, first[:count], parts, select)
            ways[f"head on the first {count} by {name}, {how}"] = [chosen]
    rng = np.random.default_rng(target)
    draws = [rng.choice(usable, count, replace=False).tolist() for _ in range(RANDOM_DRAWS)]
    random = [_head(matrix, draw, parts, False) for draw in draws]
    ways[f"head on random {count}, all features"] = random
    for select, how in ((False, "all features"), (True, "selected features")):
        ways[f"head on all models, {how}"] = [_head(matrix, usable, parts, select)]
    return {way: tuple(np.mean(values, axis=0)) for way, values in ways.items()}


def _head(
    matrix: Matrix, chosen: Sequence[int], parts: Mapping[str, Models], select: bool
) -> tuple[float, float]:
    train, val, test = ([parts[part][matrix.models[index]] for index in chosen] for part in PARTS)
    head = fit_ensemble(train, val, select=select)
    features, labels = joined(test)
    return head.accuracy(features, labels), len(head.chosen) / features.shape[1]


def _row(way: str, accuracies: np.ndarray, kept: float = float("nan")) -> Accuracies:
    return Accuracies(way=way, accuracies=tuple(accuracies.tolist()), kept=kept)
