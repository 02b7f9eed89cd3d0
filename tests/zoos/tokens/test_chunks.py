"""Chunks: every value in its chunk, padding marked, and the way back exact."""

import pickle

import pytest
import torch
from torch import nn

from weightzoo.zoos.networks.layer_table import KINDS, ROLES, LayerTable
from weightzoo.zoos.recipe import load_recipe
from weightzoo.zoos.tokens.chunks import Chunks


def recipe_table(name: str) -> LayerTable:
    """The layer table of a shipped recipe."""
    return load_recipe(name).architecture.layer_table()


def norm_table() -> LayerTable:
    """A table with buffers, one of them a single integer, and a depthwise convolution."""
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4))
    return LayerTable.from_module(module)


TABLES = [recipe_table("digits-cnn"), recipe_table("digits-mlp"), norm_table()]
IDS = ["cnn", "mlp", "norm"]


@pytest.mark.parametrize("table", TABLES, ids=IDS)
@pytest.mark.parametrize("size", [1, 7, 32, 5000])
@pytest.mark.parametrize("align", ["flat", "row"])
def test_inverse_gives_back_the_weights_exactly(table: LayerTable, size: int, align: str) -> None:
    chunks = Chunks(table, size, align)
    weights = torch.randn(3, table.width, generator=torch.Generator().manual_seed(0))
    values = chunks(weights)["values"]
    assert values.shape == (3, *chunks.shape)
    assert torch.equal(chunks.inverse(values), weights)


@pytest.mark.parametrize("table", TABLES, ids=IDS)
@pytest.mark.parametrize("align", ["flat", "row"])
def test_mask_is_true_on_every_value_once_and_padding_is_zero(
    table: LayerTable, align: str
) -> None:
    tokens = Chunks(table, 32, align)(torch.arange(1.0, table.width + 1).repeat(2, 1))
    assert tokens["mask"].dtype == torch.bool
    found = tokens["values"][1][tokens["mask"]]
    assert torch.equal(found, torch.arange(1.0, table.width + 1))
    assert not tokens["values"][:, ~tokens["mask"]].any()


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_tokens_know_their_tensor(table: LayerTable) -> None:
    chunks = Chunks(table, 8)
    owners = torch.cat([torch.full((spec.size,), i) for i, spec in enumerate(table)])
    tokens = chunks(owners[None].float())
    index = tokens["tensor"]
    wanted = index[:, None].expand(chunks.shape)[tokens["mask"]]
    assert torch.equal(tokens["values"][0][tokens["mask"]].long(), wanted)
    assert [KINDS[i] for i in tokens["kind"]] == [table[i].kind for i in index]
    assert [ROLES[i] for i in tokens["role"]] == [table[i].role for i in index]
    assert tokens["level"].tolist() == [table[i].depth for i in index]


def test_linear_chunk_of_the_fan_in_is_one_neuron() -> None:
    linear = nn.Linear(6, 4)
    table = LayerTable.from_module(nn.Sequential(linear))
    weights = table.flatten({"0.weight": linear.weight, "0.bias": linear.bias})[None]
    tokens = Chunks(table, 6)(weights)
    assert torch.equal(tokens["values"][0, :4], linear.weight)
    assert torch.equal(tokens["values"][0, 4, :4], linear.bias)
    assert tokens["mask"][4].tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize(("size", "kernels"), [(32, 3), (9, 1), (4, 1), (18, 2)])
def test_convolution_keeps_its_kernels_whole(size: int, kernels: int) -> None:
    conv = nn.Conv2d(5, 2, 3, bias=False)
    table = LayerTable.from_module(nn.Sequential(conv))
    chunks = Chunks(table, size)
    values = chunks(conv.weight.detach().reshape(1, -1))["values"][0]
    padded = torch.zeros(-(-10 // kernels) * kernels, 9)
    padded[:10] = conv.weight.detach().reshape(10, 9)
    assert chunks.shape == (len(padded) // kernels, 9 * kernels)
    assert torch.equal(values, padded.reshape(chunks.shape))


@pytest.mark.parametrize("align", ["flat", "row"])
def test_chunks_of_the_paper_hold_kernels_of_convolutions_and_values_elsewhere(align: str) -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Conv2d(4, 2, 3), nn.Linear(4, 2)))
    chunks = Chunks(table, 4, align, "kernels")
    weights = torch.randn(2, table.width)
    tokens = chunks(weights)
    assert chunks.shape[1] == 4 * 9
    assert tokens["mask"].sum(1).tolist() == [36, 36, 2, 4, 4, 2]
    assert torch.equal(chunks.inverse(tokens["values"]), weights)
    with pytest.raises(ValueError, match="conv_chunk must be one of .*got 'rows'"):
        Chunks(table, 4, align, "rows")


def test_row_alignment_never_mixes_neurons() -> None:
    table = LayerTable.from_module(nn.Linear(5, 3))
    neuron = torch.cat([torch.arange(1.0, 4.0).repeat_interleave(5), torch.full((3,), 9.0)])
    aligned, flat = (
        Chunks(table, 4, align)(neuron[None])["values"][0] for align in ("row", "flat")
    )
    assert aligned.tolist()[:3] == [[1] * 4, [1, 0, 0, 0], [2] * 4]
    assert flat.tolist()[1] == [1, 2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_any_dtype_is_cut_like_float32(dtype: torch.dtype) -> None:
    chunks = Chunks(TABLES[0], 32)
    weights = torch.randint(-9, 10, (5, 2464))
    values = chunks(weights.to(dtype))["values"]
    assert values.dtype == dtype
    assert torch.equal(values.float(), chunks(weights.float())["values"])
    assert torch.equal(chunks.inverse(values), weights.to(dtype))


def test_pickled_chunks_cut_the_same() -> None:
    chunks = Chunks(TABLES[0], 16, "row", "kernels")
    weights = torch.randn(200, 2464)
    before = chunks(weights)
    pickled = pickle.dumps(chunks)
    assert len(pickled) < 10_000
    after = pickle.loads(pickled)(weights)
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_chunks_reject_wrong_shapes_sizes_and_alignments() -> None:
    chunks = Chunks(TABLES[0], 32)
    with pytest.raises(ValueError, match=r"weights must have shape \(B, 2464\)"):
        chunks(torch.zeros(2, 2463))
    with pytest.raises(ValueError, match=r"values must have shape \(B, 94, 32\)"):
        chunks.inverse(torch.zeros(2, 94, 31))
    with pytest.raises(ValueError, match="chunk_size must be a whole number from 1, got 0"):
        Chunks(TABLES[0], 0)
    with pytest.raises(ValueError, match="align must be one of .*'flat', 'row'.*got 'column'"):
        Chunks(TABLES[0], 8, "column")
