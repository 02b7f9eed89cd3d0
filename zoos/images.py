"""Image sets that models are trained on, as tensors in memory.

`digits` is embedded: scikit-learn's copy of the UCI optical recognition of handwritten digits
set (1,797 grey images of 8x8, 10 classes), scaled to 28x28 so that the published MNIST
architectures fit. Nothing is fetched.

Shape letters: N images, C channels, H height, W width.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .errors import RecipeError

SPLIT_SEED = 42  # as the published zoos split their image sets
DIGITS_VAL, DIGITS_TEST = 300, 300


@dataclass(frozen=True)
class Images:
    """One split of an image set.

    Attributes:
        pixels: (N, C, H, W), float32, standardised with the train split's mean and deviation.
        labels: (N,), int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """An image set with its own fixed splits.

    Attributes:
        name: its key in `IMAGE_SETS`.
        classes: number of classes.
        fingerprint: "sha256:..." of the 8-bit pixels, labels and split sizes.
    """

    name: str
    classes: int
    fingerprint: str
    train: Images
    val: Images
    test: Images

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train.pixels.shape[1:])


def load_images(name: str) -> ImageSet:
    """Load an image set by name.

    Raises:
        RecipeError: if the name is unknown; the message lists the known ones.
    """
    if name not in IMAGE_SETS:
        raise RecipeError(f"image set must be one of {list(IMAGE_SETS)}, got {name!r}")
    return IMAGE_SETS[name]()


@cache
def _digits() -> ImageSet:
    """Handwritten digits at 28x28; 1,197 train, 300 val, 300 test, shuffled with seed 42."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.target))
    pixels = _scale(torch.from_numpy(bunch.images[order]), 28)
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    return _split("digits", pixels, labels, DIGITS_VAL, DIGITS_TEST)


def _scale(images: Tensor, side: int) -> Tensor:
    """Scale (N, 8, 8) images with values 0 to 16 to (N, 1, side, side), uint8."""
    scaled = torch.nn.functional.interpolate(
        images[:, None].double() / 16 * 255, size=(side, side), mode="bilinear"
    )
    return scaled.round().to(torch.uint8)


def _split(name: str, pixels: Tensor, labels: Tensor, val: int, test: int) -> ImageSet:
    """Cut shuffled uint8 images into train, val and test and standardise them."""
    train = len(labels) - val - test
    grey = pixels.to(torch.float32) / 255
    mean, std = grey[:train].mean(), grey[:train].std()
    parts = [
        Images(p.contiguous(), y)
        for p, y in zip(
            ((grey - mean) / std).split([train, val, test]),
            labels.split([train, val, test]),
            strict=True,
        )
    ]
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes())
    digest.update(str((train, val, test)).encode())
    fingerprint = f"sha256:{digest.hexdigest()}"
    return ImageSet(name, int(labels.max()) + 1, fingerprint, *parts)


IMAGE_SETS: dict[str, Callable[[], ImageSet]] = {"digits": _digits}
