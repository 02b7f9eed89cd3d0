"""The image sets that models can be trained on, by name.

- `digits` is embedded: scikit-learn's copy of the UCI optical recognition of handwritten digits
  set (1,797 grey images of 8x8, 10 classes), scaled to 28x28 so that the published MNIST
  architectures fit. `glyphs` and `glyphs-*` are drawn (see `glyphs`). Neither fetches anything.
- The sets of the published zoos, such as `mnist` and `svhn-grey-28`, come from the Hugging Face
  Hub (see `hub_images`), and so does any other as `hub:ORG/NAME[@REVISION][:CONFIG]`.
- `folder:PATH` is a folder of images (see `image_folder`).

Shape letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from ..errors import RecipeError, did_you_mean
from .glyphs import GLYPH_SETS, load_glyphs
from .hub_images import HUB_SETS, HubSet, load_hub_images
from .image_folder import FOLDER, load_folder
from .image_set import SPLIT_SEED, Images, ImageSet, cut, make_image_set

__all__ = ["IMAGE_SETS", "ImageSet", "Images", "check_image_set", "load_images"]
DIGITS_VAL, DIGITS_TEST = 300, 300


def check_image_set(name: str) -> None:
    """Check a name of an image set, without loading or fetching anything.

    Raises:
        RecipeError: if `load_images` does not know the name; the message lists what it knows.
    """
    _loader(name)


def load_images(name: str) -> ImageSet:
    """Load an image set by name; asked again, it is as a rule the same object.

    Raises:
        RecipeError: if the name is unknown (the message lists the known ones), or the set cannot
            be fetched or read.
    """
    return _loader(name)()


def _loader(name: str) -> Callable[[], ImageSet]:
    text = name if isinstance(name, str) else ""  # a recipe can hold anything
    if text in IMAGE_SETS:
        return IMAGE_SETS[text]
    if text.startswith("hub:"):
        HubSet.parse(text)
        return partial(load_hub_images, text)
    if text.startswith(FOLDER) and text != FOLDER:
        return partial(load_folder, text)
    raise RecipeError(
        f"image set must be one of {list(IMAGE_SETS)}, 'hub:ORG/NAME[@REVISION][:CONFIG]' or "
        f"'folder:PATH', got {name!r}" + did_you_mean(text, IMAGE_SETS)
    )


@cache
def _digits() -> ImageSet:
    """Handwritten digits at 28x28; 1,197 train, 300 val, 300 test, shuffled with seed 42."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.target))
    pixels = _scale(torch.from_numpy(bunch.images[order]), 28)
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    train = len(labels) - DIGITS_VAL - DIGITS_TEST
    return make_image_set("digits", cut(pixels, labels, [train, DIGITS_VAL, DIGITS_TEST]), 10)


def _scale(images: Tensor, side: int) -> Tensor:
    """Scale (N, 8, 8) images with values 0 to 16 to (N, 1, side, side), uint8."""
    scaled = torch.nn.functional.interpolate(
        images[:, None].double() / 16 * 255, size=(side, side), mode="bilinear"
    )
    return scaled.round().to(torch.uint8)


IMAGE_SETS: Mapping[str, Callable[[], ImageSet]] = (
    {"digits": _digits}
    | {name: partial(load_glyphs, name) for name in GLYPH_SETS}
    | {name: partial(load_hub_images, name) for name in HUB_SETS}
)
"""The shipped image sets: embedded, drawn, and published ones on the Hub."""
