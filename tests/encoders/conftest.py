"""Fixtures shared by the tests of the encoders."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from weightzoo.loaders.transforms.permutation_groups import Axis, PermutationGroup
from weightzoo.loaders.transforms.permutations import HiddenPermutations
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset

Reorder = Callable[[LayerTable, Tensor, bool], Tensor]


@pytest.fixture(scope="session")
def mlp() -> Architecture:
    """5-7-6-3, with another width at every place."""
    layers = [
        {"kind": "linear", "out": 7},
        {"kind": "activation"},
        {"kind": "linear", "out": 6},
        {"kind": "activation"},
        {"kind": "linear", "out": 3},
    ]
    return Architecture.from_json({"name": "mlp", "input_shape": [5], "layers": layers})


@pytest.fixture(scope="session")
def architectures(mlp: Architecture) -> dict[str, Architecture]:
    """Chains: an MLP, an INR, a CNN that flattens and one that pools globally."""
    return {"mlp": mlp, "inr": preset("inr"), "cnn": preset("cnn-s"), "gap": preset("small-cnn")}


@pytest.fixture(scope="session")
def reorder() -> Reorder:
    """Reorders the hidden units of (B, D) of a chain; uncoupled, only weights' rows follow."""

    def reorder(table: LayerTable, weights: Tensor, coupled: bool) -> Tensor:
        permutations = HiddenPermutations(table, _groups(table, coupled))
        orders = permutations.random_permutations(torch.Generator().manual_seed(1), len(weights))
        return permutations.apply(weights, orders)

    return reorder


def _groups(table: LayerTable, coupled: bool) -> list[PermutationGroup]:
    layers = [spec for spec in table if spec.role == "weight"]
    groups = []
    for layer, reader in itertools.pairwise(layers):
        axes = [Axis(layer.name, "out")]
        if coupled:
            axes += [Axis(f"{layer.layer}.bias", "out"), Axis(reader.name, "in")]
        groups.append(PermutationGroup(layer.layer, layer.shape[0], tuple(axes)))
    return groups
