"""Feature files of the targets of a benchmark, and the scores computed from them.

Shape letters: M models, T targets.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...tasks.ranking.extraction import ModelGroup, extract_features
from ...tasks.ranking.features import FeatureFile
from ...tasks.ranking.matrix import Matrix
from ...tasks.ranking.targets import make_target
from ...tasks.transferability.scores import join_parts, score_parts
from ...tasks.transferability.task_features import TaskFeatures
from ...zoos.errors import UnsuitableError


def features_path(folder: Path, target: str, part: str = "train") -> Path:
    """Feature file of a target's images.

    Args:
        folder: folder of all feature files.
        target: name of the target.
        part: split of the images, "train", "val" or "test".
    """
    end = "" if part == "train" else f"-{part}"
    return folder / f"{target.replace('/', '-unseen-')}{end}.h5"


def read_features(file: FeatureFile, models: Sequence[str]) -> dict[str, TaskFeatures]:
    """Features of some models, by name, without models whose features no score can take.

    Args:
        file: open feature file.
        models: names of the models.
    """
    found = {}
    for model in models:
        try:
            found[model] = file.read(model)
        except UnsuitableError:  # constant or infinite features: a dead or diverged model
            continue
    return found


def score_matrix(
    matrix: Matrix,
    groups: Sequence[ModelGroup],
    folder: Path,
    names: Sequence[str],
    progress: bool = True,
) -> tuple[Matrix, dict[str, float]]:
    """Add scores of every model on every target, from features that are kept beside.

    Args:
        matrix: models and targets to score.
        groups: the matrix's models.
        folder: for one feature file per target.
        names: keys of `SCORES`.
        progress: whether to show progress on stderr.

    Returns:
        The matrix with scores, NaN for a model that cannot be scored, and the seconds that
        extraction and each score took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shots = int(matrix.protocol["shots"])
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    seconds = dict.fromkeys(("extraction", *names), 0.0)
    for target in tqdm(matrix.targets, desc="scores", unit="target", disable=not progress):
        path, made = features_path(folder, target), make_target(target, shots)
        started = time.perf_counter()
        extract_features(groups, made.images, "train", path, domains=made.domains, progress=False)
        seconds["extraction"] += time.perf_counter() - started
        with FeatureFile(path) as file:
            tasks = read_features(file, matrix.models)
        for name in names:
            started = time.perf_counter()
            columns[name].append(_scores(name, tasks, matrix.models))
            seconds[name] += time.perf_counter() - started
    scores = {name: np.stack(one, axis=1) for name, one in columns.items()}
    return matrix.with_scores(scores), seconds


def _scores(name: str, tasks: dict[str, TaskFeatures], models: Sequence[str]) -> np.ndarray:
    """One score of every model, (M,); NaN for a model without features."""
    parts = np.stack([score_parts(name, task) for task in tasks.values()])
    scores = np.full(len(models), np.nan)
    scores[[models.index(model) for model in tasks]] = join_parts(name, parts)
    return scores
