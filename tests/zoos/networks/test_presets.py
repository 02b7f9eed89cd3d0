"""Presets: the published sizes, and modules that compute."""

from typing import Any

import pytest
import torch

from weightzoo.zoos.errors import RecipeError, ZooFormatError
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.presets import PRESETS, preset, resolve
from weightzoo.zoos.recipe import Recipe

PUBLISHED = [
    ("cnn-s", {}, 2_464),
    ("cnn-s", {"channels": 3}, 2_864),
    ("cnn-l", {}, 10_853),
    ("small-cnn", {}, 4_970),
    ("resnet18", {}, 11_173_962),
    ("resnet18", {"classes": 100}, 11_220_132),
    ("resnet18", {"classes": 200, "side": 64}, 11_271_432),
    ("inr", {}, 1_153),
]


@pytest.mark.parametrize(("name", "sizes", "parameters"), PUBLISHED)
def test_preset_has_its_published_size(name: str, sizes: dict[str, int], parameters: int) -> None:
    assert preset(name, **sizes).layer_table().parameters == parameters


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name: str) -> None:
    architecture = preset(name)
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize("name", PRESETS)
def test_preset_computes_what_its_shapes_say(name: str) -> None:
    architecture = preset(name, **({"width": 8} if name == "resnet18" else {}))
    values = torch.zeros(2, *architecture.input_shape)
    for layer, shape in zip(architecture.module(), architecture.shapes()[1:], strict=True):
        values = layer(values)
        assert tuple(values.shape[1:]) == shape, layer


def test_vit_is_about_five_times_the_size_of_the_sne_cnn() -> None:
    sizes = {name: preset(name).layer_table().parameters for name in ("vit", "sne-cnn")}
    assert 4.5 < sizes["vit"] / sizes["sne-cnn"] < 5.6


def test_attention_and_embeddings_have_kinds_of_their_own() -> None:
    kinds = {tensor.name: tensor.kind for tensor in preset("vit").layer_table()}
    assert kinds["residual1.body.attention1.query.weight"] == "attention"
    assert kinds["position_embedding1.class_token"] == "embedding"
    assert kinds["residual2.body.linear1.weight"] == "linear"
    assert kinds["layer_norm1.bias"] == "norm"


def test_resolve_takes_layers_too() -> None:
    architecture = preset("cnn-s")
    assert resolve(architecture.to_json()) == architecture
    assert resolve({"preset": "cnn-s"}) == architecture


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"preset": "vgg"}, r"preset must be one of \['cnn-s', .*got 'vgg'"),
    "key": (
        {"preset": "cnn-s", "side": 9},
        r"'cnn-s' takes \['channels', 'classes'\], got \['side'\]",
    ),
    "value": ({"preset": "cnn-l", "channels": 0}, "channels must be a whole number from 1: 0"),
    "heads": ({"preset": "vit", "heads": 5}, "5 heads do not divide the width 36"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistake_in_a_preset_is_named(case: str) -> None:
    spec, message = BAD[case]
    with pytest.raises(ZooFormatError, match=message):
        resolve(spec)


def test_recipe_names_a_mistake_in_its_preset() -> None:
    data = {
        "name": "mine",
        "architecture": {"preset": "vgg"},
        "images": "digits",
        "epochs": 1,
        "checkpoints": [1],
        "split": {"train": 1.0},
    }
    with pytest.raises(RecipeError, match="preset must be one of"):
        Recipe.from_json(data)
