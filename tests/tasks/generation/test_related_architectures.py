"""Weights moved into an architecture with a convolution more."""

from dataclasses import replace

import pytest
import torch

from weightzoo.builders.children.inheritance import inherited_weights, shared_tensors
from weightzoo.tasks.generation.measures import fine_tune, moved, scratch
from weightzoo.tasks.generation.related_architectures import related_architectures
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layers import Flatten, Linear
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import HyperParameters, load_recipe

CNN = preset("cnn-s")
PLAIN, SKIPPED = related_architectures(CNN)
VALUES = HyperParameters(bias_init=0.01, lr=3e-3, train_fraction=0.2)


@pytest.mark.parametrize("target", [PLAIN, SKIPPED])
def test_moved_weights_fill_what_is_shared_and_nothing_else(target: Architecture) -> None:
    source = scratch(CNN, VALUES, 2, seed=0) + 1
    made = moved(source, CNN, target, VALUES, seed=5)
    new, old = target.layer_table().split(made), CNN.layer_table().split(source)
    drawn = target.layer_table().split(scratch(target, VALUES, 2, seed=5))
    assert set(old) < set(new)
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert all(torch.equal(new[name], drawn[name]) for name in set(new) - set(old))
    assert not torch.equal(new["conv1.weight"], drawn["conv1.weight"])


def test_related_architectures_differ_from_the_source_by_one_convolution() -> None:
    added = CNN.layer_table().width + 4 * 4 * 3 * 3 + 4
    assert [one.layer_table().width for one in (PLAIN, SKIPPED)] == [added, added]
    assert PLAIN.shapes()[-1] == SKIPPED.shapes()[-1] == CNN.shapes()[-1]
    assert "residual" in SKIPPED.kinds() and "residual" not in PLAIN.kinds()
    assert Architecture.from_json(SKIPPED.to_json()) == SKIPPED


def test_a_skip_around_zeros_keeps_the_outputs_that_a_plain_convolution_loses() -> None:
    source = scratch(CNN, VALUES, 1, seed=0)
    images = load_images("digits").test.pixels[:4]
    wanted = CNN.module().eval()
    wanted.load_state_dict(CNN.layer_table().split(source[0]))
    same = []
    for target in (PLAIN, SKIPPED):
        tensors = target.layer_table().split(moved(source, CNN, target, VALUES, 1)[0])
        for name in set(tensors) - set(CNN.layer_table().split(source[0])):
            tensors[name].zero_()
        module = target.module().eval()
        module.load_state_dict(tensors)
        same.append(torch.allclose(module(images), wanted(images), atol=1e-6))
    assert same == [False, True]


def test_moved_weights_are_trained_as_a_population() -> None:
    weights = moved(scratch(CNN, VALUES, 2, seed=0), CNN, SKIPPED, VALUES, seed=1)
    accuracy = fine_tune(SKIPPED, weights, VALUES, load_images("digits"), (0, 1))
    assert accuracy.shape == (2, 2) and bool(accuracy.isfinite().all())


def test_inherited_weights_say_what_is_shared_in_part() -> None:
    wider = replace(CNN, name="wider", layers=(*CNN.layers[:-1], Linear(out=12)))
    assert len(shared_tensors(wider, CNN)) == len(CNN.layer_table()) - 2


def test_inherited_weights_refuse_an_architecture_that_shares_nothing() -> None:
    linear = Architecture(
        name="linear", input_shape=(1, 28, 28), layers=(Flatten(), Linear(out=10))
    )
    with pytest.raises(BuildError, match="'linear' shares no tensor with 'cnn-s'"):
        inherited_weights(linear, [], CNN, torch.zeros(0, CNN.layer_table().width))


def test_architectures_without_room_for_the_change_have_no_relatives() -> None:
    assert related_architectures(load_recipe("digits-mlp").architecture) == []
    vit = related_architectures(load_recipe("digits-vit").architecture)
    assert [one.name.split(" + ")[1] for one in vit] == ["conv"]  # its residuals come later
    resnet = preset("resnet18", width=4)
    assert all(
        set(shared_tensors(one, resnet)) == {tensor.name for tensor in resnet.layer_table()}
        for one in related_architectures(resnet)
    )
