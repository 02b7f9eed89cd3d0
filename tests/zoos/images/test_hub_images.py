"""Published image sets: parquet files in a local folder take the way that the Hub's take."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from png_bomb import write_bomb
from torch.utils.data import TensorDataset, random_split

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images import hub_images
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.hub_images import HUB_SETS, HubSet, load_hub_images


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    load_hub_images.cache_clear()
    yield
    load_hub_images.cache_clear()


def make_set(folder: Path, sizes: dict[str, int], **change: Any) -> np.ndarray:
    """Write parquet splits as on the Hub; gives the images (N, side, side[, 3]) split by split."""
    side, mode = change.get("side", 32), change.get("mode", "RGB")
    image, label = change.get("columns", ("image", "label"))
    rng = np.random.default_rng(0)
    shape = (sum(sizes.values()), side, side) + ((3,) if mode == "RGB" else ())
    pixels = rng.integers(256, size=shape, dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(len(pixels)).reshape(-1, *[1] * (len(shape) - 3))  # its number
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(num_classes=change.get("classes", 3))}
    )
    (folder / "data").mkdir(parents=True)
    start = 0
    for split, size in sizes.items():
        rows = {
            image: [Image.fromarray(array) for array in pixels[start : start + size]],
            label: [index % 3 for index in range(size)],
        }
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
        start += size
    return pixels


def publish(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, **change: Any) -> None:
    small = replace(HUB_SETS[name], repo=str(folder), config=None, **change)
    monkeypatch.setitem(HUB_SETS, name, small)


def numbers(images: torch.Tensor, image_set: Any) -> list[int]:
    """The numbers that `make_set` wrote into the first pixels."""
    return (image_set.brightness(images)[:, 0, 0, 0] * 255).round().int().tolist()


def test_published_set_splits_as_random_split_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", {"train": 40, "test": 20}, columns=("img", "label"))
    publish(monkeypatch, "cifar10", tmp_path / "set", train_size=30, val_size=10)
    cifar = load_images("cifar10")
    assert (cifar.name, cifar.classes, cifar.shape) == ("cifar10", 3, (3, 32, 32))
    generator = torch.Generator().manual_seed(42)
    forty = TensorDataset(torch.arange(40))
    train, val = (list(part.indices) for part in random_split(forty, [30, 10], generator))
    assert numbers(cifar.train.pixels, cifar) == train
    assert numbers(cifar.val.pixels, cifar) == val
    assert numbers(cifar.test.pixels, cifar) == list(range(40, 60))
    assert cifar.train.labels.tolist() == [index % 3 for index in train]
    assert cifar.train.pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert cifar.train.pixels.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=1e-4)


def test_small_cnn_zoo_set_is_mean_grey_in_unit_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = make_set(tmp_path / "set", {"train": 9, "test": 6}, columns=("img", "label"))
    publish(monkeypatch, "cifar10-grey", tmp_path / "set", train_size=9)
    grey = load_images("cifar10-grey")
    expected = torch.from_numpy(pixels[:9].mean(axis=3) / 127.5 - 1).float()
    assert torch.allclose(grey.train.pixels[:, 0], expected, atol=0.51 / 127.5)
    assert torch.equal(grey.val.pixels, grey.test.pixels)


def test_grey_svhn_is_the_centre_in_luma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = make_set(tmp_path / "set", {"train": 9, "test": 3})
    publish(monkeypatch, "svhn-grey-28", tmp_path / "set", train_size=6, val_size=3)
    svhn = load_images("svhn-grey-28")
    assert svhn.shape == (1, 28, 28)
    luma = pixels[9:, 2:30, 2:30] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(svhn.brightness(svhn.test.pixels)[:, 0].numpy() * 255 - luma).max() <= 1


@pytest.mark.parametrize(("name", "side"), [("usps-28", 16), ("stl10-28", 96), ("eurosat-28", 64)])
def test_sets_are_resized(
    name: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = "L" if name == "usps-28" else "RGB"
    sizes = {"train": 9, "test": 3} | ({"validation": 3} if name == "eurosat-28" else {})
    pixels = make_set(tmp_path / "set", sizes, side=side, mode=mode)
    train = 9 if "validation" in sizes else 6
    publish(monkeypatch, name, tmp_path / "set", train_size=train, val_size=3)
    image_set = load_images(name)
    assert image_set.shape == (1 if mode == "L" else 3, 28, 28)
    means = image_set.brightness(image_set.test.pixels).mean(dim=(2, 3)) * 255
    assert np.allclose(means, pixels[9:12].mean(axis=(1, 2)).reshape(3, -1), atol=8)
    assert {len(image_set.val), len(image_set.test)} == {3}


def test_published_sizes_are_those_of_the_model_zoos() -> None:
    sizes = {name: (set_.train_size, set_.val_size) for name, set_ in HUB_SETS.items()}
    assert sizes["mnist"] == sizes["fashion-mnist"] == (50_000, 10_000)
    assert sizes["svhn-grey-28"] == (60_000, 13_257)
    assert sizes["usps-28"] == (6_000, 1_291)
    assert sizes["cifar10"] == sizes["cifar10-28"] == (42_000, 8_000)
    assert sizes["stl10-28"] == sizes["stl10-32"] == (4_200, 800)
    assert sizes["cifar10-40k"] == sizes["cifar100"] == (40_000, 10_000)
    assert sizes["tiny-imagenet"] == (100_000, 0)
    assert sizes["svhn-grey"] == (73_257, 0)


def test_other_edition_of_a_published_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", {"train": 9, "test": 3}, mode="L")
    publish(monkeypatch, "usps-28", tmp_path / "set", train_size=7, val_size=3)
    with pytest.raises(RecipeError, match="'usps-28': .* 6 train and 3 val images, the published"):
        load_images("usps-28")


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ({"train": 40, "validation": 7, "test": 5}, (40, 7, 5)),
        ({"train": 40, "test": 5}, (36, 4, 5)),
        ({"train": 40, "validation": 5}, (36, 5, 4)),
        ({"train": 40}, (32, 4, 4)),
    ],
)
def test_any_set_is_taken_as_it_is(
    splits: dict[str, int], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    """A local folder stands for the repository; columns of any name are found by their type."""
    make_set(tmp_path / "org" / "name", splits, side=10, mode="L", columns=("scan", "kind"))
    image_set = load_images("hub:org/name")
    assert (image_set.classes, image_set.shape) == (3, (1, 10, 10))
    parts = (image_set.train, image_set.val, image_set.test)
    assert tuple(len(part) for part in parts) == sizes
    seen = [number for part in parts for number in numbers(part.pixels, image_set)]
    assert sorted(seen) == list(range(sum(splits.values())))


def test_fingerprint_covers_pixels_labels_split_and_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", {"train": 9, "test": 3}, mode="L", side=28)
    prints = []
    sizes = {"train_size": 6, "val_size": 3}
    cut = {"train_size": 5, "val_size": 4}
    for change in ({}, cut, {"scaling": "unit"}, {"scaling": "standard", "side": 27}):
        publish(monkeypatch, "mnist", tmp_path / "set", **sizes | change)
        load_hub_images.cache_clear()
        prints.append(load_images("mnist").fingerprint)
    assert len(set(prints)) == 4


def test_unreachable_set_tells_what_to_do() -> None:
    with pytest.raises(RecipeError, match=r"(?s)'mnist': cannot load 'ylecun/mnist'.*HF_HUB_OFFL"):
        load_images("mnist")
    with pytest.raises(RecipeError, match=r"cannot load 'no/set' \(configuration 'c', revision 'v"):
        load_images("hub:no/set@v1:c")


def test_sets_that_are_no_labelled_images_are_refused(tmp_path: Path) -> None:
    make_set(tmp_path / "org" / "tests", {"test": 3})
    with pytest.raises(RecipeError, match=r"no split 'train', its splits are \['test'\]"):
        load_images("hub:org/tests")
    rows = {"label": [0, 1], "image": ["a", "b"]}
    (tmp_path / "org" / "text").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "org" / "text" / "train.parquet")
    with pytest.raises(RecipeError, match="no column has the type Image"):
        load_images("hub:org/text")


def test_mixed_sizes_and_missing_labels_are_refused(tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=2)}
    )
    for name, sides, labels in (("mixed", [8, 9], [0, 1]), ("unlabelled", [8, 8], [0, -1])):
        images = [Image.new("L", (side, side)) for side in sides]
        rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
        (tmp_path / "org" / name).mkdir(parents=True)
        for split in ("train", "test"):
            rows.to_parquet(tmp_path / "org" / name / f"{split}.parquet")
    with pytest.raises(RecipeError, match="one size: train row 0 .* train row 1 has"):
        load_images("hub:org/mixed")
    with pytest.raises(RecipeError, match="whole numbers from 0, got -1"):
        load_images("hub:org/unlabelled")


def test_splits_of_different_sizes_are_refused(tmp_path: Path) -> None:
    make_set(tmp_path / "org" / "name", {"train": 9}, side=8)
    make_set(tmp_path / "more", {"test": 3}, side=9)
    [path] = (tmp_path / "more" / "data").iterdir()
    path.rename(tmp_path / "org" / "name" / "data" / path.name)
    with pytest.raises(RecipeError, match=r"sizes of train, val and test differ: \(3, 8, 8\), .*9"):
        load_images("hub:org/name")


def test_named_column_that_is_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", {"train": 9, "test": 3})
    publish(monkeypatch, "cifar10", tmp_path / "set", train_size=6, val_size=3)
    with pytest.raises(RecipeError, match=r"no column 'img', its columns are \['image', 'label'\]"):
        load_images("cifar10")


def test_parse_reads_revision_and_configuration() -> None:
    hub_set = HubSet.parse("hub:org/na-me.x@refs/convert/parquet:cropped_digits")
    assert (hub_set.repo, hub_set.revision) == ("org/na-me.x", "refs/convert/parquet")
    assert hub_set.config == "cropped_digits"
    assert hub_images.HUB_NAME.fullmatch("hub:name") is None


@pytest.mark.parametrize("content", [None, b"no image"], ids=["beyond Pillow's limit", "broken"])
def test_image_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes | None) -> None:
    write_bomb(tmp_path / "bomb.png", 60_000)
    pixels = content or (tmp_path / "bomb.png").read_bytes()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)}
    )
    good = Image.fromarray(np.zeros((4, 4), np.uint8))
    rows = {"image": [good, {"bytes": pixels, "path": None}], "label": [0, 1]}
    (tmp_path / "org" / "bomb" / "data").mkdir(parents=True)
    path = tmp_path / "org" / "bomb" / "data" / "train-00000-of-00001.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    with pytest.raises(RecipeError, match="train row 1: cannot read its image"):
        load_images("hub:org/bomb")
