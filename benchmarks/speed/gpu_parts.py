"""Parts of the GPU suite that no other script measures: populations, layers, a zoo, encoders.

    python benchmarks/speed/gpu_parts.py population --device cuda --json population.json

Times are of finished work: the device is waited for before and after. Both sides of a comparison
take turns, and the first turn is not counted. The time of one network holds its set-up.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from population_training import random_images

from encoders import encoder_input
from weightzoo.builders.training.cohort import Cohort
from weightzoo.builders.training.objectives import DataSet, load_data, training_size
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.encoders.parts.planning import compiled
from weightzoo.encoders.registry import ENCODERS
from weightzoo.zoos.networks.batched_layers import batch_norm
from weightzoo.zoos.networks.convolution import PATHS, conv2d
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import HyperParameters, Model, Recipe, load_recipe

SEED = 0
ROUNDS, STEPS = 3, 60
WEIGHT_SCALE = 0.1
WHOLE_MODELS, WHOLE_EPOCHS, WHOLE_IMAGES = 1000, 50, 50_000


@dataclass(frozen=True)
class Net:
    """A network, its batch size, and how many are trained together."""

    preset: str
    batch_size: int
    models: int
    init: str = "kaiming_uniform"


NETS = {
    "CNN-s": Net("cnn-s", 32, 512),
    "small CNN": Net("small-cnn", 512, 128),
    "INR": Net("inr", 125, 512, "siren"),
    "ViT": Net("vit", 32, 128),
    "ResNet-18": Net("resnet18", 32, 16),
}


@dataclass(frozen=True)
class Layer:
    """A convolution of a net that trains with others, without its bias."""

    models: int
    channels: int
    out: int
    kernel: int
    side: int
    batch: int
    stride: int = 1
    padding: int = 0
    pool: int = 1
    shared: bool = False


LAYERS = {
    "CNN-s, first, shared images": Layer(512, 1, 8, 5, 28, 32, pool=2, shared=True),
    "CNN-s, first": Layer(512, 1, 8, 5, 28, 32, pool=2),
    "CNN-s, second": Layer(512, 8, 6, 5, 12, 32, pool=2),
    "small CNN, second": Layer(128, 16, 16, 3, 15, 512, stride=2),
    "ResNet-18, first stage": Layer(16, 64, 64, 3, 32, 32, padding=1),
    "ResNet-18, last stage": Layer(16, 512, 512, 3, 4, 32, padding=1),
}
ENCODED = {"cnn-s": 256, "resnet18": 2}  # batch of encoders by architecture
MODES = ("float32", "bfloat16", "compiled")


def populations(device: str, tiny: bool) -> dict[str, dict[str, Any]]:
    """Steps of networks trained together against those of one at a time, by net.

    Args:
        device: training device.
        tiny: whether to take two models, few steps, and the two quickest nets.
    """
    nets = {name: NETS[name] for name in list(NETS)[:: 2 if tiny else 1][: 2 if tiny else None]}
    return {
        name: _population(net, device, 2 if tiny else STEPS, tiny) for name, net in nets.items()
    }


def _population(net: Net, device: str, steps: int, tiny: bool) -> dict[str, Any]:
    data, count = _data(net, net.batch_size * steps), 2 if tiny else net.models
    each = training_size(data) // net.batch_size  # steps of an epoch
    recipe = _recipe(net, epochs=max(1, steps // each))
    steps = recipe.epochs * each
    cohort = Cohort(recipe, _models(net, count), data, device)
    sides = {
        "together": lambda: _run_steps(cohort, recipe.epochs),
        "one": lambda: train_one(recipe, _models(net, 1)[0], data, device),
    }
    seconds = _in_turns(sides, device, 1 if tiny else ROUNDS)
    together, one = (statistics.median(seconds[name]) for name in sides)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else None
    return {
        "parameters": recipe.architecture.layer_table().parameters,
        "models": count,
        "batch": net.batch_size,
        "steps": steps,
        "µs a step and model": 1e6 * together / steps / count,
        "one by one, µs": 1e6 * one / steps,
        "ratio": one / (together / count),
        "models a minute and 1,000 steps": 60 / (1000 * together / steps / count),
        "peak GiB": peak,
    }


def _run_steps(cohort: Cohort, epochs: int, steps: int | None = None) -> None:
    """Train for some epochs, or for some steps of one."""
    for _ in range(epochs):
        for _ in zip(range(steps or sys.maxsize), cohort.epoch(), strict=False):
            pass


def layers(device: str, tiny: bool) -> dict[str, dict[str, Any]]:
    """Forward and backward pass of layers in each way that `weightzoo.zoos.networks` has, by layer.

    Args:
        device: device of the layers.
        tiny: whether to take two models, two images and the two smallest layers.
    """
    chosen = list(LAYERS.items())[: 2 if tiny else None]
    rows = {
        name: _convolution(replace(one, models=2, batch=2) if tiny else one, device, tiny)
        for name, one in chosen
    }
    return rows | {"batch norm, 512 models of 8 channels": _batch_norm(device, tiny)}


def _convolution(layer: Layer, device: str, tiny: bool) -> dict[str, Any]:
    models = 1 if layer.shared else layer.models
    shape = (models, layer.side, layer.channels, layer.side, layer.batch)
    x = torch.randn(shape, device=device, requires_grad=not layer.shared)
    kernels = (layer.models, layer.out, layer.channels, layer.kernel, layer.kernel)
    weight = torch.randn(kernels, device=device, requires_grad=True)

    def convolve(path: str) -> Callable[[], None]:
        def work() -> None:
            out = conv2d(x, weight, None, layer.stride, layer.padding, layer.pool, path)
            out.sum().backward()

        return work

    return _ways({path: convolve(path) for path in PATHS}, layer.models, device, tiny)


def _batch_norm(device: str, tiny: bool) -> dict[str, Any]:
    models, channels = 2 if tiny else 512, 8
    x = torch.randn(models, 12, channels, 12, 32, device=device, requires_grad=True)
    mean, offset, variance, scale = (
        torch.full((models, channels), value, device=device) for value in (0.0, 0.0, 1.0, 1.0)
    )
    batches = torch.zeros(models, device=device)

    def normalise(joint: bool) -> Callable[[], None]:
        def work() -> None:
            out = batch_norm(x, scale, offset, (mean, variance, batches), True, joint)
            out.sum().backward()

        return work

    ways = {"one call": normalise(True), "one call per model": normalise(False)}
    return _ways(ways, models, device, tiny)


def _ways(
    ways: dict[str, Callable[[], None]], models: int, device: str, tiny: bool
) -> dict[str, Any]:
    """Microseconds of a pass and model by way, and the peak of memory of each way alone."""
    seconds = _in_turns(ways, device, 1 if tiny else 10)
    row: dict[str, Any] = {
        f"{name}, µs a model": 1e6 * statistics.median(seconds[name]) / models for name in ways
    }
    for name, work in ways.items() if device != "cpu" else ():
        torch.cuda.reset_peak_memory_stats()
        work()
        row[f"{name}, peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def whole_zoo(device: str, tiny: bool) -> dict[str, dict[str, Any]]:
    """Time of a thousand CNN-s over 50 epochs of 50,000 images, from one epoch of one cohort.

    Args:
        device: training device.
        tiny: whether to take two models and few images.
    """
    net = replace(NETS["CNN-s"], models=2 if tiny else WHOLE_MODELS)
    images = 64 if tiny else WHOLE_IMAGES
    cohort = Cohort(
        _recipe(net, WHOLE_EPOCHS), _models(net, net.models), _data(net, images), device
    )
    steps = images // net.batch_size
    measured = min(steps, 2 if tiny else 200)
    seconds = _in_turns({"steps": lambda: _run_steps(cohort, 1, measured)}, device, 1)["steps"]
    evaluation = _in_turns({"all": lambda: cohort.evaluate()}, device, 1)["all"]
    epoch = seconds[0] * steps / measured
    return {
        f"{net.models} CNN-s, {WHOLE_EPOCHS} epochs of {images} images": {
            "steps measured": measured,
            "steps of an epoch": steps,
            "s an epoch, extrapolated": epoch,
            "s an evaluation": evaluation[0],
            "minutes in all, extrapolated": (epoch + evaluation[0]) * WHOLE_EPOCHS / 60,
        }
    }


def encoder_steps(device: str, tiny: bool) -> dict[str, dict[str, Any]]:
    """Networks per second in training steps of every encoder, plainly, in bfloat16 and compiled.

    Args:
        device: training device.
        tiny: whether to take two networks of the smaller architecture, and not to compile.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, batch in list(ENCODED.items())[: 1 if tiny else None]:
        for encoder in ENCODERS:
            rows[f"{encoder}, {name}"] = _encoder_row(
                name, encoder, 2 if tiny else batch, device, tiny
            )
    return {name: row for name, row in rows.items() if row}


def _encoder_row(name: str, encoder: str, batch: int, device: str, tiny: bool) -> dict[str, Any]:
    """Rates by mode; empty if the encoder does not accept the architecture."""
    table = preset(name).layer_table()
    row: dict[str, Any] = {}
    for mode in MODES[: 2 if tiny else None]:
        torch.manual_seed(SEED)
        try:
            made = ENCODERS[encoder].make(table).to(device)
        except ValueError:
            return {}
        weights = WEIGHT_SCALE * torch.randn(batch, table.width, device=device)
        try:
            step = _encoder_step(made, weights, name, mode, device)
            seconds = _in_turns({mode: step}, device, 1 if tiny else ROUNDS)[mode]
            row[mode] = batch / statistics.median(seconds)
        except (RuntimeError, TypeError) as error:  # what fails on a device belongs in the table
            row[mode] = f"failed: {str(error).splitlines()[0][:60]}"
    return {"batch": batch} | row


def _encoder_step(
    encoder: torch.nn.Module, weights: torch.Tensor, name: str, mode: str, device: str
) -> Callable[[], None]:
    table = preset(name).layer_table()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    forward = compiled(encoder) if mode == "compiled" else encoder
    given = encoder_input(encoder, preset(name), weights)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, mode == "bfloat16"):
            loss = forward(given, table).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _in_turns(
    sides: dict[str, Callable[[], Any]], device: str, rounds: int
) -> dict[str, list[float]]:
    """Seconds of finished work by side, after a turn of each that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, work in sides.items():
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _recipe(net: Net, epochs: int) -> Recipe:
    recipe = replace(load_recipe("digits-cnn"), architecture=preset(net.preset))
    return replace(recipe, epochs=epochs, checkpoints=(epochs,))


def _data(net: Net, images: int) -> DataSet:
    """Sine waves, or random images with ten random labels."""
    shape = preset(net.preset).input_shape
    if len(shape) == 1:
        return load_data("sine")
    held = min(images, 10_000)
    return random_images(shape, (images, held, held))


def _models(net: Net, count: int) -> list[Model]:
    values = HyperParameters(
        activation="relu", optimizer="adam", init=net.init, batch_size=net.batch_size
    )
    return [
        Model(model_id=index, seed=SEED + index, split="train", hyper_parameters=values)
        for index in range(count)
    ]


PARTS = {
    "population": populations,
    "layers": layers,
    "epochs": whole_zoo,
    "encoders": encoder_steps,
}


def main() -> None:
    """Measure one part and write its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    rows = PARTS[options.part](options.device, options.tiny)
    options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
