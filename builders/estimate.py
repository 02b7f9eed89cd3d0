"""Size and estimated duration of a build, from a probe of a few steps on random images.

Nothing is fetched or written. The time of a step does not depend on the pixel values, so a probe
needs only the shape of the images; the sizes of the published sets are listed here.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..zoos.images.catalog import LOCAL_SETS, load_images
from ..zoos.images.glyphs import GLYPH_SETS
from ..zoos.images.hub_images import HUB_SETS
from ..zoos.images.image_set import make_image_set
from ..zoos.images.signals import IMAGE_SUFFIX, SignalSet, is_signal_set, load_signals
from ..zoos.networks.layer_kind import Shape
from ..zoos.recipe import Model, Recipe
from ..zoos.texts.text_set import TextSet, Windows, is_text_set, load_texts
from .engines.process_engine import core_count
from .population.compiled_step import COMPILING, GRAPHS, is_worth_compiling, saved_seconds
from .training.cohort import Cohort, cut_cohorts, steps_per_epoch
from .training.cohort_size import cohort_size
from .training.objectives import DataSet

PROBE_SECONDS = 3.0  # longest duration of three steps for which the whole cohort is probed
SMALL_BATCH, EVALUATED, PROBE_WINDOWS = 8, 64, 16
STEPS, EVALUATIONS = 3, 2  # the first step warms up
PROBE_PIXELS = "digits" + IMAGE_SUFFIX  # signal set that replaces other grey images of 28x28
TEST_IMAGES = {
    "ylecun/mnist": 10_000,
    "zalando-datasets/fashion_mnist": 10_000,
    "ufldl-stanford/svhn": 26_032,
    "flwrlabs/usps": 2_007,
    "uoft-cs/cifar10": 10_000,
    "uoft-cs/cifar100": 10_000,
    "tanganke/stl10": 8_000,
    "zh-plus/tiny-imagenet": 10_000,
    "timm/eurosat-rgb": 5_400,
}  # published numbers, by repository; of tiny-imagenet the val split

Sizes = tuple[int, int, int]


@dataclass(frozen=True)
class Rates:
    """Images (or points) per second and core, over all models of a cohort.

    Attributes:
        training: rate of forward pass, backward pass and optimizer together.
        evaluation: rate of the forward pass alone.
        models: number of models in the probed cohort.
        batch_size: batch size of the probe.
    """

    training: float
    evaluation: float
    models: int
    batch_size: int


@dataclass(frozen=True)
class Estimate:
    """Estimated duration of a build.

    Attributes:
        seconds: duration; None if it is unknown.
        basis: description of the probe, or the reason for an unknown duration.
    """

    seconds: float | None
    basis: str


def plan_build(
    recipe: Recipe, models: int | None = None, device: str = "cpu", workers: int | None = None
) -> dict[str, Any]:
    """Describe what a build would make; nothing is fetched or written.

    Args:
        recipe: recipe of the build.
        models: number of models; None takes the recipe's.
        device: training device, "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per core.

    Returns:
        Plain data; "bytes" counts the weights, "seconds" is None where it is unknown.

    Raises:
        ValueError: if the number of models is not a whole number from 1, or leaves a split empty.
    """
    return plan_population(recipe, recipe.models(models), device, workers)


def plan_population(
    recipe: Recipe, population: Sequence[Model], device: str = "cpu", workers: int | None = None
) -> dict[str, Any]:
    """Describe what the training of some models would make, as `plan_build` does.

    Args:
        recipe: recipe of the build.
        population: models to train.
        device: training device, "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per core.
    """
    estimate = estimate_build(recipe, population, device, workers)
    table = recipe.architecture.layer_table()
    rows = len(population) * len(recipe.checkpoints)
    splits = [model.split for model in population]
    return {
        "recipe": recipe.name,
        "architecture": recipe.architecture.name,
        "parameters": table.parameters,
        "models": len(population),
        "splits": {split: splits.count(split) for split in recipe.split},
        "epochs": recipe.epochs,
        "rows": rows,
        "bytes": rows * table.width * 4,
        "seconds": None if estimate.seconds is None else float(f"{estimate.seconds:.3g}"),
        "estimate": estimate.basis,
    }


def plan_text(plan: Mapping[str, Any]) -> str:
    """Format a plan as text, one line per value."""
    lines = {key: f"{value:,}" if type(value) is int else value for key, value in plan.items()}
    lines["seconds"] = "unknown" if plan["seconds"] is None else _duration(plan["seconds"])
    return "\n".join(f"{key:<14}{value}" for key, value in lines.items())


def plan_line(plan: Mapping[str, Any]) -> str:
    """Format models, bytes and hours of a plan as one line."""
    hours = "an unknown time" if plan["seconds"] is None else f"{plan['seconds'] / 3600:.2g} hours"
    return (
        f"{plan['recipe']}: {plan['models']:,} models, {plan['rows']:,} rows, "
        f"{plan['bytes'] / 1e9:.3g} GB, about {hours} ({plan['estimate']})"
    )


def estimate_build(
    recipe: Recipe, models: Sequence[Model], device: str = "cpu", workers: int | None = None
) -> Estimate:
    """Estimate the time of a build by a probe on this machine.

    Args:
        recipe: recipe of the build.
        models: models of its population.
        device: training device, "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per core.
    """
    sizes, data = part_sizes(recipe.images), _probe_data(recipe)
    if sizes is None or data is None:
        return Estimate(None, f"the size of {recipe.images!r} is not known without fetching it")
    if device != "cpu" and not torch.cuda.is_available():
        return Estimate(None, f"device {device!r} is not available here, so nothing can be probed")
    rates = probe(recipe, models, device)
    trained, evaluated = _work(recipe, models, sizes)
    cores = (workers or core_count()) if device == "cpu" else 1
    training, how = _training_seconds(recipe, models, sizes[0], device, trained / rates.training)
    seconds = (training + evaluated / rates.evaluation) / cores
    where = f"{cores} {'core' if cores == 1 else 'cores'}" if device == "cpu" else device
    return Estimate(
        seconds,
        f"a probe here of {rates.models} models with batches of {rates.batch_size}: "
        f"{rates.training:,.0f} images trained and {rates.evaluation:,.0f} evaluated per second "
        f"and {'core' if device == 'cpu' else 'device'}, on {where}{how}",
    )


def _training_seconds(
    recipe: Recipe, models: Sequence[Model], train: int, device: str, by_torch: float
) -> tuple[float, str]:
    """Processor seconds of training and a note, from those that torch's operations take.

    Compiled steps are not probed, because compiling takes longer than a dry run should. Their
    saving was measured on another machine, so at most two thirds are taken off.
    """
    values = [model.hyper_parameters for model in models]
    if not is_worth_compiling(recipe, values, train, device):
        return by_torch, ""
    saved = saved_seconds(recipe, values, train)
    seconds = max(by_torch / 3, by_torch - saved) + GRAPHS * COMPILING
    return seconds, f"; training steps are compiled, which saves about {by_torch - seconds:,.0f} s"


def part_sizes(name: str) -> Sizes | None:
    """Number of train, val and test images, or points; None if unknown without fetching the set."""
    if is_signal_set(name):
        return _signal_sizes(name)
    if is_text_set(name):
        texts = load_texts(name)
        return len(texts.train), len(texts.val), len(texts.test)
    if name in HUB_SETS:
        hub_set = HUB_SETS[name]
        test = TEST_IMAGES.get(hub_set.repo)
        if test is None or hub_set.train_size is None:
            return None
        return (
            hub_set.train_size,
            hub_set.val_size or test,
            test,
        )  # without val, test takes its role
    if name in GLYPH_SETS:
        sizes = GLYPH_SETS[name].sizes
        return sizes["train"], sizes["val"], sizes["test"]
    if name in ("digits", "digits-shuffled", "waves") or name.startswith(tuple(LOCAL_SETS)):
        image_set = load_images(name)
        return len(image_set.train), len(image_set.val), len(image_set.test)
    return None


def probe(recipe: Recipe, models: Sequence[Model], device: str = "cpu") -> Rates:
    """Time a few steps of a cohort, or of one model on a small batch if the cohort is slow.

    The batch of a slow cohort of signals stays whole: eight points take as long as a thousand.

    Args:
        recipe: recipe of the build.
        models: models of its population.
        device: training device, "cpu" or a CUDA device.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)
    state = torch.random.get_rng_state()  # a build that follows must not depend on its estimate
    try:
        batch_size = max(model.hyper_parameters.batch_size for model in models)
        size = cohort_size(recipe.architecture, batch_size, len(models), device)
        cohort = max(cut_cohorts(recipe, models, 10**6, size), key=len)
        chosen = [models[position] for position in cohort]
        batch_size = chosen[0].hyper_parameters.batch_size
        few = batch_size if is_signal_set(recipe.images) else min(batch_size, SMALL_BATCH)
        small = _timed(recipe, chosen[:1], few, device)  # points are cheap, steps of few are not
        if STEPS * len(chosen) * batch_size / small.training > PROBE_SECONDS:
            return small
        return _timed(recipe, chosen, batch_size, device)
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)


def _duration(seconds: float) -> str:
    """Seconds, and the same in minutes, hours or days where they are many."""
    for unit, length in {"days": 86_400, "hours": 3_600, "minutes": 60}.items():
        if seconds >= 2 * length:
            return f"{seconds:,.0f} ({seconds / length:.1f} {unit})"
    return f"{seconds:,.1f}"


def _timed(recipe: Recipe, models: Sequence[Model], batch_size: int, device: str) -> Rates:
    data = _probe_data(recipe, batch_size * STEPS)
    assert data is not None
    own = [
        replace(
            model,
            hyper_parameters=replace(
                model.hyper_parameters, batch_size=batch_size, train_fraction=1.0
            ),
        )
        for model in models
    ]
    cohort = Cohort(recipe, own, data, device)
    seconds = _seconds(cohort.epoch())
    evaluation = min(_evaluation(cohort) for _ in range(EVALUATIONS))
    count = len(data.test_inputs) if isinstance(data, SignalSet) else len(data.test)
    batch_size = min(batch_size, len(data.inputs)) if isinstance(data, SignalSet) else batch_size
    return Rates(
        len(own) * batch_size / seconds, len(own) * count / evaluation, len(own), batch_size
    )


def _evaluation(cohort: Cohort) -> float:
    """Time of one pass over the test images."""
    started = time.perf_counter()
    cohort.objective.evaluate(cohort.population, "test", None).tolist()
    return time.perf_counter() - started


def _seconds(steps: Iterable[torch.Tensor]) -> float:
    """Shortest time of a step; the first one is left out if there are more.

    Other programs make a step longer, by a hundred times on a crowded machine, and never shorter.
    """
    marks = [time.perf_counter()]
    for losses in steps:
        losses.sum().item()  # waits for the device
        marks.append(time.perf_counter())
        if len(marks) > STEPS:
            break
    times = [after - before for before, after in zip(marks[:-1], marks[1:], strict=True)]
    return min(times[1:] or times)


def _work(recipe: Recipe, models: Sequence[Model], sizes: Sizes) -> tuple[int, int]:
    """Number of images trained on and evaluated, over all models in the whole build."""
    train, val, test = sizes
    seen = sum(steps_per_epoch(model, train)[1] for model in models)
    evaluated = seen + len(models) * (val + test)
    return seen * recipe.epochs, evaluated * len(recipe.checkpoints)


def _probe_data(recipe: Recipe, images: int = SMALL_BATCH) -> DataSet | None:
    """Random images of the right shape, or signals; None if no signal set fits."""
    shapes = recipe.architecture.shapes()
    if is_signal_set(recipe.images):
        name = recipe.images if recipe.images == "sine" else PROBE_PIXELS
        data = load_signals(name)
        fits = _signal_sizes(recipe.images) == _signal_sizes(name)
        return data if fits and shapes[-1] == (data.outputs,) else None
    if is_text_set(recipe.images):
        return _probe_texts(shapes[0], images)
    generator = torch.Generator().manual_seed(0)
    splits = []
    for count in (images, 1, EVALUATED):
        pixels = torch.randint(0, 256, (count, *shapes[0]), generator=generator)
        splits.append((pixels.to(torch.uint8), torch.zeros(count, dtype=torch.int64)))
    return make_image_set("probe", splits, shapes[-1][0])


def _probe_texts(shape: Shape, windows: int) -> TextSet:
    """Windows of one byte."""
    train, val, test = (
        Windows(*torch.zeros(2, count, *shape, dtype=torch.uint8))
        for count in (windows, 1, PROBE_WINDOWS)
    )
    return TextSet("probe", "", train, val, test)


def _signal_sizes(name: str) -> Sizes | None:
    """Number of train, val and test points: pixels, and alternately the centres between them."""
    if name == "sine":
        data = load_signals(name)
        return len(data.inputs), len(data.val_inputs), len(data.test_inputs)
    images = name.removesuffix(IMAGE_SUFFIX)
    side = HUB_SETS[images].side if images in HUB_SETS else load_images(images).shape[1]
    if side is None:
        return None
    middles = (side - 1) ** 2
    return side**2, math.ceil(middles / 2), middles // 2
