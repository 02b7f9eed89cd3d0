"""Signals: each model's own, the same for the same seed, measured off the train points."""

import numpy as np
import pytest
import torch

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.signals import PARTS, SignalSet, is_signal_set, load_signals

NAMES = ["sine", "digits-inr", "glyphs-color-inr"]


@pytest.mark.parametrize("name", NAMES)
def test_targets_fit_the_inputs_of_their_part(name: str) -> None:
    signal_set = load_signals(name)
    signals = [signal_set.draw(seed) for seed in (3, 4)]
    for part in PARTS:
        inputs, targets = signal_set.part_inputs(part), signal_set.targets(signals, part)
        assert targets.shape == (2, len(inputs), signal_set.outputs)
        assert inputs.shape[1:] == signal_set.shape
        assert inputs.dtype == targets.dtype == torch.float32
    assert set(signals[0]) == set(signal_set.property_names)


@pytest.mark.parametrize("name", NAMES)
def test_parts_share_no_coordinate(name: str) -> None:
    signal_set = load_signals(name)
    points = torch.cat([signal_set.part_inputs(part) for part in PARTS])
    assert len(torch.unique(points, dim=0)) == len(points)


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_draw_equal_signals(name: str) -> None:
    signal_set = load_signals(name)
    assert signal_set.draw(2**31 - 1) == signal_set.draw(2**31 - 1)
    assert len({tuple(signal_set.draw(seed).items()) for seed in range(50)}) == 50


def test_sine_frequencies_are_uniform() -> None:
    """Mean and variance of U(0.5, 10) within 4 standard errors of 2,000 draws."""
    sine = load_signals("sine")
    frequencies = np.array([sine.draw(seed)["frequency"] for seed in range(2000)])
    assert 0.5 <= frequencies.min() and frequencies.max() <= 10
    assert frequencies.mean() == pytest.approx(5.25, abs=4 * 2.742 / 2000**0.5)
    assert frequencies.var() == pytest.approx(9.5**2 / 12, abs=4 * 6.73 / 2000**0.5)


def test_sine_targets_are_the_sine_of_the_inputs() -> None:
    sine = load_signals("sine")
    targets = sine.targets([{"frequency": 2.0}], "val")[0]
    assert torch.allclose(targets, torch.sin(2 * sine.val_inputs), atol=1e-6)
    assert sine.inputs.min().item() == pytest.approx(-np.pi)
    assert len(sine.inputs) == 1000


def test_image_signal_is_the_image_of_its_seed() -> None:
    """Row-major points, (row, column); seeds pass through train, val and test images."""
    digits, signal_set = load_images("digits"), load_signals("digits-inr")
    signal = signal_set.draw(1197 + 5)
    assert signal == {"image_index": 1202, "label": digits.val.labels[5].item()}
    pixels = signal_set.targets([signal], "train")[0].reshape(28, 28)
    assert torch.equal(pixels, digits.brightness(digits.val.pixels[5])[0])
    assert signal_set.inputs[1].tolist() == pytest.approx([-1, -1 + 2 / 27])
    assert signal_set.draw(0) == signal_set.draw(1797)


def test_image_signal_between_pixels_is_their_mean() -> None:
    signal_set = load_signals("digits-inr")
    signal = signal_set.draw(7)
    pixels = signal_set.targets([signal], "train")[0].reshape(28, 28)
    for part in ("val", "test"):
        targets = signal_set.targets([signal], part)[0, :, 0]
        places = (signal_set.part_inputs(part) + 1) / 2 * 27  # whole at pixels, half between
        for (row, column), target in zip(places.tolist()[:150:7], targets[:150:7], strict=True):
            four = pixels[int(row) : int(row) + 2, int(column) : int(column) + 2]
            assert target.item() == pytest.approx(four.mean().item(), abs=1e-6)


def test_unknown_part_is_refused() -> None:
    signal_set: SignalSet = load_signals("sine")
    with pytest.raises(ValueError, match="part must be one of .* got 'valid'"):
        signal_set.targets([signal_set.draw(1)], "valid")


def test_signal_set_names() -> None:
    assert is_signal_set("sine") and is_signal_set("glyphs-inr") and is_signal_set("digits-inr")
    for name in ("digits", "inr", "-inr", "cosine", "nothing-inr"):
        assert not is_signal_set(name)
        with pytest.raises(RecipeError, match=f"signal set must be 'sine' or NAME-inr.*'{name}'"):
            load_signals(name)


def test_signal_fingerprints_differ() -> None:
    prints = {load_signals(name).fingerprint for name in NAMES}
    assert len(prints) == len(NAMES)
