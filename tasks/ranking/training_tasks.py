"""Training tasks for rankers: mixtures of source image sets, scored without fine-tuning.

Source: Model Spider (Zhang et al. 2023, arXiv 2306.03900) mixes 2 to 4 data sets of up to 100
classes with 50 images each and labels the models by aggregated scores. Here the numbers are
settings.

Shape letters: M models, N images, C classes, K scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import UnsuitableError
from ..transferability.scores import score_models
from ..transferability.task_features import TaskFeatures
from .aggregation import aggregate_scores
from .model_spider import SpiderTask, prototypes

Zoo = Mapping[str, TaskFeatures]  # features of every model on the same images


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How training tasks are mixed and labelled.

    Attributes:
        count: number of tasks.
        sources: fewest and most image sets in a task.
        classes: most classes of a task; at least 2.
        shots: most images of a class.
        scores: what the models are scored by.
        rule: name of the aggregation of the scores, see `aggregation`.
        seed: seed of the draws.
    """

    count: int = 64
    sources: tuple[int, int] = (1, 3)
    classes: int = 10
    shots: int = 15
    scores: tuple[str, ...] = ("logme", "h-score", "ncc", "knn")
    rule: str = "copeland"
    seed: int = 0


def mix_tasks(
    sources: Sequence[Zoo], generic: str, settings: MixtureSettings | None = None
) -> tuple[list[SpiderTask], np.ndarray]:
    """Draw tasks from source sets and label the models on each.

    Args:
        sources: features of the same models on each source set.
        generic: the model whose features are the generic ones.
        settings: number and mixture of the tasks; None takes the defaults.

    Returns:
        The tasks, and the labels (tasks, M) by aggregated scores.

    Raises:
        UnsuitableError: if the sources have other models, or the generic model is not among them.
    """
    settings = settings or MixtureSettings()
    tasks, scores = scored_tasks(sources, generic, settings)
    return tasks, labels_of(scores, settings.rule)


def labels_of(scores: np.ndarray, rule: str = MixtureSettings.rule) -> np.ndarray:
    """Labels (tasks, M) of the models on each task.

    Args:
        scores: (tasks, K, M), of all models or of those that may be compared.
        rule: name of the aggregation of the scores, see `aggregation`.
    """
    return np.stack([aggregate_scores(one, rule) for one in scores])


def scored_tasks(
    sources: Sequence[Zoo], generic: str, settings: MixtureSettings
) -> tuple[list[SpiderTask], np.ndarray]:
    """Draw tasks from source sets and score the models on each.

    Args:
        sources: features of the same models on each source set.
        generic: the model whose features are the generic ones.
        settings: number and mixture of the tasks, and names of the scores.

    Returns:
        The tasks, and the scores (tasks, K, M).

    Raises:
        UnsuitableError: if the sources have other models, or the generic model is not among them.
    """
    names = list(sources[0])
    if any(list(source) != names for source in sources) or generic not in names:
        raise UnsuitableError(
            f"all sources need features of the same models, the generic one ({generic!r}) too"
        )
    rng = np.random.default_rng(settings.seed)
    tasks, scores = [], []
    for _ in range(settings.count):
        zoo = _mixture(sources, settings, rng)
        scores.append(np.stack([score_models(name, zoo) for name in settings.scores]))
        tasks.append(spider_task(zoo, generic))
    return tasks, np.stack(scores)


def spider_task(zoo: Zoo, generic: str) -> SpiderTask:
    """A task in the form that Model Spider reads.

    Args:
        zoo: features of every model on the task's images.
        generic: the model whose features are the generic ones.
    """
    means = [prototypes(task.features, task.one_hot) for task in zoo.values()]
    return SpiderTask(
        prototypes=means[list(zoo).index(generic)], specific=lambda index: means[index]
    )


def _mixture(sources: Sequence[Zoo], settings: MixtureSettings, rng: np.random.Generator) -> Zoo:
    """Classes of some sources, drawn together; labels are numbered anew."""
    low, high = settings.sources
    count = int(rng.integers(min(low, len(sources)), min(high, len(sources)) + 1))
    chosen = [sources[index] for index in rng.choice(len(sources), count, replace=False)]
    pairs = [(zoo, name) for zoo in chosen for name in np.unique(next(iter(zoo.values())).labels)]
    classes = int(rng.integers(2, min(settings.classes, len(pairs)) + 1))
    drawn = [pairs[index] for index in rng.choice(len(pairs), classes, replace=False)]
    rows, labels = [], []
    for label, (zoo, name) in enumerate(drawn):
        own = np.flatnonzero(next(iter(zoo.values())).labels == name)
        taken = rng.choice(own, min(settings.shots, len(own)), replace=False)
        rows.append((zoo, taken))
        labels.append(np.full(len(taken), label))
    joined = np.concatenate(labels)
    return {
        model: TaskFeatures(
            np.concatenate([zoo[model].features[taken] for zoo, taken in rows]), joined
        )
        for model in sources[0]
    }
