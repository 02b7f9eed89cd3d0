"""The small networks on top of encodings."""

import itertools
from collections.abc import Sequence

from torch import nn


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers between consecutive widths, with ReLU between them and none at the end.

    Raises:
        ValueError: if a width is below 1.
    """
    if min(widths) < 1:
        raise ValueError(f"widths and outputs must be at least 1, got {list(widths)!r}")
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normalized_perceptron(widths: Sequence[int]) -> nn.Sequential:
    """A perceptron behind a batch norm.

    What an encoder averages over many values differs little between two networks, a thousandth of
    its size at the start, and training often stays at the constant without the norm. In training
    mode it needs at least two models.
    """
    return nn.Sequential(nn.BatchNorm1d(widths[0]), *perceptron(widths))
