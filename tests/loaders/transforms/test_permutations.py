"""Permutations: the same logits for coupled ones, other logits for uncoupled ones."""

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor

from weightzoo.loaders.transforms.permutation_groups import Axis, PermutationGroup, hidden_groups
from weightzoo.loaders.transforms.permutations import HiddenPermutations, inverse_permutations
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_kind import ACTIVATIONS
from weightzoo.zoos.recipe import load_recipe

ARCHITECTURES = {name: load_recipe(name).architecture for name in ("digits-cnn", "digits-mlp")}
MODELS = 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_weights(architecture: Architecture, models: int = MODELS) -> Tensor:
    """(models, D), of the size that trained weights have."""
    return 0.3 * torch.randn(models, architecture.layer_table().width, generator=generator())


def logits(architecture: Architecture, weights: Tensor, activation: str) -> Tensor:
    """(B, images, classes), in float64."""
    images = torch.randn(4, *architecture.input_shape, generator=generator(1), dtype=torch.float64)
    module = architecture.module(activation).eval().double()
    outputs = []
    for vector in weights:
        module.load_state_dict(architecture.layer_table().state_dict(vector))
        outputs.append(module(images).detach())
    return torch.stack(outputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_permuted_models_have_the_same_logits(name: str, activation: str) -> None:
    architecture = ARCHITECTURES[name]
    permutations = HiddenPermutations.of(architecture)
    weights = random_weights(architecture)
    permuted = permutations.apply(weights, permutations.random_permutations(generator(2), MODELS))
    assert ((permuted != weights).sum(1) > weights.shape[1] / 2).all()
    before, after = (logits(architecture, each, activation) for each in (weights, permuted))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_permutation_of_one_side_alone_changes_the_logits(name: str, activation: str) -> None:
    architecture = ARCHITECTURES[name]
    weights = random_weights(architecture)
    before = logits(architecture, weights, activation)
    for group in hidden_groups(architecture):
        outputs = tuple(axis for axis in group.axes if axis.side == "out")
        uncoupled = HiddenPermutations(architecture.layer_table(), [replace(group, axes=outputs)])
        swap = torch.arange(group.units).roll(1).repeat(MODELS, 1)
        after = logits(architecture, uncoupled.apply(weights, [swap]), activation)
        assert ((after - before).abs().amax((1, 2)) > 1e-5).all(), group.layer


def test_flattened_channels_move_as_blocks() -> None:
    architecture = ARCHITECTURES["digits-cnn"]
    group = hidden_groups(architecture)[2]
    assert (group.layer, group.units) == ("conv3", 4)
    assert group.axes[-1] == Axis("linear1.weight", "in")
    weights = random_weights(architecture)
    permutations = HiddenPermutations.of(architecture)
    orders = permutations.identity(MODELS)
    orders[2] = torch.tensor([3, 1, 0, 2]).repeat(MODELS, 1)
    table = architecture.layer_table()
    before = table.split(weights)["linear1.weight"].unflatten(2, (4, 9))
    after = table.split(permutations.apply(weights, orders))["linear1.weight"].unflatten(2, (4, 9))
    assert torch.equal(after, before[:, :, [3, 1, 0, 2]])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_groups_couple_each_layer_with_the_next(name: str) -> None:
    groups = hidden_groups(ARCHITECTURES[name])
    layers = [group.layer for group in groups]
    assert (
        layers
        == {
            "digits-cnn": ["conv1", "conv2", "conv3", "linear1"],
            "digits-mlp": ["linear1", "linear2"],
        }[name]
    )
    for group, after in zip(groups, groups[1:], strict=False):
        sides = [(axis.tensor, axis.side) for axis in group.axes]
        weight, bias = f"{group.layer}.weight", f"{group.layer}.bias"
        assert sides == [(weight, "out"), (bias, "out"), (f"{after.layer}.weight", "in")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inverse_permutations_give_back_the_weights(name: str, dtype: torch.dtype) -> None:
    weights = random_weights(ARCHITECTURES[name], 5).to(dtype)
    permutations = HiddenPermutations.of(ARCHITECTURES[name])
    orders = permutations.random_permutations(generator(3), 5)
    permuted = permutations.apply(weights, orders)
    assert permuted.dtype == dtype
    assert torch.equal(permutations.apply(permuted, inverse_permutations(orders)), weights)
    assert torch.equal(permutations.apply(weights, permutations.identity(5)), weights)


def test_each_model_has_its_own_permutation() -> None:
    architecture = ARCHITECTURES["digits-cnn"]
    permutations = HiddenPermutations.of(architecture)
    weights, orders = random_weights(architecture, 6), []
    orders = permutations.random_permutations(generator(), 6)
    batch = permutations.apply(weights, orders)
    for model in range(6):
        alone = permutations.apply(
            weights[model : model + 1], [o[model : model + 1] for o in orders]
        )
        assert torch.equal(alone[0], batch[model])
    assert all(len(order.unique(dim=0)) > 1 for order in orders)


def test_random_permutations_are_uniform_and_repeat_with_the_seed() -> None:
    permutations = HiddenPermutations.of(ARCHITECTURES["digits-cnn"])
    one, other = (permutations.random_permutations(generator(4), 4000) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    counts = torch.unique(one[2], dim=0, return_counts=True)[1]
    assert len(counts) == prod(range(1, 5))
    assert (counts - 4000 / 24).abs().max() < 60  # 4.7 standard deviations


def test_gradients_pass_through_a_permutation() -> None:
    permutations = HiddenPermutations.of(ARCHITECTURES["digits-cnn"])
    orders = permutations.random_permutations(generator(), MODELS)
    weights = random_weights(ARCHITECTURES["digits-cnn"]).requires_grad_()
    factor = torch.randn(weights.shape, generator=generator(5))
    (permutations.apply(weights, orders) * factor).sum().backward()
    assert torch.equal(weights.grad, permutations.apply(factor, inverse_permutations(orders)))


def test_permutations_reject_what_does_not_fit() -> None:
    table = ARCHITECTURES["digits-mlp"].layer_table()
    permutations = HiddenPermutations.of(ARCHITECTURES["digits-mlp"])
    with pytest.raises(ValueError, match=r"weights must have shape \(B, 16330\)"):
        permutations.apply(torch.zeros(2, 5), permutations.identity(2))
    with pytest.raises(ValueError, match=r"shapes \[\(3, 20\), \(3, 20\)\], got \[\(2, 20\)"):
        permutations.apply(torch.zeros(3, 16330), permutations.identity(2))
    with pytest.raises(
        ValueError, match="name tensors that the layer table lacks: .'linear9.weight'"
    ):
        HiddenPermutations(table, [PermutationGroup("a", 20, (Axis("linear9.weight", "out"),))])
    with pytest.raises(ValueError, match=r"linear1.bias of shape \(20,\) does not fit"):
        HiddenPermutations(table, [PermutationGroup("a", 8, (Axis("linear1.bias", "out"),))])
    axes = (Axis("linear1.bias", "out"), Axis("linear1.bias", "out"))
    with pytest.raises(ValueError, match="is in two groups"):
        HiddenPermutations(table, [PermutationGroup("a", 20, axes)])
