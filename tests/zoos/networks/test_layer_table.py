"""The layer table: flat vectors and state dicts are the same values, and bad tables are refused."""

import json
from typing import Any

import pytest
import torch
from make_tiny_zoo import tiny_architecture
from torch import nn

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.networks.layer_table import KINDS, LayerTable, TensorSpec


def norm_network() -> nn.Sequential:
    """A network with parameters, float buffers and a counter."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)
    )


def trained_norm_network() -> nn.Sequential:
    """The same after three steps in training mode, so that its buffers moved."""
    torch.manual_seed(1)
    network = norm_network()
    for _ in range(3):
        network(torch.randn(5, 1, 8, 8))
    return network.eval()


def rows(**changes: Any) -> list[dict[str, Any]]:
    """The tiny table as JSON data, the fields of its first tensor replaced by `changes`."""
    data = tiny_architecture().layer_table().to_json()
    data[0] |= changes
    return data


def test_table_lists_tensors_without_gaps() -> None:
    table = tiny_architecture().layer_table()
    assert [(t.name, t.shape, t.offset, t.depth) for t in table] == [
        ("conv1.weight", (2, 1, 3, 3), 0, 0),
        ("conv1.bias", (2,), 18, 0),
        ("linear1.weight", (4, 8), 20, 1),
        ("linear1.bias", (4,), 52, 1),
        ("linear2.weight", (3, 4), 56, 2),
        ("linear2.bias", (3,), 68, 2),
    ]
    assert (len(table), table.width, table.parameters) == (6, 71, 71)
    assert [t.layer for t in table[::2]] == ["conv1", "linear1", "linear2"]


def test_table_tells_buffers_from_parameters() -> None:
    network = norm_network()
    table = LayerTable.from_module(network)
    assert [(t.kind, t.role, t.dtype) for t in table if t.layer == "1"] == [
        ("norm", "weight", "float32"),
        ("norm", "bias", "float32"),
        ("norm", "buffer", "float32"),
        ("norm", "buffer", "float32"),
        ("norm", "buffer", "int64"),
    ]
    assert table.parameters == sum(p.numel() for p in network.parameters())
    assert table.width == table.parameters + 7


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv1d(1, 2, 3), "conv"),
        (nn.ConvTranspose2d(1, 2, 3), "conv"),
        (nn.Linear(2, 3), "linear"),
        (nn.LayerNorm(4), "norm"),
        (nn.GroupNorm(1, 4), "norm"),
        (nn.Embedding(3, 2), "embedding"),
        (nn.MultiheadAttention(4, 2), "attention"),
        (nn.LSTM(2, 3), "other"),
    ],
)
def test_kind_follows_the_owning_layer(module: nn.Module, kind: str) -> None:
    table = LayerTable.from_module(module)
    assert table[0].kind == kind and kind in KINDS
    assert {tensor.name for tensor in table} == set(module.state_dict())


def test_json_round_trip() -> None:
    table = LayerTable.from_module(norm_network())
    assert LayerTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_flat_vector_rebuilds_the_same_network() -> None:
    trained, images = trained_norm_network(), torch.randn(4, 1, 8, 8)
    table = LayerTable.from_module(trained)
    state = table.state_dict(table.flatten(trained.state_dict()))
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert state["1.num_batches_tracked"] == 3
    rebuilt = norm_network()
    rebuilt.load_state_dict(state)
    assert torch.equal(rebuilt.eval()(images), trained(images))


def test_buffers_matter_for_the_logits() -> None:
    trained, images = trained_norm_network(), torch.randn(4, 1, 8, 8)
    table = LayerTable.from_module(trained)
    flat = table.flatten(trained.state_dict())
    mean = next(tensor for tensor in table if tensor.name == "1.running_mean")
    flat[mean.offset : mean.offset + mean.size] += 1
    rebuilt = norm_network()
    rebuilt.load_state_dict(table.state_dict(flat))
    assert not torch.allclose(rebuilt.eval()(images), trained(images))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
def test_split_views_any_batch(lead: tuple[int, ...]) -> None:
    table = tiny_architecture().layer_table()
    weights = torch.randn(*lead, table.width)
    parts = table.split(weights)
    assert {name: part.shape for name, part in parts.items()} == {
        tensor.name: (*lead, *tensor.shape) for tensor in table
    }
    pairs = zip(parts.values(), table, strict=True)
    flat = [part.reshape(*lead, tensor.size) for part, tensor in pairs]
    assert torch.equal(torch.cat(flat, dim=-1), weights)


def test_split_of_one_vector_shares_its_memory() -> None:
    table, weights = tiny_architecture().layer_table(), torch.zeros(71)
    table.split(weights)["linear1.bias"].fill_(7)
    assert weights.nonzero().flatten().tolist() == [52, 53, 54, 55]


def test_split_refuses_another_width() -> None:
    with pytest.raises(ValueError, match="weights have length 70, expected D=71"):
        tiny_architecture().layer_table().split(torch.zeros(2, 70))


def test_flatten_refuses_other_state_dicts() -> None:
    architecture = tiny_architecture()
    table, state = architecture.layer_table(), architecture.module().state_dict()
    with pytest.raises(ValueError, match=r"differ in \['extra'\]"):
        table.flatten(state | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"linear2.bias has shape \(4,\), expected \(3,\)"):
        table.flatten(state | {"linear2.bias": torch.zeros(4)})
    del state["conv1.bias"]
    with pytest.raises(ValueError, match=r"differ in \['conv1.bias'\]"):
        table.flatten(state)


HOSTILE_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "gap": ({"offset": 1}, "'conv1.weight' starts at 1, expected 0"),
    "overlap": ({"shape": [2, 1, 3, 2]}, "'conv1.bias' starts at 18, expected 12"),
    "huge": ({"shape": [10**30]}, "'conv1.bias' starts at 18, expected 10000"),
    "negative": ({"shape": [-2, -1, 3, 3]}, "'conv1.weight' has a negative or non-integer"),
    "negative offset": ({"offset": -1}, "negative or non-integer"),
    "fraction": ({"depth": 0.5}, "negative or non-integer"),
    "true as a number": ({"depth": True}, "negative or non-integer"),
    "text as a number": ({"shape": ["2"]}, "negative or non-integer"),
    "shape as a text": ({"shape": "2133"}, "shape must be a list"),
    "no shape": ({"shape": None}, "shape must be a list"),
    "unknown kind": ({"kind": "convolution"}, "has kind 'convolution'"),
    "kind as a list": ({"kind": ["conv"]}, "has kind ['conv']"),
    "unknown role": ({"role": "gain"}, "role 'gain', allowed are"),
    "unknown dtype": ({"dtype": "nn"}, "unknown dtype 'nn'"),
    "dtype as a number": ({"dtype": 32}, "32"),
    "name as a number": ({"name": 5}, "5"),
    "name as a list": ({"name": []}, "[]"),
    "layer as nothing": ({"layer": None}, "None"),
    "name twice": ({"name": "conv1.bias"}, "names a tensor twice"),
    "extra field": ({"code": "import os"}, "must have the fields"),
}


@pytest.mark.parametrize("case", HOSTILE_FIELDS)
def test_json_of_a_bad_tensor_is_refused(case: str) -> None:
    changes, message = HOSTILE_FIELDS[case]
    with pytest.raises(ZooFormatError) as error:
        LayerTable.from_json(rows(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize("data", [None, {}, [], "x", 5, [None], [[]], [{}], [{"name": "x"}]])
def test_json_that_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(ZooFormatError, match="layer table"):
        LayerTable.from_json(data)


def test_table_without_tensors_is_refused() -> None:
    with pytest.raises(ZooFormatError, match="at least one tensor"):
        LayerTable.from_module(nn.ReLU())


def test_table_of_empty_tensors_alone_is_refused() -> None:
    empty = TensorSpec(
        name="w", kind="linear", role="weight", shape=(0, 3), offset=0, layer="", depth=0
    )
    with pytest.raises(ZooFormatError, match="at least one value"):
        LayerTable((empty,))
