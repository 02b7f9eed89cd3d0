"""The set of one-dimensional signals."""

import numpy as np
import torch

from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.waves import FORMS, signal


def test_waves_have_ten_balanced_classes_and_no_signal_twice() -> None:
    images = load_images("waves")
    assert images.classes == 10 and images.shape == (1, 28, 28)
    assert torch.bincount(images.train.labels).tolist() == [200] * 10
    parts = [images.train, images.val, images.test]
    everything = np.concatenate([part.pixels.flatten(1).numpy() for part in parts])
    assert len(np.unique(everything, axis=0)) == 3000


def test_rows_of_a_wave_are_parts_of_one_signal() -> None:
    images = load_images("waves")
    sines = images.train.pixels[images.train.labels == list(FORMS).index("sine")]
    flat = sines.flatten(1)
    along = (flat[:, 1:] * flat[:, :-1]).mean() / flat.square().mean()  # also from row to row
    edges = (sines[:, 0, 1:, 0] * sines[:, 0, :-1, -1]).mean() / flat.square().mean()
    assert along > 0.7 and abs(float(edges - along)) < 0.1


def test_wave_forms_stay_in_range_and_differ() -> None:
    drawn = [signal(form, np.random.default_rng(0)) for form in FORMS]
    assert all(np.abs(one).max() < 2 for one in drawn)
    assert min(np.abs(a - b).max() for a, b in zip(drawn, drawn[1:], strict=False)) > 0.3


def test_shuffled_digits_have_the_images_of_digits_and_labels_by_chance() -> None:
    plain, shuffled = load_images("digits"), load_images("digits-shuffled")
    assert torch.equal(plain.train.pixels, shuffled.train.pixels)
    agreed = (plain.train.labels == shuffled.train.labels).float().mean()
    assert 0.05 < agreed < 0.15 and shuffled.name == "digits-shuffled"
    assert plain.fingerprint != shuffled.fingerprint
