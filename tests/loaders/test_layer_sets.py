"""Layer sets: every value in its chunk, padding marked, and the way back exact."""

import pytest
import torch
from torch import nn

from weightzoo.loaders.layer_sets import LayerSets
from weightzoo.zoos.layer_table import KINDS, ROLES, LayerTable
from weightzoo.zoos.recipe import load_recipe


def recipe_table(name: str) -> LayerTable:
    """The layer table of a shipped recipe."""
    return load_recipe(name).architecture.layer_table()


def norm_table() -> LayerTable:
    """A table with buffers, one of them a single integer, and a depthwise convolution."""
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4))
    return LayerTable.from_module(module)


TABLES = [recipe_table("digits-cnn"), recipe_table("digits-mlp"), norm_table()]


@pytest.mark.parametrize("table", TABLES, ids=["cnn", "mlp", "norm"])
@pytest.mark.parametrize("chunk_size", [1, 7, 32, 5000])
def test_inverse_gives_back_the_weights_exactly(table: LayerTable, chunk_size: int) -> None:
    sets = LayerSets(table, chunk_size)
    weights = torch.randn(3, table.width, generator=torch.Generator().manual_seed(0))
    values = sets(weights)["values"]
    assert values.shape == (3, *sets.shape)
    assert torch.equal(sets.inverse(values), weights)


@pytest.mark.parametrize("table", TABLES, ids=["cnn", "mlp", "norm"])
def test_mask_is_true_on_every_value_once_and_padding_is_zero(table: LayerTable) -> None:
    sets = LayerSets(table, 32)
    tokens = sets(torch.arange(1.0, table.width + 1).repeat(2, 1))
    assert tokens["mask"].dtype == torch.bool
    found = tokens["values"][1][tokens["mask"]]
    assert torch.equal(found, torch.arange(1.0, table.width + 1))
    assert not tokens["values"][:, ~tokens["mask"]].any()


@pytest.mark.parametrize("table", TABLES, ids=["cnn", "mlp", "norm"])
def test_tokens_know_their_tensor(table: LayerTable) -> None:
    sets = LayerSets(table, 8)
    owners = torch.cat([torch.full((spec.size,), i) for i, spec in enumerate(table)])
    tokens = sets(owners[None].float())
    index = tokens["tensor"]
    wanted = index[:, None].expand(sets.shape)[tokens["mask"]]
    assert torch.equal(tokens["values"][0][tokens["mask"]].long(), wanted)
    assert [KINDS[i] for i in tokens["kind"]] == [table[i].kind for i in index]
    assert [ROLES[i] for i in tokens["role"]] == [table[i].role for i in index]
    assert tokens["level"].tolist() == [table[i].depth for i in index]


def test_linear_chunk_of_the_fan_in_is_one_neuron() -> None:
    linear = nn.Linear(6, 4)
    table = LayerTable.from_module(nn.Sequential(linear))
    tokens = LayerSets(table, 6)(
        table.flatten({"0.weight": linear.weight, "0.bias": linear.bias})[None]
    )
    assert torch.equal(tokens["values"][0, :4], linear.weight)
    assert torch.equal(tokens["values"][0, 4, :4], linear.bias)
    assert tokens["mask"][4].tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize(("chunk_size", "kernels"), [(32, 3), (9, 1), (4, 1), (18, 2)])
def test_convolution_keeps_its_kernels_whole(chunk_size: int, kernels: int) -> None:
    conv = nn.Conv2d(5, 2, 3, bias=False)
    table = LayerTable.from_module(nn.Sequential(conv))
    sets = LayerSets(table, chunk_size)
    values = sets(conv.weight.detach().reshape(1, -1))["values"][0]
    padded = torch.zeros(-(-10 // kernels) * kernels, 9)
    padded[:10] = conv.weight.detach().reshape(10, 9)
    assert sets.shape == (len(padded) // kernels, 9 * kernels)
    assert torch.equal(values, padded.reshape(sets.shape))


def test_inverse_passes_gradients_to_real_values_only() -> None:
    sets = LayerSets(TABLES[0], 32)
    values = torch.zeros(1, *sets.shape, requires_grad=True)
    sets.inverse(values).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad[0], sets.shared["mask"].float())


def test_layer_sets_reject_wrong_shapes_and_chunk_sizes() -> None:
    sets = LayerSets(TABLES[0], 32)
    with pytest.raises(ValueError, match=r"weights must have shape \(B, 2464\)"):
        sets(torch.zeros(2, 2463))
    with pytest.raises(ValueError, match=r"values must have shape \(B, 94, 32\)"):
        sets.inverse(torch.zeros(2, 94, 31))
    with pytest.raises(ValueError, match="chunk_size must be a whole number from 1, got 0"):
        LayerSets(TABLES[0], 0)
