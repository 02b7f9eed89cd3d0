"""Which image is which: fingerprints by content, and the refusal of images that are used twice.

A model must not have been pre-trained on an image of the task it is ranked for, nor a ranker
trained on one. Names and positions do not show that; the pixels do.

Shape letters: N images, C channels, H height, W width.
"""

import hashlib

import numpy as np
from torch import Tensor

from ...zoos.errors import UnsuitableError
from ...zoos.images.image_set import Images, ImageSet


def image_samples(image_set: ImageSet, images: Images) -> np.ndarray:
    """Fingerprint of each image, (N,) uint64: the start of the SHA-256 of its 8-bit pixels.

    Args:
        image_set: the set, which knows how pixels were scaled.
        images: one of its splits.
    """
    eight_bit = (image_set.brightness(images.pixels) * 255).round().byte()
    return fingerprints(eight_bit)


def fingerprints(pixels: Tensor) -> np.ndarray:
    """Fingerprint of each of some 8-bit images (N, C, H, W), (N,) uint64."""
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in pixels.numpy()]
    return np.frombuffer(b"".join(digests), "<u8")


def refuse_overlap(first: np.ndarray, second: np.ndarray, used: str, again: str) -> None:
    """Refuse two sets of images with an image in common.

    Args:
        first: fingerprints of the images that were used.
        second: fingerprints of those that are to be used.
        used: what the first ones were used for, for the message.
        again: what the second ones are for.

    Raises:
        UnsuitableError: if an image is in both.
    """
    common = int(np.isin(second, first).sum())
    if common:
        raise UnsuitableError(
            f"{common} of {len(second)} images of {again} are also among {used}, so that the "
            "result would be too good: choose another split or image set"
        )
