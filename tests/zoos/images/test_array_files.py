"""Image sets of arrays, of torch datasets and of .npz files, and every mistake named."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import ImageSet, load_images

RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(40, 6, 8), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(40, 6, 8, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2


def test_arrays_become_an_image_set_with_splits_cut_from_train() -> None:
    images = ImageSet.from_arrays("mine", (GREY, LABELS))
    assert (images.name, images.classes, images.shape) == ("mine", 2, (1, 6, 8))
    parts = (images.train, images.val, images.test)
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[14] * 2, [3] * 2, [3] * 2]
    pixels = torch.cat([images.brightness(part.pixels) for part in parts]).flatten(1) * 255
    found = {tuple(row) for row in pixels.round().int().tolist()}
    assert found == {tuple(row) for row in GREY.reshape(40, -1).tolist()}
    assert ImageSet.from_arrays("again", (GREY, LABELS)).fingerprint == images.fingerprint


@pytest.mark.parametrize(
    "pixels",
    [
        COLOUR,
        COLOUR.transpose(0, 3, 1, 2),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.float32) / 255,
        torch.from_numpy(COLOUR.astype(np.float64) / 255),
    ],
)
def test_forms_of_pixels_give_equal_sets(pixels: Any) -> None:
    names = np.array(["cat", "dog"])[LABELS]
    images = ImageSet.from_arrays("mine", (pixels, names), test=(pixels[:6], names[:6]))
    plain = COLOUR.transpose(0, 3, 1, 2)
    same = ImageSet.from_arrays("mine", (plain, LABELS), test=(plain[:6], LABELS[:6]))
    assert images.shape == (3, 6, 8) and len(images.test) == 6
    assert images.fingerprint == same.fingerprint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": (GREY.astype(np.float32) - 3, LABELS)}, "leave out normalisation"),
        ({"train": (np.full((40, 6, 8), np.nan), LABELS)}, "from nan to nan"),
        ({"train": (GREY.astype(np.int16) + 200, LABELS)}, "whole numbers from 0 to 255"),
        ({"train": (GREY[:, 0], LABELS)}, r"must be numbers of shape .* got uint8 \(40, 8\)"),
        ({"train": (GREY, LABELS[:9])}, "one label per image, .* 40 images and 9 labels"),
        ({"train": (GREY, LABELS / 1)}, "whole numbers or texts, got float64"),
        ({"train": (GREY, np.zeros(40, int))}, r"at least 2 classes, train has \[0\]"),
        ({"train": (GREY[:3], LABELS[:3])}, "class 1 has too few images to cut test off"),
        ({"train": (GREY, LABELS), "val": (GREY, LABELS + 1)}, r"val has the classes \[2\]"),
        ({"train": (GREY, LABELS), "val": (GREY[:, :3], LABELS)}, "images of one shape"),
    ],
)
def test_faults_of_arrays_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ImageSet.from_arrays("mine", **given)


def test_torch_datasets_and_pillow_images_become_a_set() -> None:
    pixels = torch.from_numpy(COLOUR.transpose(0, 3, 1, 2) / 255.0)
    dataset = TensorDataset(pixels, torch.from_numpy(LABELS))
    images = ImageSet.from_datasets("mine", dataset)
    pillow = [(Image.fromarray(one), int(label)) for one, label in zip(COLOUR, LABELS, strict=True)]
    assert ImageSet.from_datasets("mine", pillow).fingerprint == images.fingerprint
    pillow[1] = (Image.new("RGB", (9, 9)), 1)
    with pytest.raises(RecipeError, match=r"one shape, got \[\(3, 6, 8\), \(3, 9, 9\)\]"):
        ImageSet.from_datasets("mine", pillow)


def test_saved_set_is_loaded_by_its_name_and_read_again_when_it_changes(tmp_path: Path) -> None:
    images = ImageSet.from_arrays("mine", (GREY, LABELS))
    name = images.save(tmp_path / "mine.npz")
    loaded = load_images(name)
    assert loaded.name == name == f"arrays:{tmp_path / 'mine.npz'}"
    assert loaded.fingerprint == images.fingerprint and load_images(name) is loaded
    np.savez(tmp_path / "mine.npz", x_train=GREY, y_train=LABELS[:, None] == 1)
    os.utime(tmp_path / "mine.npz", (1, 1))
    with pytest.raises(RecipeError, match="mine.npz: labels of train must be"):
        load_images(name)
    np.savez(tmp_path / "mine.npz", x_train=GREY, y_train=LABELS[:, None] + 0)
    assert len(load_images(name).train) == 28
    with pytest.raises(RecipeError, match="saved to an .npz file, got"):
        images.save(tmp_path / "mine.npy")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": GREY}, r"must have the arrays 'train_images' .* has \['pixels'\]"),
        ({"images": GREY}, "has 'images' without 'labels': add both or neither"),
        ({"images": GREY, "labels": np.array([{}] * 40)}, "no .npz file of plain arrays"),
        (None, "no .npz file of plain arrays"),
    ],
)
def test_faults_of_files_are_named(
    arrays: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and no more")
    if arrays is not None:
        np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(RecipeError, match=message):
        load_images(f"arrays:{tmp_path / 'bad.npz'}")
    with pytest.raises(RecipeError, match="no file 'nowhere.npz' of image set"):
        load_images("arrays:nowhere.npz")
