"""Claim: training a population in step beats training its models one by one.

    python benchmarks/population_training.py [--recipe digits-cnn] [--models 16] [--epochs 1]

Both sides start from the same weights and see the same images in the same order; the one-by-one
loop is tuned (data in memory, fused optimizer, no DataLoader). Two settings: one process with
one thread, and one process per core. Rounds of the two sides alternate; the table gives medians.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from weightzoo.builders.cohort_size import CPU_COHORT
from weightzoo.builders.one_by_one import train_one
from weightzoo.builders.process_engine import ALLOCATOR
from weightzoo.builders.training import cut_cohorts, train_cohort
from weightzoo.zoos.images import load_images
from weightzoo.zoos.recipe import Model, Recipe, load_recipe


def main() -> None:
    """Run the rounds and print the table."""
    options = _options()
    recipe = load_recipe(options.recipe)
    recipe = replace(recipe, epochs=options.epochs, checkpoints=(options.epochs,))
    models = _comparable(recipe, options.models)
    cores = os.cpu_count() or 1
    os.environ |= ALLOCATOR  # for both sides: the workers are started below
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), _one_thread) as pool:
        sides: dict[str, Callable[[], object]] = {
            "population, 1 process": lambda: pool.submit(train_population, recipe, models).result(),
            "one by one, 1 process": lambda: pool.submit(train_singly, recipe, models).result(),
            f"population, {cores} processes": lambda: _spread(
                pool, train_population, recipe, models, cores
            ),
            f"one by one, {cores} processes": lambda: _spread(
                pool, train_singly, recipe, models, cores
            ),
        }
        seconds = measure(sides, options.rounds)
    _report(options, recipe, models, seconds)


def train_population(recipe: Recipe, models: Sequence[Model]) -> None:
    """Train all models in cohorts of the size that the builder takes."""
    image_set = load_images(recipe.images)
    for cohort in cut_cohorts(recipe, models, len(image_set.train), CPU_COHORT):
        train_cohort(recipe, [models[position] for position in cohort], image_set)


def train_singly(recipe: Recipe, models: Sequence[Model]) -> None:
    """Train one after another, and evaluate each at the end as the population does."""
    image_set = load_images(recipe.images)
    for model in models:
        module, _ = train_one(recipe, model, image_set)
        with torch.no_grad():
            for part in (image_set.train, image_set.val, image_set.test):
                for pixels, labels in zip(
                    part.pixels.split(64), part.labels.split(64), strict=True
                ):
                    logits = module(pixels)
                    torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                    (logits.argmax(1) == labels).sum()


def measure(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round, the sides alternating; one round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in tqdm(range(rounds + 1), desc="rounds", file=sys.stderr):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _spread(
    pool: ProcessPoolExecutor, train: Any, recipe: Recipe, models: list[Model], cores: int
) -> None:
    parts = [models[core::cores] for core in range(cores)]
    for future in [pool.submit(train, recipe, part) for part in parts]:
        future.result()


def _comparable(recipe: Recipe, count: int) -> list[Model]:
    """Models without dropout on all training images, so that both sides do the same work."""
    models = [
        replace(
            model, hyper_parameters=replace(model.hyper_parameters, dropout=0.0, train_fraction=1.0)
        )
        for model in recipe.models()
    ]
    return models[:count]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _report(
    options: argparse.Namespace,
    recipe: Recipe,
    models: list[Model],
    seconds: dict[str, list[float]],
) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    names = list(medians)
    print(f"# {' '.join(sys.argv)}")
    print(
        f"# {_machine()}; torch {torch.__version__}; {recipe.name}, {len(models)} models, "
        f"{recipe.epochs} epochs, seed {recipe.seed}, median of {options.rounds} rounds"
    )
    print("| side | models/s | min to max s | population : one by one |\n|---|---|---|---|")
    for name in names:
        partner = name.replace("population", "one by one")
        ratio = f"{medians[partner] / medians[name]:.2f}" if partner != name else ""
        spread = f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}"
        print(f"| {name} | {len(models) / medians[name]:.2f} | {spread} | {ratio} |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"command": sys.argv, "machine": _machine(), "seconds": seconds}, file)


def _machine() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"{model}, {os.cpu_count()} cores"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="digits-cnn")
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file for the raw seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
