"""Reference for population training: one model at a time, with equal results expected.

Plain torch modules, torch.optim and its schedules, tuned for speed: data in memory, fused
optimizer, no DataLoader. Initial weights, order of the images and augmentation are those of a
population.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...zoos.images.signals import SignalSet
from ...zoos.recipe import HyperParameters, Model, Recipe
from ...zoos.texts.text_set import TextSet
from .cohort import DataOrder, steps_per_epoch
from .image_augmentation import Augmentation
from .initialization import initial_weights
from .objectives import DataSet, training_size

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def train_one(
    recipe: Recipe, model: Model, data: DataSet, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Tensor]:
    """Train one model of a recipe, in the recipe's precision.

    Dropout draws from torch's global generator, so only models without dropout equal a
    population's.

    Args:
        recipe: recipe with architecture, epochs and precision.
        model: model of its population.
        data: image set, text set or signal set of the recipe.
        device: training device.

    Returns:
        The module in evaluation mode, and its training loss at every step, (steps,).
    """
    values = model.hyper_parameters
    module = recipe.architecture.module(values.activation, values.dropout)
    table = recipe.architecture.layer_table()
    flat = initial_weights(recipe.architecture, [model])[0]
    module.load_state_dict(table.state_dict(flat))
    module = module.to(device)
    precision = getattr(torch, recipe.precision)
    inputs, targets, augment, loss_function = _data(data, model)
    inputs, targets = inputs.to(device), targets.to(device)
    batch_size, count = steps_per_epoch(model, training_size(data))
    order = DataOrder([model.seed], training_size(data), count, device)
    optimizer = _optimizer(module, values)
    scheduler = _scheduler(optimizer, values, recipe.epochs * -(-count // batch_size))
    losses = []
    for _ in range(recipe.epochs):
        for positions in order.batches(batch_size):
            optimizer.zero_grad(set_to_none=True)
            x, y = inputs, targets
            if not isinstance(data, SignalSet) or positions.shape[1] < len(inputs):
                chosen = positions[0]
                x, y = augment(inputs[chosen]), targets[chosen]
            loss = loss_function(_outputs(module, x, precision), y)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            losses.append(loss.detach())
    return module.eval(), torch.stack(losses)


def _outputs(module: nn.Module, x: Tensor, precision: torch.dtype) -> Tensor:
    """Outputs in training; weights, gradients and batch norms stay in float32."""
    if precision == torch.float32:
        return module(x)
    own = {
        f"{name}.{role}": parameter if isinstance(layer, BATCH_NORMS) else parameter.to(precision)
        for name, layer in module.named_modules()
        for role, parameter in layer.named_parameters(recurse=False)
    }
    return torch.func.functional_call(module, own, x.to(precision)).float()


def _data(data: DataSet, model: Model) -> tuple[Tensor, Tensor, Any, Any]:
    """Train inputs, targets, augmentation and loss."""
    if isinstance(data, SignalSet):
        targets = data.targets([data.draw(model.seed)], "train")[0]
        return data.inputs, targets, lambda points: points, F.mse_loss
    if isinstance(data, TextSet):
        return data.train.tokens, data.train.labels, lambda windows: windows, _next_byte_loss
    black = [-m / d for m, d in zip(data.mean, data.deviation, strict=True)]
    augment = Augmentation(
        model.hyper_parameters.augmentation, [model.seed], black or [0.0] * data.shape[0]
    )
    return data.train.pixels, data.train.labels, augment, F.cross_entropy


def _next_byte_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.long().flatten())


def _optimizer(module: nn.Module, values: HyperParameters) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": values.lr, "weight_decay": values.weight_decay}
    match values.optimizer:
        case "sgd":
            return torch.optim.SGD(
                module.parameters(), momentum=values.momentum, fused=True, **common
            )
        case "adam":
            return torch.optim.Adam(module.parameters(), fused=True, **common)
        case "adamw":
            return torch.optim.AdamW(module.parameters(), fused=True, **common)
        case "rmsprop":
            return torch.optim.RMSprop(module.parameters(), foreach=True, **common)
    raise ValueError(f"no reference for optimizer {values.optimizer!r}")


def _scheduler(
    optimizer: torch.optim.Optimizer, values: HyperParameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    match values.schedule:
        case "onecycle":
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                values.lr,
                total_steps=steps,
                cycle_momentum=values.optimizer != "rmsprop",  # which has none in our recipes
            )
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return None
