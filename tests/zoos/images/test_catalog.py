"""Image sets: the same real digits, cut and scaled the same way, everywhere."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images import catalog as images
from weightzoo.zoos.images.catalog import check_image_set, load_images
from weightzoo.zoos.images.signals import is_signal_set

FINGERPRINT = "sha256:88ba87aaf455ef70302b2147bd2002a335dc44ae2391295a754bc6fefe8f2d53"
COUNTS = {"train": 1197, "val": 300, "test": 300}


def test_digits_have_their_shapes_and_types() -> None:
    digits = load_images("digits")
    assert (digits.name, digits.classes, digits.shape) == ("digits", 10, (1, 28, 28))
    for split, count in COUNTS.items():
        images = getattr(digits, split)
        assert len(images) == count
        assert images.pixels.shape == (count, 1, 28, 28)
        assert (images.pixels.dtype, images.labels.dtype) == (torch.float32, torch.int64)


def test_digits_are_standardised_by_the_train_split() -> None:
    digits = load_images("digits")
    assert digits.train.pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert digits.train.pixels.std().item() == pytest.approx(1, abs=1e-4)
    assert digits.val.pixels.mean().item() != pytest.approx(0, abs=1e-4)


def test_digits_fingerprint_is_stable() -> None:
    assert load_images("digits").fingerprint == FINGERPRINT


def test_every_split_has_every_class() -> None:
    digits = load_images("digits")
    for split in COUNTS:
        assert torch.bincount(getattr(digits, split).labels).min() >= 15, split


def test_splits_hold_every_digit_once() -> None:
    """Labels and mean brightness, which scaling keeps, are those of scikit-learn's copy."""
    digits, original = load_images("digits"), load_digits()
    labels = torch.cat([getattr(digits, split).labels for split in COUNTS])
    assert np.bincount(labels).tolist() == np.bincount(original.target).tolist()
    pixels = torch.cat([getattr(digits, split).pixels for split in COUNTS])
    assert len(torch.unique(pixels.flatten(1), dim=0)) == len(original.target)


def test_images_are_the_scaled_originals() -> None:
    """Averaged back to 8x8, each image is nearest to an original of its own label."""
    digits, original = load_images("digits"), load_digits()
    small = torch.nn.functional.interpolate(
        digits.test.pixels[:100], size=(8, 8), mode="bilinear", antialias=True
    ).flatten(1)
    source = torch.from_numpy(original.data).to(torch.float32)
    centred = source - source.mean(1, keepdim=True)
    likeness = (small - small.mean(1, keepdim=True)) @ (centred / centred.norm(dim=1)[:, None]).T
    nearest = likeness.argmax(dim=1)
    assert digits.test.labels[:100].tolist() == original.target[nearest].tolist()


def test_brightness_undoes_the_scaling() -> None:
    """Back to multiples of 1/255, standardised again they are the same pixels."""
    digits = load_images("digits")
    steps = digits.brightness(digits.test.pixels) * 255
    assert torch.equal(steps, steps.round()) and 0 <= steps.min() < steps.max() <= 255
    again = (steps / 255 - digits.mean[0]) / digits.deviation[0]
    assert torch.allclose(again, digits.test.pixels, atol=1e-5)


@pytest.mark.parametrize("name", ["minst", "", "Digits", "folder:", 5, ["digits"], None])
def test_unknown_image_set_is_refused(name: Any) -> None:
    message = "image set must be .*'digits'.*, got " + re.escape(repr(name))
    for function in (check_image_set, load_images):
        with pytest.raises(RecipeError, match=message):
            function(name)
    assert not is_signal_set(name)


@pytest.mark.parametrize("name", ["hub:mnist", "hub:a/b/c", "hub:a/b@", "hub:a/b:", "hub:"])
def test_mistaken_hub_name_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"'hub:ORG/NAME\[@REVISION\]\[:CONFIG\]', got"):
        check_image_set(name)


KNOWN = [
    "digits",
    "glyphs",
    "cifar10-28",
    "hub:a/b-c",
    "hub:a/b@v1:d",
    "folder:/nowhere",
    "arrays:n.npz",
    "idx:n",
]


@pytest.mark.parametrize("name", KNOWN)
def test_check_image_set_loads_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str = "") -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(images, "load_hub_images", load)
    monkeypatch.setattr(images, "LOCAL_SETS", dict.fromkeys(images.LOCAL_SETS, load))
    monkeypatch.setattr(images, "IMAGE_SETS", dict.fromkeys(images.IMAGE_SETS, load))
    check_image_set(name)
    with pytest.raises(AssertionError, match="loaded"):
        load_images(name)
