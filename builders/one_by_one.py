"""The reference that population training must equal and beat: one model at a time.

Plain torch modules and torch.optim, tuned: data in memory, fused optimizer, no DataLoader.
Weights start from the same draws and images come in the same order as in a population.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoos.images import ImageSet
from ..zoos.recipe import HyperParameters, Model, Recipe
from .initialization import initial_weights
from .training import DataOrder, steps_per_epoch


def train_one(recipe: Recipe, model: Model, image_set: ImageSet) -> tuple[nn.Module, Tensor]:
    """Train one model of a recipe on the CPU.

    Dropout draws from torch's global generator, so only models without it equal a population's.

    Returns:
        The module in evaluation mode, and its training loss at every step, (steps,).
    """
    values = model.hyper_parameters
    module = recipe.architecture.module(values.activation, values.dropout)
    table = recipe.architecture.layer_table()
    module.load_state_dict(table.state_dict(initial_weights(table, [model])[0]))
    optimizer = _optimizer(module, values)
    batch_size, count = steps_per_epoch(model, len(image_set.train))
    order = DataOrder([model.seed], len(image_set.train), count)
    pixels, labels = image_set.train.pixels, image_set.train.labels
    losses = []
    for _ in range(recipe.epochs):
        for positions in order.batches(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(module(pixels[positions[0]]), labels[positions[0]])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return module.eval(), torch.stack(losses)


def _optimizer(module: nn.Module, values: HyperParameters) -> torch.optim.Optimizer:
    if values.optimizer == "sgd":
        return torch.optim.SGD(
            module.parameters(),
            values.lr,
            momentum=values.momentum,
            weight_decay=values.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(
        module.parameters(), values.lr, weight_decay=values.weight_decay, fused=True
    )
