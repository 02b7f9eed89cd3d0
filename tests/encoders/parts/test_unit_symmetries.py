"""Which hidden units have factors that leave the function unchanged."""

import math

import pytest
import torch

from weightzoo.encoders.parts.unit_symmetries import (
    NONE,
    SCALE,
    SIGN,
    canonical_phases,
    set_symmetries,
)
from weightzoo.encoders.parts.weight_graph import weight_graph
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.presets import preset


def symmetries(architecture: Architecture, activation: str) -> tuple[int, ...]:
    return set_symmetries(weight_graph(architecture.layer_table()), architecture, activation)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", (NONE, SCALE, SCALE, SCALE, SCALE, NONE)),
        ("leaky_relu", (NONE, SCALE, SCALE, SCALE, SCALE, NONE)),
        ("tanh", (NONE, NONE, NONE, SIGN, SIGN, NONE)),  # two convolutions are max-pooled
        ("gelu", (NONE,) * 6),
    ],
)
def test_symmetry_follows_from_activation_and_pooling(
    activation: str, expected: tuple[int, ...]
) -> None:
    assert symmetries(preset("cnn-s"), activation) == expected


def test_sine_units_have_signs_whatever_the_activation_column_says() -> None:
    assert symmetries(preset("inr"), "relu") == (NONE, SIGN, SIGN, NONE)


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_units_beside_norms_and_sums_have_no_symmetry(name: str) -> None:
    assert set(symmetries(preset(name, width=4), "relu")) == {NONE}


def test_canonical_phases_keep_the_function_and_limit_the_phase() -> None:
    inr = preset("inr", inputs=2)
    table, points = inr.layer_table(), torch.rand(20, 2, dtype=torch.float64)
    weights = torch.randn(3, table.width, dtype=torch.float64)
    canonical = canonical_phases(weights, inr, table)
    before, after = (
        NetworkBatch(inr, ("relu",) * 3, w).outputs(points) for w in (weights, canonical)
    )
    torch.testing.assert_close(after, before)
    biases = [table.split(canonical)[f"linear{layer}.bias"] for layer in (1, 2)]
    assert max(30 * one.abs().max() for one in biases) <= math.pi / 2 + 1e-9
    assert 30 * table.split(weights)["linear1.bias"].abs().max() > math.pi / 2
