"""Claim: scores are faster than their formulas written down, and so is extraction than a loop.

    python benchmarks/speed/ranking.py [--images 10000] [--width 2048] [--classes 100] [--rounds 3]
    python benchmarks/speed/ranking.py --peer FOLDER    also LogME and H-score of transformer-ranker

Both sides get the same random features in float64 and must agree to 1e-6, the peer to 1e-2, before
they are timed.
Rounds alternate; the table gives medians of seconds by the clock and by the processor, and their
ratios. The straightforward sides are
what the papers' formulas say: a full SVD and a loop over classes for LogME, pseudo-inverses for
the H-score, matrices of all pairs of images for LFC and the nearest neighbour, a generalised
eigenproblem for SFDA. Extraction compares a zoo of CNN-s run as one population, 32 models at a
time, with a loop over torch modules, on 1,000 images of 28x28.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import linalg

from weightzoo.builders.population.population import Population
from weightzoo.builders.training.initialization import initial_weights
from weightzoo.tasks.ranking.backbones import with_features
from weightzoo.tasks.ranking.extraction import BATCH, MODELS_AT_ONCE, population_outputs
from weightzoo.tasks.transferability import class_scores, fisher_scores
from weightzoo.tasks.transferability.task_features import TaskFeatures, softmax
from weightzoo.zoos.networks.presets import cnn_s
from weightzoo.zoos.recipe import HyperParameters, Model

TOLERANCE = 1e-6
PEER_TOLERANCE = 1e-2  # the peer's fixed point stops early, and it shrinks by its own formula
IMAGES_OF_EXTRACTION = 1_000

Side = Callable[[], object]


def main() -> None:
    """Run the rounds and print the table.

    Raises:
        SystemExit: if two sides give different scores.
    """
    options = _options()
    torch.set_num_threads(1)
    task = _made_task(options.images, options.width, options.classes)
    print(f"N = {options.images}, D = {options.width}, C = {options.classes}, one thread")
    sides = [(score_sides(task), TOLERANCE)]
    if options.peer:
        sides.append((_peer_sides(task, options.peer), PEER_TOLERANCE))
    for pairs, tolerance in sides:
        for name, (own, other) in pairs.items():
            first, second = own(), other()
            if abs(first - second) > tolerance * max(1.0, abs(second)):
                raise SystemExit(f"{name}: {first} and {second} differ: no time is compared")
            _show(name, own, other, options.rounds)
    population, loop = extraction_sides()
    _show(f"extraction, {MODELS_AT_ONCE} models", population, loop, options.rounds)


def _made_task(images: int, width: int, classes: int) -> TaskFeatures:
    """Random features with class means."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    means = rng.normal(size=(classes, width)) * 0.3
    return TaskFeatures(means[labels] + rng.normal(size=(images, width)), labels)


def score_sides(task: TaskFeatures) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """Ours and the straightforward formula, by score."""
    features, classes = task.features, task.classes
    return {
        "logme": (lambda: class_scores.logme(task), lambda: _plain_logme(features, task.one_hot)),
        "h-score": (lambda: class_scores.h_score(task), lambda: _plain_h_score(features, classes)),
        "lfc": (lambda: class_scores.lfc(task), lambda: _plain_lfc(features, classes)),
        "knn": (
            lambda: class_scores.nearest_neighbour(task),
            lambda: _plain_neighbour(features, classes),
        ),
        "sfda": (lambda: fisher_scores.sfda(task), lambda: _plain_sfda(features, task.one_hot)),
    }


def _plain_logme(features: np.ndarray, one_hot: np.ndarray) -> float:
    """LogME by a full SVD and a loop over classes."""
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    images, width = features.shape
    squares, evidences = values**2, []
    for target in one_hot.T:
        along = (left.T @ target) ** 2
        rest = target @ target - along.sum()
        a = b = 1.0
        for _ in range(100):
            ratio = a / b
            used = (squares / (squares + ratio)).sum()
            weights = (squares * along / (squares + ratio) ** 2).sum()
            errors = (along * (ratio / (ratio + squares)) ** 2).sum() + rest
            new_a, new_b = used / weights, (images - used) / errors
            done = abs(np.log(new_a / a)) + abs(np.log(new_b / b)) < 1e-10
            a, b = new_a, new_b
            if done:
                break
        ratio = a / b
        weights = (squares * along / (squares + ratio) ** 2).sum()
        errors = (along * (ratio / (ratio + squares)) ** 2).sum() + rest
        determinant = np.log(a + b * squares).sum() + (width - len(squares)) * np.log(a)
        constant = width * np.log(a) + images * np.log(b / (2 * np.pi))
        evidences.append((constant - determinant - b * errors - a * weights) / 2)
    return float(np.mean(evidences) / images)


def _plain_h_score(features: np.ndarray, classes: np.ndarray) -> float:
    """The trace of its definition."""
    means = np.stack([features[classes == c].mean(axis=0) for c in np.unique(classes)])[classes]
    return float(np.trace(np.linalg.pinv(np.cov(features.T)) @ np.cov(means.T)))


def _plain_lfc(features: np.ndarray, classes: np.ndarray) -> float:
    """The correlation of two matrices of all pairs."""
    gram = features @ features.T
    labels = np.where(classes[:, None] == classes[None], 1.0, -1.0)
    gram -= gram.mean()
    labels -= labels.mean()
    return float((gram * labels).sum() / np.sqrt((gram**2).sum() * (labels**2).sum()))


def _plain_neighbour(features: np.ndarray, classes: np.ndarray) -> float:
    """The nearest other image in a matrix of all distances."""
    squares = (features**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * features @ features.T
    np.fill_diagonal(distances, np.inf)
    return float((classes[distances.argmin(axis=1)] == classes).mean())


def _plain_sfda(features: np.ndarray, one_hot: np.ndarray) -> float:
    """SFDA by a generalised eigenproblem, twice."""
    classes = one_hot.argmax(axis=1)
    first, shrinkage = _plain_discriminant(features, one_hot, None)
    sure = softmax(first)[np.arange(len(classes)), classes][:, None]
    means = one_hot.T @ features / one_hot.sum(axis=0)[:, None]
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    moved = sure * features + (1 - sure) * others[classes]
    second, _ = _plain_discriminant(moved, one_hot, shrinkage)
    return float(second[np.arange(len(classes)), classes].mean())


def _plain_discriminant(
    features: np.ndarray, one_hot: np.ndarray, shrinkage: float | None
) -> tuple[np.ndarray, float]:
    counts = one_hot.sum(axis=0)
    means = one_hot.T @ features / counts[:, None]
    centred = features - one_hot @ means
    within = centred.T @ centred / len(features)
    if shrinkage is None:
        shrinkage = max(float(np.exp(-5 * np.linalg.eigvalsh(within)[-1])), 1e-10)
    width = len(within)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / width * np.eye(width)
    total = np.cov(features.T, bias=True)
    _, vectors = linalg.eigh(total - within, shrunk)
    directions = means @ vectors @ vectors.T
    offsets = np.log(counts / len(features)) - (directions * means).sum(axis=1) / 2
    return softmax(features @ directions.T + offsets), shrinkage


def _peer_sides(
    task: TaskFeatures, folder: str
) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """LogME and H-score of transformer-ranker, installed without dependencies into a folder."""
    sys.path.insert(0, f"{folder}/transformer_ranker")  # past its __init__, which needs more
    from estimators import HScore, LogME

    features = torch.from_numpy(task.features)
    labels = torch.from_numpy(task.classes)
    return {
        "logme, transformer-ranker": (
            lambda: class_scores.logme(task),
            lambda: float(LogME().fit(features, labels)),
        ),
        "reg-h-score, transformer-ranker": (
            lambda: class_scores.regularised_h_score(task),
            lambda: float(HScore().fit(features, labels)),
        ),
    }


def extraction_sides() -> tuple[Side, Side]:
    """Features of CNN-s models as a population, and module by module."""
    architecture = cnn_s(1)
    values = HyperParameters()
    models = [
        Model(model_id=i, seed=i, split="train", hyper_parameters=values)
        for i in range(MODELS_AT_ONCE)
    ]
    flat = initial_weights(architecture, models)
    table = architecture.layer_table()
    pixels = torch.randn(IMAGES_OF_EXTRACTION, 1, 28, 28)

    def together() -> object:
        population = Population(architecture, flat, ["relu"] * len(flat))
        return [
            population_outputs(population, architecture.layers, part)
            for part in pixels.split(BATCH)
        ]

    def one_by_one() -> object:
        outputs = []
        for row in flat:
            module = architecture.module("relu").eval()
            module.load_state_dict(table.state_dict(row))
            run = with_features(module)
            with torch.no_grad():
                outputs.append([run(part) for part in pixels.split(BATCH)])
        return outputs

    return together, one_by_one


def _show(name: str, own: Side, other: Side, rounds: int) -> None:
    """Time both sides in turn and print a row: by the clock, and by the processor of this process.

    On a busy machine the second says more.
    """
    clock: tuple[list[float], list[float]] = ([], [])
    processor: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for index, side in enumerate((own, other)):
            started, used = time.perf_counter(), time.process_time()
            side()
            clock[index].append(time.perf_counter() - started)
            processor[index].append(time.process_time() - used)
    cells = [f"{name:34}"]
    for seconds in (clock, processor):
        first, second = (statistics.median(one) for one in seconds)
        cells.append(f"{first:9.3f} s  other {second:9.3f} s  {second / first:6.2f} x")
    print(" | ".join(cells), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="N (default: 10000)")
    parser.add_argument("--width", type=int, default=2_048, help="D (default: 2048)")
    parser.add_argument("--classes", type=int, default=100, help="C (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each pair (default: 3)")
    parser.add_argument("--peer", help="folder of `pip install --no-deps --target` of the peer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
