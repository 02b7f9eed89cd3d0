"""Local image folders: split by class, and every mistake named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from png_bomb import write_bomb

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.image_folder import load_folder


def make_folder(
    root: Path, split: str = "train", classes: str = "ab", count: int = 10, mode: str = "L"
) -> None:
    rng = np.random.default_rng(len(split))
    for name in classes:
        (root / split / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(rng.integers(256, size=(6, 8), dtype=np.uint8)).convert(mode)
            image.save(root / split / name / f"{index}.png")


def test_folder_with_its_own_splits(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        make_folder(tmp_path, split, count=count)
    images = load_images(f"folder:{tmp_path}")
    assert (images.classes, images.shape) == (2, (1, 6, 8))
    assert images.train.labels.tolist() == [0] * 5 + [1] * 5
    assert images.val.labels.tolist() == [0] * 2 + [1] * 2
    with Image.open(tmp_path / "test" / "b" / "0.png") as image:
        expected = torch.from_numpy(np.asarray(image, np.float32) / 255)
    assert torch.allclose(images.brightness(images.test.pixels[3])[0], expected)


def test_missing_splits_are_cut_from_every_class(tmp_path: Path) -> None:
    make_folder(tmp_path, count=20)
    name = f"folder:{tmp_path}"
    images = load_images(name)
    parts = (images.train, images.val, images.test)
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[14] * 2, [3] * 2, [3] * 2]
    pixels = torch.cat([part.pixels for part in parts]).flatten(1)
    assert len(torch.unique(pixels, dim=0)) == 40
    load_folder.cache_clear()
    assert load_images(name).fingerprint == images.fingerprint


def test_one_colour_image_makes_all_rgb(tmp_path: Path) -> None:
    make_folder(tmp_path)
    Image.new("RGB", (8, 6), "red").save(tmp_path / "train" / "b" / "zz.png")
    images = load_images(f"folder:{tmp_path}")
    assert images.shape == (3, 6, 8)
    grey = images.train.pixels[images.train.labels == 0]
    brightness = images.brightness(grey)
    assert torch.allclose(brightness[:, 0], brightness[:, 2])


def test_missing_train_folder_or_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no folder '.*nowhere.train': .* PATH/train/<class>/"):
        load_images(f"folder:{tmp_path}/nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(RecipeError, match=r"at least 2 classes, has \[\]"):
        load_images(f"folder:{tmp_path}")
    make_folder(tmp_path, classes="a")
    with pytest.raises(RecipeError, match=r"at least 2 classes, has \['a'\]"):
        load_images(f"folder:{tmp_path}")


def test_broken_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    path = tmp_path / "train" / "a" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RecipeError, match=r"cannot read image '.*train.a.3\.png'"):
        load_images(f"folder:{tmp_path}")
    path.write_text("no image")
    with pytest.raises(RecipeError, match=r"cannot read image '.*train.a.3\.png'"):
        load_images(f"folder:{tmp_path}")


def test_deep_image_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "train" / "a" / "deep.png")
    with pytest.raises(RecipeError, match=r"deep\.png': image has mode 'I(;16)?'"):
        load_images(f"folder:{tmp_path}")


def test_mixed_sizes_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "train" / "b" / "odd.png")
    with pytest.raises(RecipeError, match=r"one size: .*png has .*\(1, 6, 8\), .*odd\.png has"):
        load_images(f"folder:{tmp_path}")


def test_unknown_and_empty_classes_of_a_split_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    make_folder(tmp_path, "val", classes="ax", count=2)
    with pytest.raises(RecipeError, match=r"has the classes \['x'\], train has only \['a', 'b'\]"):
        load_images(f"folder:{tmp_path}")
    (tmp_path / "val" / "x").rename(tmp_path / "x")
    with pytest.raises(RecipeError, match=r"'.*val.b' has no image"):
        load_images(f"folder:{tmp_path}")


def test_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    make_folder(tmp_path, classes="c", count=2)
    with pytest.raises(RecipeError, match=r"train.c' has too few images to cut val off"):
        load_images(f"folder:{tmp_path}")


@pytest.mark.parametrize("side", [10_000, 60_000], ids=["Pillow warns", "Pillow refuses"])
def test_image_beyond_the_limit_of_pillow_is_named(tmp_path: Path, side: int) -> None:
    make_folder(tmp_path)
    write_bomb(tmp_path / "train" / "a" / "bomb.png", side)
    with pytest.raises(RecipeError, match=rf"bomb\.png': .*{side**2} pixels"):
        load_images(f"folder:{tmp_path}")
