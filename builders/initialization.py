"""Initial weights, as the published zoos draw them, and the random streams of a model."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..zoos.layer_table import LayerTable
from ..zoos.recipe import Model

INIT_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "uniform": nn.init.uniform_,
    "normal": nn.init.normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}


def stream(seed: int, use: str) -> torch.Generator:
    """The CPU generator of one model for one use ("init", "order", "dropout").

    Uses are independent of each other, so that e.g. dropout never shifts the data order.
    """
    digest = hashlib.sha256(f"{seed}/{use}".encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:7], "little"))
    return generator


def initial_weights(table: LayerTable, models: Sequence[Model]) -> Tensor:
    """Draw the weights that the models start from.

    Weights are drawn by `init`, biases are the constant `bias_init`.

    Returns:
        (M, D), float32, on the CPU.
    """
    flat = torch.empty(len(models), table.width)
    for row, model in zip(flat, models, strict=True):
        generator = stream(model.seed, "init")
        draw = INIT_FUNCTIONS[model.hyper_parameters.init]
        for tensor, view in zip(table, table.split(row).values(), strict=True):
            if tensor.role == "bias":
                view.fill_(model.hyper_parameters.bias_init)
            else:
                draw(view, generator=generator)
    return flat
