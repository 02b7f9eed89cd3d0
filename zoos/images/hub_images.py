"""Image sets from the Hugging Face Hub, with the splits and preprocessing of the published zoos.

They come through `datasets`, so that its mirrors, caches, offline mode (HF_HUB_OFFLINE=1) and
revisions work. `HUB_SETS` are the sets as Schürholt et al. 2022 (arXiv:2209.14764) and Unterthiner
et al. 2020 (arXiv:2002.11448) use them. Any other set can be named in full,
`hub:ORG/NAME[@REVISION][:CONFIG]`, and is taken as it is: its first image and class columns, its
own sizes and splits, a tenth of train for each of val and test that it lacks.

Train and val are cut from the published train split as torch's `random_split` cuts with a
generator of seed 42. Sizes and seed are the published ones; whether each image falls on the same
side as there depends on the order of the images in the Hub's copy, which nobody recorded.

A folder ORG/NAME below the working folder comes before the Hub, as `datasets` has it; the
fingerprint tells them apart. The first load fetches every split of the repository: 1.1 GB for
SVHN, whose unused "extra" split is most of it. Decoding takes about 0.1 ms an image, each time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import RecipeError
from .image_set import SPLIT_SEED, ImageSet, make_image_set
from .preprocessing import GREY_MODES, Preprocessing, stack

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_NAME = re.compile(
    r"hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<config>[\w.+-]+))?"
)
VAL_SPLITS = ("validation", "valid", "val", "dev")
HELD_OUT = 0.1  # of the train split, for each split that a set named in full lacks
CACHED_SETS = 4  # in memory at once; CIFAR10 takes 0.74 GB

Split = tuple[Tensor, Tensor]
"""Pixels (N, C, H, W) uint8 and labels (N,) int64."""


@dataclass(frozen=True)
class HubSet:
    """Where an image set lies and how zoos use it.

    Attributes:
        repo: data set on the Hub, or a local folder that `datasets` can load.
        config: its configuration, if it has several.
        revision: branch, tag or commit; None is the newest.
        image: column of the images; None is the first one with images.
        label: column of the classes; None is the first one with classes.
        test: the split for reports.
        train_size: number of train images; None is what is left.
        val_size: number of val images: of the split "validation" if there is one, else cut from
            the train split. 0: the zoo was trained without, so val repeats test.
        channels: 1, 3, or None for those of the first image.
        side: side of an image in pixels; None keeps it.
        crop: cut the centre out instead of resizing.
        grey: conversion of colour to grey, see `Preprocessing`.
        scaling: "standard" or "unit", see `image_set.Images`.
    """

    repo: str
    config: str | None = None
    revision: str | None = None
    image: str | None = "image"
    label: str | None = "label"
    test: str = "test"
    train_size: int | None = None
    val_size: int | None = None
    channels: int | None = None
    side: int | None = None
    crop: bool = False
    grey: str = "luma"
    scaling: str = "standard"

    @classmethod
    def parse(cls, name: str) -> "HubSet":
        """Any set by its name in full, as it is.

        Raises:
            RecipeError: if the name has not the form `hub:ORG/NAME[@REVISION][:CONFIG]`.
        """
        match = HUB_NAME.fullmatch(name)
        if match is None:
            raise RecipeError(
                f"image set must have the form 'hub:ORG/NAME[@REVISION][:CONFIG]', got {name!r}"
            )
        repo, config, revision = (match[field] for field in ("repo", "config", "revision"))
        return cls(repo, config, revision, image=None, label=None)


@lru_cache(CACHED_SETS)
def load_hub_images(name: str) -> ImageSet:
    """Load a published set by its name in `HUB_SETS`, or any set by its name in full.

    Raises:
        RecipeError: if it cannot be fetched, or is not a set of labelled images of one size.
    """
    hub_set = HUB_SETS.get(name) or HubSet.parse(name)
    try:
        parts = _fetch(hub_set)
        hub_set = _complete(hub_set, _part(parts, "train"))
        splits = _splits(hub_set, parts)
        classes = _classes(parts["train"], str(hub_set.label), splits)
    except RecipeError as error:
        raise RecipeError(f"image set {name!r}: {error}") from error
    return make_image_set(name, splits, classes, hub_set.scaling)


def _fetch(hub_set: HubSet) -> "DatasetDict":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    where = {"name": hub_set.config, "revision": hub_set.revision}
    try:
        return load_dataset(hub_set.repo, **where)
    except (OSError, ValueError, DatasetsError) as error:
        raise RecipeError(
            f"cannot load {hub_set.repo!r} (configuration {hub_set.config!r}, revision "
            f"{hub_set.revision!r}) from the Hub: {' '.join(str(error).split())}. Check the name "
            "and the connection; without one, fetch it once elsewhere and set HF_HOME to that "
            "cache and HF_HUB_OFFLINE=1, or give the images as 'folder:PATH'"
        ) from error


def _part(parts: "DatasetDict", split: str) -> "Dataset":
    if split not in parts:
        raise RecipeError(f"there is no split {split!r}, only {sorted(parts)}")
    return parts[split]


def _complete(hub_set: HubSet, train: "Dataset") -> HubSet:
    """Find the columns and channels that are not given, and check those that are."""
    from datasets import ClassLabel, Image

    image = hub_set.image or _column(train, Image)
    label = hub_set.label or _column(train, ClassLabel)
    for column in (image, label):
        if column not in train.features:
            raise RecipeError(f"there is no column {column!r}, only {list(train.features)}")
    if not isinstance(train.features[image], Image):
        raise RecipeError(f"column {image!r} holds {train.features[image]}, not images")
    if len(train) == 0:
        raise RecipeError("the train split is empty")
    channels = hub_set.channels or (1 if train[0][image].mode in GREY_MODES else 3)
    return replace(hub_set, image=image, label=label, channels=channels)


def _column(train: "Dataset", kind: type) -> str:
    """The first column of a kind."""
    for column, feature in train.features.items():
        if isinstance(feature, kind):
            return column
    raise RecipeError(f"no column has the type {kind.__name__}, columns are {train.features}")


def _splits(hub_set: HubSet, parts: "DatasetDict") -> list[Split]:
    """Train, val and test as the set says."""
    train = _read(hub_set, parts, "train")
    named = hub_set.train_size is not None  # a published set, else one in full
    val_split = next((split for split in VAL_SPLITS if split in parts), hub_set.test)
    if hub_set.test in parts or named:
        test = _read(hub_set, parts, hub_set.test)
    else:
        train, test = _hold_out(train, round(HELD_OUT * len(parts["train"])))
    if hub_set.val_size == 0:
        val = test
    elif val_split != hub_set.test:
        val = _read(hub_set, parts, val_split)
    else:
        size = hub_set.val_size or round(HELD_OUT * len(parts["train"]))
        train, val = _hold_out(train, size)
    shapes = [tuple(pixels.shape[1:]) for pixels, _ in (train, val, test)]
    if len(set(shapes)) > 1:
        raise RecipeError(f"image sizes of train, val and test differ: {str(shapes)[1:-1]}")
    sizes = len(train[1]), len(val[1])
    if named and sizes != (hub_set.train_size, hub_set.val_size or len(test[1])):
        raise RecipeError(
            f"{hub_set.repo} gives {sizes[0]} train and {sizes[1]} val images, published are "
            f"{hub_set.train_size} and {hub_set.val_size}: it is another edition of the set"
        )
    return [train, val, test]


def _hold_out(split: Split, size: int) -> tuple[Split, Split]:
    """Cut `size` images off, as `torch.utils.data.random_split` with a seeded generator."""
    pixels, labels = split
    if not 0 < size < len(labels):
        raise RecipeError(f"cannot hold {size} of {len(labels)} train images out")
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    kept, cut = order[: len(order) - size], order[len(order) - size :]
    return (pixels[kept], labels[kept]), (pixels[cut], labels[cut])


def _read(hub_set: HubSet, parts: "DatasetDict", split: str) -> Split:
    """Decode a split."""
    rows = _part(parts, split).select_columns([str(hub_set.image), str(hub_set.label)])
    preprocessing = Preprocessing(
        hub_set.channels or 3, hub_set.side, hub_set.crop, grey=hub_set.grey
    )
    images, labels = list[np.ndarray](), list[int]()
    for row in _decoded(rows, split):
        try:
            images.append(preprocessing(row[str(hub_set.image)]))
        except RecipeError as error:
            raise RecipeError(f"{split} row {len(labels)}: {error}") from error
        labels.append(row[str(hub_set.label)])
    if not images:
        raise RecipeError(f"split {split!r} is empty")
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        odd = next(label for label in labels if not isinstance(label, int) or label < 0)
        raise RecipeError(f"labels of split {split!r} must be whole numbers from 0, got {odd!r}")
    names = [f"{split} row {index}" for index in range(len(images))]
    return torch.from_numpy(stack(images, names)), torch.tensor(labels)


def _decoded(rows: "Dataset", split: str) -> Iterator[dict[str, Any]]:
    """Rows with their images; one that cannot be decoded is named."""
    from PIL import Image

    done = 0
    try:
        for row in rows:
            yield row
            done += 1
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{split} row {done}: cannot read its image: {error}") from error


def _classes(train: "Dataset", label: str, splits: Sequence[Split]) -> int:
    """As the label column says, else one more than the largest label."""
    highest = max(int(labels.max()) for _, labels in splits)
    return max(highest + 1, getattr(train.features[label], "num_classes", 0))


_MNIST = HubSet("ylecun/mnist", channels=1, side=28, train_size=50_000, val_size=10_000)
_SVHN = HubSet(
    "ufldl-stanford/svhn",
    config="cropped_digits",
    channels=3,
    side=32,
    train_size=60_000,
    val_size=13_257,
)
_CIFAR10 = HubSet(
    "uoft-cs/cifar10", image="img", channels=3, side=32, train_size=42_000, val_size=8_000
)
_STL10 = HubSet("tanganke/stl10", channels=3, side=96, train_size=4_200, val_size=800)
_EUROSAT = HubSet(
    "timm/eurosat-rgb", channels=3, side=64, train_size=16_200, val_size=5_400
)  # splits of Neumann et al. 2019, arXiv:1911.06721


def _small(hub_set: HubSet) -> HubSet:
    """As the small CNN zoo has it: all train images, no val, one channel in [-1, 1]."""
    size = (hub_set.train_size or 0) + (hub_set.val_size or 0)
    return replace(hub_set, train_size=size, val_size=0, channels=1, grey="mean", scaling="unit")


HUB_SETS = {
    "mnist": _MNIST,
    "mnist-unit": _small(_MNIST),
    "fashion-mnist": replace(_MNIST, repo="zalando-datasets/fashion_mnist"),
    "fashion-mnist-unit": _small(replace(_MNIST, repo="zalando-datasets/fashion_mnist")),
    "svhn": _SVHN,
    "svhn-grey-28": replace(_SVHN, channels=1, side=28, crop=True),
    "svhn-grey": _small(_SVHN),
    "usps-28": HubSet("flwrlabs/usps", channels=1, side=28, train_size=6_000, val_size=1_291),
    "cifar10": _CIFAR10,
    "cifar10-28": replace(_CIFAR10, side=28),
    "cifar10-40k": replace(_CIFAR10, train_size=40_000, val_size=10_000),
    "cifar10-grey": _small(_CIFAR10),
    "cifar100": replace(
        _CIFAR10,
        repo="uoft-cs/cifar100",
        label="fine_label",
        train_size=40_000,
        val_size=10_000,
    ),
    "stl10": _STL10,
    "stl10-28": replace(_STL10, side=28),
    "stl10-32": replace(_STL10, side=32),
    "tiny-imagenet": HubSet(
        "zh-plus/tiny-imagenet",
        test="valid",  # labels of the official test images are not public
        channels=3,
        side=64,
        train_size=100_000,
        val_size=0,
    ),
    "eurosat": _EUROSAT,
    "eurosat-28": replace(_EUROSAT, side=28),
    "eurosat-32": replace(_EUROSAT, side=32),
}
"""The published sets. Grey SVHN is cut to 28 pixels, all else is resized (antialiased bilinear)."""
