"""Architectures: sizes of the published ones, JSON, and layers that do not fit."""

import json
from typing import Any

import pytest
import torch
from make_tiny_zoo import tiny_architecture
from torch import nn

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_kind import ACTIVATIONS
from weightzoo.zoos.networks.layers import LAYERS
from weightzoo.zoos.recipe import load_recipe

PARAMETERS = {"digits-cnn": 2464, "digits-mlp": 16330}


def spec(*layers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An architecture's data with these layers."""
    return {"name": "x", "input_shape": [1, 8, 8], "layers": list(layers)} | changes


@pytest.mark.parametrize("name", PARAMETERS)
def test_shipped_architecture_has_its_published_size(name: str) -> None:
    architecture = load_recipe(name).architecture
    module = architecture.module()
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]
    assert architecture.layer_table().width == PARAMETERS[name]
    assert module(torch.zeros(3, *architecture.input_shape)).shape == (3, 10)


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_are_those_of_the_module(name: str) -> None:
    architecture = load_recipe(name).architecture
    values = torch.zeros(2, *architecture.input_shape)
    shapes = [architecture.input_shape]
    for layer in architecture.module():
        values = layer(values)
        shapes.append(tuple(values.shape[1:]))
    assert architecture.shapes() == shapes


def test_convolution_shapes_follow_torch() -> None:
    layers = [
        {"kind": "conv", "out": 3, "kernel": 3, "stride": 2, "padding": 1},
        {"kind": "max_pool", "size": 3},
    ]
    architecture = Architecture.from_json(spec(*layers, input_shape=[2, 11, 14]))
    assert architecture.module()(torch.zeros(1, 2, 11, 14)).shape[1:] == architecture.shapes()[-1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_json_round_trip(name: str) -> None:
    architecture = load_recipe(name).architecture
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_layer_table_leaves_torchs_generator_alone() -> None:
    architecture = tiny_architecture()
    before = torch.random.get_rng_state()
    architecture.layer_table()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_module_has_the_activation_asked_for(activation: str) -> None:
    module = tiny_architecture().module(activation)
    values = torch.linspace(-3, 3, 7)
    expected = getattr(nn.functional, activation, None) or getattr(torch, activation)
    for name in ("activation1", "activation2"):
        assert torch.equal(module.get_submodule(name)(values), expected(values))


@pytest.mark.parametrize("activation", ["softmax", "ReLU", ""])
def test_module_refuses_unknown_activation(activation: str) -> None:
    with pytest.raises(ValueError, match=r"activation must be one of \['relu', "):
        tiny_architecture().module(activation)


def test_dropout_never_shifts_names() -> None:
    layers = [row for row in tiny_architecture().to_json()["layers"] if row["kind"] != "dropout"]
    without = Architecture.from_json(spec(*layers))
    for dropout in (0.0, 0.5):
        names = list(tiny_architecture().module(dropout=dropout).state_dict())
        assert names == list(without.module().state_dict())
    assert without.layer_table() == tiny_architecture().layer_table()


def test_dropout_rate_reaches_the_module() -> None:
    module = tiny_architecture().module(dropout=0.25)
    assert [layer.p for layer in module if isinstance(layer, nn.Dropout)] == [0.25]
    images = torch.randn(4, 1, 8, 8)
    torch.manual_seed(0)
    assert not torch.equal(module.train()(images), module(images))
    assert torch.equal(module.eval()(images), module(images))


BAD_LAYERS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown kind": ({"kind": "lstm", "out": 3}, f"kind in {list(LAYERS)}"),
    "no kind": ({"out": 3}, "layer must be a table with kind in"),
    "unknown key": ({"kind": "flatten", "dim": 1}, "flatten takes the keys []"),
    "missing key": ({"kind": "conv", "out": 3}, "conv takes the keys ['out', 'kernel', 'stride'"),
    "zero": ({"kind": "conv", "out": 0, "kernel": 3}, "out must be a whole number from 1"),
    "negative": ({"kind": "conv", "out": 3, "kernel": 3, "padding": -1}, "padding must be a whole"),
    "fraction": ({"kind": "conv", "out": 1.5, "kernel": 3}, "out must be a whole number"),
    "true": ({"kind": "conv", "out": True, "kernel": 3}, "out must be a whole number"),
    "text": ({"kind": "conv", "out": "8", "kernel": 3}, "out must be a whole number"),
    "huge": ({"kind": "conv", "out": 10**40, "kernel": 3}, "out must be a whole number"),
    "too large a kernel": ({"kind": "conv", "out": 3, "kernel": 9}, "leaves nothing of an input"),
    "too large a pool": ({"kind": "max_pool", "size": 9}, "leaves nothing of an input"),
    "image into linear": ({"kind": "linear", "out": 3}, "linear needs a flat input, got shape"),
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_json_of_a_bad_layer_is_refused(case: str) -> None:
    layer, message = BAD_LAYERS[case]
    with pytest.raises(ZooFormatError) as error:
        Architecture.from_json(spec(layer))
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["conv", "max_pool"])
def test_image_layer_after_flatten_is_refused(kind: str) -> None:
    layer = {"conv": {"out": 2, "kernel": 3}, "max_pool": {}}[kind] | {"kind": kind}
    with pytest.raises(ZooFormatError, match=f"{kind} needs an image .* got shape"):
        Architecture.from_json(spec({"kind": "flatten"}, layer))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"name": "x"},
        spec(code="import os"),
        spec(layers={}),
        spec(layers=[None]),
        spec(input_shape=8),
        spec(input_shape=[1, 0, 8]),
        spec(input_shape=[1, "8", 8]),
    ],
)
def test_json_that_is_no_architecture_is_refused(data: Any) -> None:
    with pytest.raises(ZooFormatError, match="architecture|layer must be|input_shape must be"):
        Architecture.from_json(data)


BAD_NESTED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "shapes differ": (
        [{"kind": "residual", "body": [{"kind": "conv", "out": 2, "kernel": 3}]}],
        r"body gives \(2, 6, 6\) but the shortcut \(1, 8, 8\)",
    ),
    "bad inner layer": (
        [{"kind": "residual", "body": [{"kind": "rnn"}]}],
        "layer must be a table with kind in",
    ),
    "kind is a list": ([{"kind": ["conv"]}], "layer must be a table with kind in"),
    "kind is a table": ([{"kind": {"conv": 1}}], "layer must be a table with kind in"),
    "body is no list": ([{"kind": "residual", "body": 3}], "body must be a list of layers"),
    "bias is a number": (
        [{"kind": "conv", "out": 1, "kernel": 3, "bias": 1}],
        "bias must be true or false, got 1",
    ),
    "heads": (
        [{"kind": "tokens"}, {"kind": "attention", "heads": 2}],
        "2 heads do not divide the width 1",
    ),
    "attention on an image": ([{"kind": "attention", "heads": 1}], "attention needs tokens"),
    "pool mode": ([{"kind": "tokens"}, {"kind": "token_pool", "mode": "max"}], "mode must be one"),
    "omega": ([{"kind": "sine", "omega": float("inf")}], "omega must be a finite number"),
}


@pytest.mark.parametrize("case", BAD_NESTED)
def test_json_of_a_bad_block_is_refused(case: str) -> None:
    layers, message = BAD_NESTED[case]
    with pytest.raises(ZooFormatError, match=message):
        Architecture.from_json(spec(*layers))


def test_json_nested_too_deep_is_refused() -> None:
    layer: dict[str, Any] = {"kind": "activation"}
    for _ in range(100):
        layer = {"kind": "residual", "body": [layer]}
    with pytest.raises(ZooFormatError, match="at most 16 lists deep"):
        Architecture.from_json(spec(layer))
