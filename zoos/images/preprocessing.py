"""From a decoded image of any kind to the 8-bit pixels of an image set.

Shape letters: C channels, H height, W width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RecipeError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "RGB", "RGBA")  # transparency is dropped


@dataclass(frozen=True)
class Preprocessing:
    """What is done to each image, in 8 bits.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        side: side of the square result; None keeps the image's own height and width.
        crop: cut the centre out; else resize (bilinear, with antialiasing, as torchvision does
            to images).
        grey: conversion of colour to grey: "luma" (ITU-R 601, as torchvision's Grayscale) or "mean"
            (of red, green and blue, rounded to 8 bits).
    """

    channels: int
    side: int | None = None
    crop: bool = False
    grey: str = "luma"

    def __call__(self, image: "Image") -> np.ndarray:
        """(C, H, W), uint8.

        Raises:
            RecipeError: if the image is not 8-bit, or too small to be cropped.
        """
        if image.mode not in GREY_MODES + COLOUR_MODES:
            raise RecipeError(
                f"image has mode {image.mode!r}, readable are {GREY_MODES + COLOUR_MODES}: "
                "convert it to 8-bit grey or RGB"
            )
        mean = self.channels == 1 and self.grey == "mean" and image.mode not in GREY_MODES
        image = image.convert("RGB" if self.channels == 3 or mean else "L")
        pixels = np.asarray(self._fit(image), np.uint8)
        if mean:
            pixels = pixels.mean(axis=2).round().astype(np.uint8)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _fit(self, image: "Image") -> "Image":
        from PIL.Image import Resampling

        if self.side is None or image.size == (self.side, self.side):
            return image
        if not self.crop:
            return image.resize((self.side, self.side), Resampling.BILINEAR)
        left, top = ((length - self.side) // 2 for length in image.size)
        if min(left, top) < 0:
            raise RecipeError(f"image of {image.size} cannot be cropped to {self.side}")
        return image.crop((left, top, left + self.side, top + self.side))


def stack(images: list[np.ndarray], names: list[str]) -> np.ndarray:
    """Stack images of one shape to (N, C, H, W).

    Args:
        images: images, (C, H, W) each.
        names: names of the images, for the message.

    Raises:
        RecipeError: if two differ in shape; both are named.
    """
    for image, name in zip(images, names, strict=True):
        if image.shape != images[0].shape:
            raise RecipeError(
                f"images must have one size: {names[0]} has (C, H, W) = {images[0].shape}, "
                f"{name} has {image.shape}; resize them first"
            )
    return np.stack(images)
