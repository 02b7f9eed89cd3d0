"""Claim: models trained in a population are distributed as models trained one by one.

    python benchmarks/speed/same_distribution.py [--models 128] [--epochs 3] [--seed 0] [--inr]

CNN-s on scikit-learn's digits, all models with the same hyper-parameters (Adam, dropout) and
each with a seed of its own, so that both groups are draws from the distribution over seeds. Two
two-sample tests, Kolmogorov-Smirnov and Mann-Whitney, on final test accuracy and test loss. As a
control of what the tests can see, a third group is trained in a population at a lower rate.
With `--inr` the models are INRs (implicit neural representations) on sine waves, whose steps the
population compiles, and the metric is the logarithm of the test loss.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch
from scipy.stats import ks_2samp, mannwhitneyu
from tqdm import tqdm

from weightzoo.builders.population.compiled_step import COMPILED
from weightzoo.builders.training.cohort import train_cohort
from weightzoo.builders.training.cohort_size import CPU_COHORT
from weightzoo.builders.training.objectives import load_data
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.signals import is_signal_set
from weightzoo.zoos.recipe import HyperParameters, Model, Recipe, load_recipe

LR, CONTROL = 3e-3, 0.8  # learning rate, and its factor in the control group

Scores = list[tuple[float, ...]]  # test accuracy and test loss, or the logarithm of the test loss


def main() -> None:
    """Train the three groups and print the results of the tests."""
    options = _options()
    recipe = replace(
        load_recipe("sine-inr" if options.inr else "digits-cnn"),
        epochs=options.epochs,
        checkpoints=(options.epochs,),
    )
    groups = {
        "population": _models(options, 0, LR),
        "one by one": _models(options, 1, LR),
        f"population at {CONTROL} of the rate": _models(options, 2, LR * CONTROL),
    }
    scores = {name: _train(name, recipe, models) for name, models in groups.items()}
    print(f"# {' '.join(sys.argv)}")
    print(
        f"# {recipe.architecture.name} on {recipe.images}, Adam, lr {LR}, {options.epochs} epochs; "
        f"{options.models} models a group, seed {options.seed}; torch {torch.__version__}"
    )
    print(
        "| group | metric | median | deviation | KS p | Mann-Whitney p |\n|---|---|---|---|---|---|"
    )
    metrics = ("logarithm of test loss",) if options.inr else ("test accuracy", "test loss")
    for index, metric in enumerate(metrics):
        columns = {name: [row[index] for row in rows] for name, rows in scores.items()}
        for name, column in columns.items():
            _row(name, metric, column, columns["one by one"])


def population(recipe: Recipe, models: Sequence[Model]) -> Scores:
    """Scores of models trained in one cohort.

    Args:
        recipe: recipe of the population.
        models: models to train.
    """
    if is_signal_set(recipe.images):
        data = load_data(recipe.images)
        losses = train_cohort(recipe, models, data, code=COMPILED).metrics["test_loss"][:, -1]
        return [(value,) for value in losses.log().tolist()]
    metrics = train_cohort(recipe, models, load_images("digits")).metrics
    columns = (metrics["test_accuracy"][:, -1], metrics["test_loss"][:, -1])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def one_by_one(recipe: Recipe, models: Sequence[Model]) -> Scores:
    """Scores of plain torch modules, whose dropout draws from torch's global generator.

    Args:
        recipe: recipe of the population.
        models: models to train.
    """
    if is_signal_set(recipe.images):
        return [_signal_score(recipe, model) for model in models]
    digits, scores = load_images("digits"), []
    for model in models:
        torch.manual_seed(model.seed)
        module, _ = train_one(recipe, model, digits)
        with torch.no_grad():
            logits = module(digits.test.pixels)
        loss = torch.nn.functional.cross_entropy(logits, digits.test.labels)
        accuracy = (logits.argmax(1) == digits.test.labels).float().mean()
        scores.append((float(accuracy), float(loss)))
    return scores


def _signal_score(recipe: Recipe, model: Model) -> tuple[float]:
    data = load_data(recipe.images)
    module, _ = train_one(recipe, model, data)
    targets = data.targets([data.draw(model.seed)], "test")[0]
    with torch.no_grad():
        return (math.log(float((module(data.part_inputs("test")) - targets).square().mean())),)


def _train(name: str, recipe: Recipe, models: list[Model]) -> Scores:
    train = one_by_one if name == "one by one" else population
    parts = [models[start : start + CPU_COHORT] for start in range(0, len(models), CPU_COHORT)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as pool:
        results = tqdm(pool.map(train, [recipe] * len(parts), parts), desc=name, total=len(parts))
        return [row for part in results for row in part]


def _row(name: str, metric: str, column: list[float], reference: list[float]) -> None:
    values = f"{statistics.median(column):.4f} | {statistics.stdev(column):.4f}"
    tests = " | "
    if column is not reference:
        ks, rank = ks_2samp(column, reference), mannwhitneyu(column, reference)
        tests = f"{ks.pvalue:.3g} | {rank.pvalue:.3g}"
    print(f"| {name} | {metric} | {values} | {tests} |")


def _models(options: argparse.Namespace, group: int, lr: float) -> list[Model]:
    values = HyperParameters(lr=lr, dropout=0.1)
    if options.inr:
        values = HyperParameters(lr=lr, init="siren", batch_size=1000, weight_decay=1e-4)
    first = (options.seed * 3 + group) * 1_000_000  # no two groups share a seed
    return [
        Model(model_id=index, seed=first + index, split="train", hyper_parameters=values)
        for index in range(options.models)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", type=int, default=128, help="models in each group")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inr", action="store_true", help="train INRs by compiled steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
