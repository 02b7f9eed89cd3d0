"""Editing of INRs: equivariance of the editor, dilation, and errors of rendered images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.builders.build import build_zoo
from weightzoo.loaders import HiddenPermutations, LayerStandardization, ZooDict, load_zoo
from weightzoo.tasks.editing.dilation import (
    EditingSettings,
    dilated,
    editing_error,
    network_errors,
    refitted_errors,
    render,
    train_editor,
)
from weightzoo.tasks.editing.plain_editors import FlatEditor, MeanEditor
from weightzoo.tasks.editing.weight_editor import WeightEditor
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.images.signals import load_signals
from weightzoo.zoos.recipe import load_recipe


def built(folder: Path, seeds: int, epochs: int) -> ZooDict:
    recipe = replace(load_recipe("digits-inr"), epochs=epochs, checkpoints=(epochs,), seeds=seeds)
    build_zoo(recipe, folder, workers=1, progress=False)
    return load_zoo(folder)


@pytest.fixture(scope="module")
def inrs(inr_zoo: Path) -> ZooDict:
    return load_zoo(inr_zoo)


def test_dilation_takes_the_largest_value_around_each_pixel() -> None:
    image = torch.rand(1, 1, 5, 6)
    padded = np.pad(image[0, 0].numpy(), 1, constant_values=-np.inf)
    wanted = [[padded[row : row + 3, c : c + 3].max() for c in range(6)] for row in range(5)]
    np.testing.assert_array_equal(dilated(image)[0, 0].numpy(), np.array(wanted))


def test_rendered_networks_are_those_of_their_modules(inrs: ZooDict) -> None:
    test, points = inrs["test"], load_signals("digits-inr").inputs[:50]
    assert test.header.architecture is not None
    found = render(test.header.architecture, test.weights(), points)
    torch.testing.assert_close(found[1], test.module(1)(points), rtol=1e-4, atol=1e-5)


def test_editor_reorders_its_output_with_its_input(inrs: ZooDict) -> None:
    train = inrs["train"]
    architecture, weights = train.header.architecture, train.weights([0, 1])
    assert architecture is not None
    torch.manual_seed(0)
    editor = WeightEditor(LayerStandardization.fit(train), width=4, layers=3)
    permutations = HiddenPermutations.of(architecture)
    orders = [torch.stack([torch.randperm(g.units)] * 2) for g in permutations.groups]
    moved = permutations.apply(weights, orders)
    torch.testing.assert_close(editor(moved), permutations.apply(editor(weights), orders))
    first = train.layer_table[0]  # its rows reordered without those that read them
    odd = weights.clone()
    rows = torch.randperm(first.shape[0])
    part = odd[:, : first.size].unflatten(1, first.shape)[:, rows].flatten(1)
    odd[:, : first.size] = part
    change = (editor(odd) - odd)[:, first.size :] - (editor(weights) - weights)[:, first.size :]
    assert change.abs().max() > 1e-4  # a negative control: the network is another one


def test_mean_editor_changes_all_networks_alike_and_flat_editor_does_not(inrs: ZooDict) -> None:
    train, settings = inrs["train"], EditingSettings(epochs=2, batch_size=4, lr=1e-2)
    weights, standard = train.weights(), LayerStandardization.fit(train)
    for make, alike in ((MeanEditor, True), (FlatEditor, False)):
        editor = train_editor(train, settings, make=make)
        with torch.no_grad():
            changes = standard.apply(editor(weights)) - standard.apply(weights)
        assert changes.abs().max() > 1e-3
        assert bool((changes - changes[0]).abs().max() < 1e-4) == alike


def test_network_errors_hold_each_editor_and_the_average_of_outputs(inrs: ZooDict) -> None:
    test = inrs["test"]
    shifted = MeanEditor(LayerStandardization.fit(inrs["train"]), EditingSettings())
    torch.nn.init.constant_(shifted.change, 0.3)
    errors = network_errors([torch.nn.Identity(), shifted], test)
    assert errors.shape == (3, len(test))
    torch.testing.assert_close(errors[0], network_errors([torch.nn.Identity()], test)[1])
    assert (errors[2] < errors[:2].mean(0)).all()  # the error is convex in the output
    with pytest.raises(ValueError, match="at least one editor"):
        network_errors([], test)


def test_networks_trained_on_dilated_images_approach_them(inrs: ZooDict) -> None:
    before = network_errors([torch.nn.Identity()], inrs["test"])[0]
    after = refitted_errors(inrs["test"], steps=40, lr=1e-3)
    assert (after < 0.3 * before).all()
    torch.testing.assert_close(refitted_errors(inrs["test"], 1, 1e-12), before)


@pytest.mark.slow
def test_trained_editors_dilate_better_than_no_edit_and_their_average_than_one(
    tmp_path: Path,
) -> None:
    inrs = built(tmp_path / "inrs", seeds=32, epochs=60)
    settings = EditingSettings(epochs=30, batch_size=8, lr=3e-3, width=4)
    editors = [train_editor(inrs["train"], settings, seed) for seed in (0, 1)]
    learned = editing_error(editors, inrs["train"])
    assert learned["mse"] < 0.7 * learned["unedited"]
    found = editing_error(editors, inrs["test"])
    low, high = found["interval"]
    assert low <= found["mse"] <= high and found["rows"] == len(inrs["test"])
    assert found["mse"] < found["single"]  # the error is convex in the output
    alone = editing_error(editors[:1], inrs["test"])
    assert alone["mse"] == pytest.approx(alone["single"])


def test_zoo_without_images_is_refused(tiny_zoo: Path) -> None:
    with pytest.raises(UnsuitableError, match="holds no INRs"):
        train_editor(load_zoo(tiny_zoo, split="train"))
