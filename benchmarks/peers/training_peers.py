"""Other ways to train the same models on one core: for `population_training.py`.

Plain `torch.func.vmap` over modules with one vectorised Adam, the package `modelbatch` where it is
installed, one by one with `torch.compile`, and `jax.vmap` (INRs only) in an environment of its own,
which gets weights and batches in a file and returns seconds and losses in another. All peers are
timed after a warm-up, which compiles.

Shape letters: M models, D length of the flat vector, B images or points.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F

from weightzoo.builders.training.cohort import Cohort
from weightzoo.builders.training.initialization import initial_weights
from weightzoo.builders.training.objectives import DataSet
from weightzoo.zoos.images.image_set import ImageSet
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import Model, Recipe

JAX_SCRIPT = Path(__file__).with_name("jax_training.py")

Steps = Callable[[int], None]  # trains for a number of steps


def population_steps(recipe: Recipe, models: Sequence[Model], data: DataSet, code: str) -> Steps:
    """Steps of a cohort of this package.

    Args:
        recipe: recipe of the models.
        models: M models.
        data: image set or signal set.
        code: code of the training steps, "compiled" or "torch".
    """
    cohort = Cohort(recipe, models, data, code=code)
    endless = (losses for _ in iter(int, 1) for losses in cohort.epoch())

    def run(steps: int) -> None:
        for _ in range(steps):
            next(endless)

    return run


def vmap_steps(recipe: Recipe, models: Sequence[Model], data: DataSet) -> Steps:
    """Steps of plain `torch.func.vmap` with a vectorised Adam, all of one activation.

    Args:
        recipe: recipe of the models.
        models: M models, which are trained by Adam here whatever they name.
        data: image set or signal set.
    """
    modules = [_module(recipe.architecture, model) for model in models]
    parameters, buffers = stack_module_state(modules)
    leaves = {name: value.detach() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=1e-3, weight_decay=1e-3, foreach=True)

    def loss(weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return _loss(functional_call(modules[0], (weights, state), (x,)), y)

    step = vmap(grad_and_value(loss))
    batches = _batches(models, data)

    def run(steps: int) -> None:
        for _ in range(steps):
            gradients, _ = step(leaves, buffers, *next(batches))
            for name, value in leaves.items():
                value.grad = gradients[name]
            optimizer.step()

    return run


def modelbatch_steps(recipe: Recipe, models: Sequence[Model], data: DataSet) -> Steps:
    """Steps of the package `modelbatch` as its guide says, with one parameter group per model.

    Args:
        recipe: recipe of the models.
        models: M models, which are trained by Adam here whatever they name.
        data: image set or signal set.
    """
    from modelbatch import ModelBatch, OptimizerFactory

    modules = [_module(recipe.architecture, model) for model in models]
    batch = ModelBatch(modules, shared_input=False)
    factory = OptimizerFactory(torch.optim.Adam, {"weight_decay": 1e-3})
    optimizer = factory.create_optimizer(batch, [{"lr": 1e-3}] * len(models))
    batches = _batches(models, data)

    def run(steps: int) -> None:
        for _ in range(steps):
            x, y = next(batches)
            optimizer.zero_grad()
            batch.compute_loss(batch(x), y, _loss).backward()
            optimizer.step()

    return run


def single_steps(recipe: Recipe, models: Sequence[Model], data: DataSet, compiled: bool) -> Steps:
    """Steps of one model after another, each with fused Adam.

    Args:
        recipe: recipe of the models.
        models: M models; the first one is trained M times as long.
        data: image set or signal set.
        compiled: whether `torch.compile` runs forward and backward pass.
    """
    module = _module(recipe.architecture, models[0])
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)
    forward = torch.compile(lambda x, y: _loss(module(x), y)) if compiled else None
    batches = _batches(models[:1], data)

    def run(steps: int) -> None:
        for _ in range(steps * len(models)):
            x, y = (part[0] for part in next(batches))
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(module(x), y) if forward is None else forward(x, y)
            loss.backward()
            optimizer.step()

    return run


def jax_seconds(
    python: str, recipe: Recipe, models: Sequence[Model], data: DataSet, steps: int
) -> dict[str, float]:
    """Processor seconds of `steps` steps of `jax.vmap`, and how far its losses are from ours.

    Args:
        python: interpreter of an environment with jax.
        recipe: recipe of INRs.
        models: M models.
        data: signal set.
        steps: number of steps.

    Raises:
        SystemExit: if its first losses are not those of our modules.
    """
    flat = initial_weights(recipe.architecture, list(models))
    x, y = next(_batches(models, data))
    outputs = [_module(recipe.architecture, model)(x[i]) for i, model in enumerate(models)]
    losses = [float(_loss(out, y[i]).detach()) for i, out in enumerate(outputs)]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.json"
        np.savez(given, flat=flat.numpy(), x=x.numpy(), y=y.numpy(), steps=steps)
        subprocess.run([python, str(JAX_SCRIPT), str(given), str(made)], check=True)
        found: dict[str, Any] = json.loads(made.read_text())
    far = max(abs(a - b) / b for a, b in zip(found["first_losses"], losses, strict=True))
    if far > 1e-3:
        raise SystemExit(f"jax does not compute the same losses: {far:.2g} off")
    return {"seconds": found["seconds"]}


def step_work(recipe: Recipe, model: Model, data: DataSet) -> dict[str, float]:
    """Work of one step of one model: floating-point operations, and bytes at the least.

    Operations are those of matrix products and convolutions, forward and backward. Bytes count
    each output of a layer three times (written, read by the backward pass, its gradient) and each
    weight seven times (weight, gradient, two states of Adam; read, and all but one written).

    Args:
        recipe: recipe of the model.
        model: model with its batch size.
        data: image set or signal set.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from weightzoo.zoos.networks.layers import output_values

    x, y = (part[0] for part in next(_batches([model], data)))
    module = _module(recipe.architecture, model)
    with FlopCounterMode(display=False) as counter:
        _loss(module(x), y).backward()
    values = len(x) * output_values(recipe.architecture.layers, recipe.architecture.input_shape)
    width = recipe.architecture.layer_table().width
    return {"flops": counter.get_total_flops(), "bytes": 4 * (3 * values + 7 * width)}


def processor_seconds(steps: Steps, count: int) -> float:
    """Processor seconds of a number of steps.

    Args:
        steps: function that trains.
        count: number of steps.
    """
    start = time.process_time()
    steps(count)
    return time.process_time() - start


def _module(architecture: Architecture, model: Model) -> torch.nn.Module:
    module = architecture.module(model.hyper_parameters.activation, 0.0)
    flat = initial_weights(architecture, [model])[0]
    module.load_state_dict(architecture.layer_table().state_dict(flat))
    return module


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (
        F.mse_loss(outputs, targets)
        if targets.is_floating_point()
        else F.cross_entropy(outputs, targets)
    )


def _batches(models: Sequence[Model], data: DataSet) -> Any:
    """Endless batches (M, B, ...) of inputs and targets in random order, gathered in each step."""
    size = models[0].hyper_parameters.batch_size
    generator = torch.Generator().manual_seed(0)
    if isinstance(data, ImageSet):
        inputs, targets, own = data.train.pixels, data.train.labels, False
    else:
        signals = [data.draw(model.seed) for model in models]
        inputs, targets, own = data.inputs, data.targets(signals, "train"), True
    rows = torch.arange(len(models))[:, None]
    while True:
        chosen = torch.randint(len(inputs), (len(models), size), generator=generator)
        yield inputs[chosen], targets[rows, chosen] if own else targets[chosen]
