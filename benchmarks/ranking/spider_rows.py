"""Rows of Model Spider in the referee's tables, with its two ablations.

Training tasks are mixtures of image sets that no target and no pre-training uses: letters in the
three kinds of fonts, changed as targets are. Models are labelled on them by aggregated scores, so
that no accuracy of a fine-tuning is read. Two rows show what the ranker adds: `task alone` runs no
model on the target (k = 0), and `mean label` is the fixed order of the mean training label. The
budget k is chosen on held-out training tasks; the curve over k is measured on the targets and
chooses nothing.

Shape letters: M models, T targets.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...tasks.ranking.extraction import ModelGroup, extract_features
from ...tasks.ranking.features import FeatureFile
from ...tasks.ranking.matrix import Matrix
from ...tasks.ranking.model_spider import (
    SpiderConfig,
    SpiderSettings,
    SpiderTask,
    choose_budget,
    save_spider,
    spider_scores,
    train_spider,
)
from ...tasks.ranking.samples import image_samples, refuse_overlap
from ...tasks.ranking.targets import make_target
from ...tasks.ranking.training_tasks import MixtureSettings, labels_of, scored_tasks, spider_task
from ...tasks.scoring.ranks import regret, weighted_tau
from ...tasks.transferability.task_features import TaskFeatures
from .features_of_targets import features_path, read_features

SPIDER, TASK_ALONE, MEAN_LABEL = (
    "model-spider",
    "model-spider, task alone",
    "model-spider, mean label",
)
SETS = ("glyphs-latin-sans", "glyphs-latin-serif", "glyphs-latin-mono")
CHANGES = ("", "+invert", "+noise", "+rotate")
HELD_OUT = 0.25  # share of the training tasks that the budget is chosen on
SETTINGS = SpiderSettings(epochs=60, lr=1e-3)


@dataclass(frozen=True, kw_only=True)
class SpiderRows:
    """What Model Spider gives for all targets of a matrix.

    Attributes:
        scores: (M, T) by name of the row.
        k: the budget that held-out tasks chose.
        held_out: mean weighted tau on the held-out tasks by budget.
        curve: budget, mean weighted tau and regret on the targets, and seconds of extraction.
    """

    scores: Mapping[str, np.ndarray]
    k: int
    held_out: Mapping[int, float]
    curve: tuple[tuple[int, float, float, float], ...]

    def to_text(self) -> str:
        """The curve as Markdown."""
        lines = [
            "| k | tau_w, held-out tasks | tau_w, targets | regret@1, targets | s of extraction |",
            "| --- | --- | --- | --- | --- |",
        ]
        for k, tau, lost, seconds in self.curve:
            chosen = f"**{k}**" if k == self.k else str(k)
            lines.append(
                f"| {chosen} | {self.held_out[k]:.3f} | {tau:.3f} | {lost:.3f} | {seconds:.2f} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpiderData:
    """What Model Spider is trained on and asked for.

    Attributes:
        matrix: models and targets; its accuracies are read for curves and comparisons alone.
        models: names of the models that have features on all images.
        generic: name of the model whose features describe a task.
        widths: number of features of each model.
        tasks: training tasks, those that are held out at the end.
        scores: (tasks, K, models) of the training tasks.
        kept: number of tasks that are not held out.
        asked: the targets.
        seconds: seconds of extraction, of one model on one image set.
    """

    matrix: Matrix
    models: tuple[str, ...]
    generic: str
    widths: tuple[int, ...]
    tasks: Sequence[SpiderTask]
    scores: np.ndarray
    kept: int
    asked: Sequence[SpiderTask]
    seconds: float

    @property
    def rows(self) -> list[int]:
        """Index of each model in the matrix."""
        return [self.matrix.models.index(model) for model in self.models]


def spider_data(
    matrix: Matrix,
    groups: Sequence[ModelGroup],
    folder: Path,
    generic: str,
    count: int,
    progress: bool = True,
) -> SpiderData:
    """Features of the training tasks, mixed and scored, without the matrix's accuracies.

    Args:
        matrix: models and targets.
        groups: the matrix's models.
        folder: holds the features of the targets; those of the training tasks are added.
        generic: name of the model whose features describe a task.
        count: number of training tasks, those that are held out among them.
        progress: whether to show progress on stderr.

    Raises:
        UnsuitableError: if an image of a training task is among a target's images.
    """
    shots = int(matrix.protocol["shots"])
    names = [f"{one}{change}" for one in SETS for change in CHANGES]
    check_training_images(names, matrix.targets, shots)
    started = time.perf_counter()
    bar = tqdm(names, desc="training tasks", unit="set", disable=not progress)
    sources = [_features(name, shots, matrix, groups, folder) for name in bar]
    seconds = (time.perf_counter() - started) / len(names) / len(matrix.models)
    targets = [_read(features_path(folder, target), matrix) for target in matrix.targets]
    models = [m for m in matrix.models if all(m in one for one in (*sources, *targets))]
    sources, targets = (
        [{m: one[m] for m in models} for one in many] for many in (sources, targets)
    )
    settings = MixtureSettings(count=count, sources=(1, 2), shots=shots)
    tasks, scores = scored_tasks(sources, generic, settings)
    return SpiderData(
        matrix=matrix,
        models=tuple(models),
        generic=generic,
        widths=tuple(one.features.shape[1] for one in sources[0].values()),
        tasks=tasks,
        scores=scores,
        kept=count - max(1, round(HELD_OUT * count)),
        asked=[spider_task(zoo, generic) for zoo in targets],
        seconds=seconds,
    )


def spider_rows(data: SpiderData, folder: Path) -> SpiderRows:
    """Train Model Spider, and rank for every target.

    Args:
        data: training tasks and targets.
        folder: folder that the trained scorer is saved to.
    """
    kept, labels = data.kept, labels_of(data.scores)
    config = SpiderConfig(
        generic=data.widths[data.models.index(data.generic)], specific=data.widths
    )
    scorer = train_spider(data.tasks[:kept], labels[:kept], config, SETTINGS)
    budgets = sorted({0, 1, 3, *(len(data.models) // part for part in (4, 2, 1))})
    k, taus = choose_budget(scorer, data.tasks[kept:], labels[kept:], budgets)
    save_spider(scorer, folder, data.models, k)
    by_budget = {
        budget: _scattered(data, [spider_scores(scorer, task, budget) for task in data.asked])
        for budget in budgets
    }
    mean = _scattered(data, [labels[:kept].mean(axis=0)] * len(data.asked))
    return SpiderRows(
        scores={SPIDER: by_budget[k], TASK_ALONE: by_budget[0], MEAN_LABEL: mean},
        k=k,
        held_out=taus,
        curve=tuple(
            (budget, *_agreement(data.matrix, found), data.seconds * budget)
            for budget, found in by_budget.items()
        ),
    )


def check_training_images(names: Sequence[str], targets: Sequence[str], shots: int) -> None:
    """Refuse training tasks and targets with an image in common.

    Args:
        names: image sets of the training tasks, named as targets.
        targets: names of the targets.
        shots: training images per class.

    Raises:
        UnsuitableError: if an image is in both.
    """
    sets = [make_target(name, shots).images for name in names]
    seen = np.concatenate([image_samples(one, one.train) for one in sets])
    for target in targets:
        images = make_target(target, shots).images
        for part in (images.train, images.val, images.test):
            samples = image_samples(images, part)
            refuse_overlap(seen, samples, "the images of Model Spider's training tasks", target)


def _features(
    name: str, shots: int, matrix: Matrix, groups: Sequence[ModelGroup], folder: Path
) -> dict[str, TaskFeatures]:
    """Features of every model on the few train images of a set."""
    path = features_path(folder, name)
    extract_features(groups, make_target(name, shots).images, "train", path, progress=False)
    return _read(path, matrix)


def _read(path: Path, matrix: Matrix) -> dict[str, TaskFeatures]:
    with FeatureFile(path) as file:
        return read_features(file, matrix.models)


def _scattered(data: SpiderData, columns: Sequence[np.ndarray]) -> np.ndarray:
    """Scores (M, T) of the models with features, NaN for the others."""
    scores = np.full((len(data.matrix.models), len(columns)), np.nan)
    scores[data.rows] = np.stack(columns, axis=1)
    return scores


def _agreement(matrix: Matrix, scores: np.ndarray) -> tuple[float, float]:
    """Mean weighted tau and regret of the first pick over targets."""
    tau, lost = agreements(matrix.accuracy, scores).mean(axis=0)
    return float(tau), float(lost)


def agreements(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Weighted tau, and regret of the first pick, of each target, (T, 2).

    Args:
        truth: accuracies, (M, T); NaN where a model was not run.
        scores: scores of the models, (M, T); NaN for models without a score.
    """
    pairs = []
    for own, score in zip(truth.T, scores.T, strict=True):
        run = np.isfinite(own) & np.isfinite(score)
        pairs.append((weighted_tau(own[run], score[run]), regret(own[run], score[run], 1)))
    return np.array(pairs)
