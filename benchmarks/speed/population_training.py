"""Claim: training a population in step beats training its models one by one.

    python benchmarks/speed/population_training.py cnn-s-10 [NET ...] [--rounds 3]

Nets are those of the published zoos, on random images of their size (what is on an image does
not change the time), the INR on sine waves. Half of the models are trained by Adam, half by SGD,
with four activations in turn. Both sides start from the same weights, see the same images in
the same order and evaluate on all images at the end; the one-by-one loop is tuned (data in
memory, fused optimizer, no DataLoader). Two settings: one process with one thread, and one
process per core. Rounds of the two sides alternate; the table gives medians. Next to the ratio of
seconds on the clock stands that of processor time, which a busy machine disturbs less.

With `--peers` steps alone are timed instead, in one process with one thread: this package with
torch's operations and as one compiled graph, one by one, one by one through `torch.compile`, plain
`torch.func.vmap`, `modelbatch` if it is installed, and `jax.vmap` with `--jax PYTHON` (INRs). All
models have one activation and Adam then, which vmap needs. Work per second stands beside what a
plain matrix product and a plain copy reach in the same round.
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
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from timing import roofline
from tqdm import tqdm

from weightzoo.builders.engines.worker_processes import ALLOCATOR
from weightzoo.builders.population.compiled_step import is_traceable
from weightzoo.builders.training.cohort import cut_cohorts, train_cohort
from weightzoo.builders.training.cohort_size import cohort_size
from weightzoo.builders.training.objectives import PARTS, DataSet, load_data, training_size
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.zoos.images.image_set import ImageSet, cut, make_image_set
from weightzoo.zoos.networks import convolution_c
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import HyperParameters, Model, Recipe, load_recipe

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
import training_peers as peers

SEED, SPLITS = 0, (1200, 300, 300)
PEER_VALUES = {"activation": "tanh", "optimizer": "adam", "lr": 1e-3}  # of all models with --peers
ACTIVATIONS = ("tanh", "relu", "sigmoid", "gelu")
WHOLE_ZOO = 1000  # models of a published zoo, which cohorts are sized for

Seconds = dict[str, list[tuple[float, float]]]  # by side: on the clock, of the processor


@dataclass(frozen=True)
class Net:
    """One row of the table: a preset, its batch size, and how much to train."""

    preset: str
    batch_size: int
    models: int
    epochs: int = 1
    init: str = "kaiming_uniform"


NETS = {
    "cnn-s-10": Net("cnn-s", 10, 64),
    "cnn-s-32": Net("cnn-s", 32, 64),
    "cnn-l-10": Net("cnn-l", 10, 64),
    "small-cnn-512": Net("small-cnn", 512, 64, epochs=4),
    "inr-1000": Net("inr", 1000, 64, epochs=100, init="siren"),
    "inr-125": Net("inr", 125, 64, epochs=20, init="siren"),
    "vit-32": Net("vit", 32, 32),
    "resnet18-narrow-32": Net("resnet18", 32, 4),
}


def main() -> None:
    """Run the rounds and print the table."""
    options = _options()
    cores = os.cpu_count() or 1
    os.environ |= ALLOCATOR  # for all sides: the workers are started below
    results: dict[str, Seconds] = {}
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), _one_thread) as pool:
        if options.peers:
            pool.submit(_compare_peers, options).result()
            return
        for name in options.nets:
            models = _model_count(options, name)
            results[name] = _measure(_sides(pool, name, models, cores), options.rounds, name)
    _report(options, results, cores)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"command": sys.argv, "machine": _machine(), "seconds": results}, file)


def _compare_peers(options: argparse.Namespace) -> None:
    """Time the steps of all peers in turns; print a table and write the figures."""
    found: dict[str, Any] = {"command": sys.argv, "machine": _machine(), "torch": torch.__version__}
    found["nets"] = {}
    print(f"# {' '.join(sys.argv)}\n# {_machine()}; torch {torch.__version__}; one thread")
    for name in options.nets:
        count = _model_count(options, name)
        models = [
            replace(model, hyper_parameters=replace(model.hyper_parameters, **PEER_VALUES))
            for model in _models(NETS[name])[:count]
        ]
        found["nets"][name] = _net_of_peers(name, models, options)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


def _net_of_peers(name: str, models: Sequence[Model], options: argparse.Namespace) -> Any:
    recipe, data = _recipe(name), _data(name)
    sides = {
        "population": peers.population_steps(recipe, models, data, "torch"),
        "one by one": peers.single_steps(recipe, models, data, compiled=False),
        "one by one, compiled": peers.single_steps(recipe, models, data, compiled=True),
        "torch.func.vmap": peers.vmap_steps(recipe, models, data),
    }
    if find_spec("modelbatch"):
        sides["modelbatch"] = peers.modelbatch_steps(recipe, models, data)
    if is_traceable(recipe, [model.hyper_parameters for model in models]):
        sides["population, compiled"] = peers.population_steps(recipe, models, data, "compiled")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    rooflines = []
    for round_ in tqdm(range(options.rounds + 1), desc=name, file=sys.stderr):
        for side, steps in sides.items():
            used = peers.processor_seconds(steps, options.steps if round_ else 3)
            if round_:
                seconds[side].append(used / options.steps / len(models))
        if options.jax and round_ and not isinstance(data, ImageSet):
            used = peers.jax_seconds(options.jax, recipe, models, data, options.steps)["seconds"]
            seconds.setdefault("jax.vmap", []).append(used / options.steps / len(models))
        rooflines.append(roofline())
    work = peers.step_work(recipe, models[0], data)
    _print_peers(name, len(models), seconds, work, rooflines)
    return {"models": len(models), "seconds": seconds, "work": work, "rooflines": rooflines}


def _print_peers(
    name: str,
    models: int,
    seconds: dict[str, list[float]],
    work: dict[str, float],
    rooflines: Sequence[dict[str, float]],
) -> None:
    product, copy = (
        statistics.median(found[kind] for found in rooflines) for kind in ("gflops", "gbytes")
    )
    print(
        f"\n{name}, {models} models; a plain matrix product reaches {product:.0f} GFLOP/s, "
        f"a plain copy {copy:.1f} GB/s\n\n"
        "| side | us a model and step | times one by one | range | GFLOP/s | GB/s |"
    )
    print("|---|---:|---:|---|---:|---:|")
    for side, used in seconds.items():
        middle, ratios = statistics.median(used), _ratios(seconds["one by one"], used)
        print(
            f"| {side} | {1e6 * middle:.1f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} | {work['flops'] / middle / 1e9:.1f} | "
            f"{work['bytes'] / middle / 1e9:.2f} |",
            flush=True,
        )


def train_population(name: str, positions: Sequence[int]) -> None:
    """Train models in cohorts of the size that the builder chooses for a whole zoo.

    Args:
        name: name of the net, a key of `NETS`.
        positions: positions of the models in the zoo.
    """
    recipe, data = _recipe(name), _data(name)
    models = [_models(NETS[name])[position] for position in positions]
    size = cohort_size(recipe.architecture, NETS[name].batch_size, WHOLE_ZOO, "cpu")
    for cohort in cut_cohorts(recipe, models, training_size(data), size):
        train_cohort(recipe, [models[position] for position in cohort], data)


def train_singly(name: str, positions: Sequence[int]) -> None:
    """Train models one after another, and evaluate each at the end as the population does.

    Args:
        name: name of the net, a key of `NETS`.
        positions: positions of the models in the zoo.
    """
    recipe, data = _recipe(name), _data(name)
    for position in positions:
        model = _models(NETS[name])[position]
        module, _ = train_one(recipe, model, data)
        with torch.no_grad():
            _evaluate(module, model, data)


def _evaluate(module: torch.nn.Module, model: Model, data: DataSet) -> None:
    if not isinstance(data, ImageSet):
        for part in PARTS:
            targets = data.targets([data.draw(model.seed)], part)[0]
            torch.nn.functional.mse_loss(module(data.part_inputs(part)), targets)
        return
    for split in (data.train, data.val, data.test):
        for pixels, labels in zip(split.pixels.split(64), split.labels.split(64), strict=True):
            logits = module(pixels)
            torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            (logits.argmax(1) == labels).sum()


def _measure(sides: dict[str, Callable[[], float]], rounds: int, name: str) -> Seconds:
    """(seconds, processor seconds) of every side in every round, alternating; one warms up."""
    seconds: Seconds = {side: [] for side in sides}
    for round_ in tqdm(range(rounds + 1), desc=name, file=sys.stderr):
        for side, run in sides.items():
            start = time.perf_counter()
            used = run()
            if round_:
                seconds[side].append((time.perf_counter() - start, used))
    return seconds


def _processor_seconds(train: Callable[[str, Sequence[int]], None], *arguments: Any) -> float:
    """What a call takes of this process's processor."""
    start = time.process_time()
    train(*arguments)
    return time.process_time() - start


def _sides(
    pool: ProcessPoolExecutor, name: str, models: int, cores: int
) -> dict[str, Callable[[], float]]:
    everything = list(range(models))

    def run(train: Any, parts: list[list[int]]) -> Callable[[], float]:
        def all_parts() -> float:
            futures = [pool.submit(_processor_seconds, train, name, part) for part in parts]
            return sum(future.result() for future in futures)

        return all_parts

    spread = [everything[core::cores] for core in range(cores)]
    return {
        "population, 1": run(train_population, [everything]),
        "one by one, 1": run(train_singly, [everything]),
        f"population, {cores}": run(train_population, spread),
        f"one by one, {cores}": run(train_singly, spread),
    }


@cache
def _recipe(name: str) -> Recipe:
    net = NETS[name]
    sizes = {"width": 16} if "narrow" in name else {}
    recipe = replace(load_recipe("digits-cnn"), architecture=preset(net.preset, **sizes))
    return replace(recipe, epochs=net.epochs, checkpoints=(net.epochs,))


@cache
def _data(name: str) -> DataSet:
    """Sine waves, or random images with ten random labels."""
    shape = _recipe(name).architecture.input_shape
    if len(shape) == 1:
        return load_data("sine")
    return random_images(shape, SPLITS)


def random_images(shape: Sequence[int], sizes: tuple[int, int, int]) -> ImageSet:
    """Random images with ten random labels.

    Args:
        shape: shape of an image, (C, H, W).
        sizes: numbers of train, val and test images.
    """
    generator = torch.Generator().manual_seed(SEED)
    pixels = torch.randint(0, 256, (sum(sizes), *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (sum(sizes),), generator=generator)
    return make_image_set("random", cut(pixels, labels, sizes), 10)


def _models(net: Net) -> list[Model]:
    """Models that alternate activations and optimizers, as in a shuffled zoo."""
    return [
        Model(
            model_id=index,
            seed=SEED + index,
            split="train",
            hyper_parameters=HyperParameters(
                activation=ACTIVATIONS[index // 2 % len(ACTIVATIONS)],
                optimizer=("adam", "sgd")[index % 2],
                init=net.init,
                batch_size=net.batch_size,
                weight_decay=1e-3,
            ),
        )
        for index in range(net.models)
    ]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _report(
    options: argparse.Namespace,
    results: dict[str, Seconds],
    cores: int,
) -> None:
    compiled = "with" if convolution_c.library() is not None else "without"
    print(f"# {' '.join(sys.argv)}")
    print(
        f"# {_machine()}; torch {torch.__version__}; {compiled} compiled convolution; {SPLITS[0]} "
        f"images or 1000 points, seed {SEED}, median of {options.rounds} rounds"
    )
    print(
        "| net | parameters | models | processes | models/s | one by one | ratio | range "
        "| ratio of processor time |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, seconds in results.items():
        for processes in dict.fromkeys((1, cores)):
            _row(name, _model_count(options, name), processes, seconds)


def _row(name: str, models: int, processes: int, seconds: Seconds) -> None:
    (ours, ours_used), (theirs, theirs_used) = (
        zip(*seconds[f"{side}, {processes}"], strict=True) for side in ("population", "one by one")
    )
    rates = [f"{models / statistics.median(side):.2f}" for side in (ours, theirs)]
    ratios, used = _ratios(theirs, ours), _ratios(theirs_used, ours_used)
    parameters = _recipe(name).architecture.layer_table().parameters
    print(
        f"| {name} | {parameters:,} | {models} | {processes} | {' | '.join(rates)} "
        f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} "
        f"| {statistics.median(used):.2f} |"
    )


def _model_count(options: argparse.Namespace, name: str) -> int:
    return min(options.models or NETS[name].models, NETS[name].models)


def _ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(slow, fast, strict=True)]


def _machine() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        model = "unknown processor"
    return f"{model}, {os.cpu_count()} cores"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("nets", nargs="*", default=list(NETS), help=f"of {', '.join(NETS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=int, help="at most so many of each net")
    parser.add_argument("--json", help="file for the raw seconds")
    parser.add_argument(
        "--peers", action="store_true", help="time the steps of other ways to train"
    )
    parser.add_argument("--steps", type=int, default=40, help="steps per peer and round")
    parser.add_argument("--jax", metavar="PYTHON", help="interpreter with jax, for --peers")
    options = parser.parse_args()
    if odd := sorted(set(options.nets) - set(NETS)):
        parser.error(f"unknown nets {odd}, known are {list(NETS)}")
    return options


if __name__ == "__main__":
    main()
