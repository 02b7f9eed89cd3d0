"""The image sets that models can be trained on, by name.

- `digits` is embedded: scikit-learn's copy of the UCI optical recognition of handwritten digits
  set (1,797 grey images of 8x8, 10 classes), scaled to 28x28 so that the published MNIST
  architectures fit. `digits-shuffled` has the same images with shuffled labels: a control, because
  its models can only memorise. `glyphs` and `glyphs-*` are drawn (see `glyphs`), and `waves` are
  one-dimensional signals in the form of images (see `waves`). None fetches anything.
- The sets of the published zoos, such as `mnist` and `svhn-grey-28`, come from the Hugging Face
  Hub (see `hub_images`), and so does any other as `hub:ORG/NAME[@REVISION][:CONFIG]`.
- `folder:PATH` is a folder of images (see `image_folder`), `arrays:FILE.npz` a file of arrays (see
  `array_files`), and `idx:FOLDER` the four files of MNIST or a set like it (see `idx_files`).

Shape letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from ..errors import RecipeError, did_you_mean
from ..texts.text_set import TEXT_SETS, is_text_set
from .array_files import ARRAYS, load_arrays
from .glyphs import GLYPH_SETS, load_glyphs
from .hub_images import HUB_SETS, HubSet, load_hub_images
from .idx_files import IDX, load_idx
from .image_folder import FOLDER, load_folder
from .image_set import SPLIT_SEED, Images, ImageSet, cut, make_image_set
from .waves import WAVES, load_waves

__all__ = ["IMAGE_SETS", "ImageSet", "Images", "check_image_set", "load_images"]
DIGITS_VAL, DIGITS_TEST = 300, 300
SHUFFLED = "digits-shuffled"


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
    for prefix, load in LOCAL_SETS.items():
        if text.startswith(prefix) and text != prefix:
            return partial(load, text)
    if is_text_set(text):
        raise RecipeError(f"{name!r} is a text, which only language models read: name images")
    raise RecipeError(
        f"image set must be one of {list(IMAGE_SETS)}, 'hub:ORG/NAME[@REVISION][:CONFIG]', "
        f"'folder:PATH', 'arrays:FILE.npz' or 'idx:FOLDER', got {name!r}"
        + did_you_mean(text, [*IMAGE_SETS, *LOCAL_SETS, *TEXT_SETS])
    )


@cache
def _digits(name: str) -> ImageSet:
    """Handwritten digits at 28x28; 1,197 train, 300 val, 300 test, shuffled with seed 42."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.target))
    pixels = _scale(torch.from_numpy(bunch.images[order]), 28)
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    if name == SHUFFLED:
        mixed = np.random.default_rng(SPLIT_SEED + 1).permutation(len(labels))
        labels = labels[torch.from_numpy(mixed)]
    train = len(labels) - DIGITS_VAL - DIGITS_TEST
    return make_image_set(name, cut(pixels, labels, [train, DIGITS_VAL, DIGITS_TEST]), 10)


def _scale(images: Tensor, side: int) -> Tensor:
    """Scale (N, 8, 8) images with values 0 to 16 to (N, 1, side, side), uint8."""
    scaled = torch.nn.functional.interpolate(
        images[:, None].double() / 16 * 255, size=(side, side), mode="bilinear"
    )
    return scaled.round().to(torch.uint8)


LOCAL_SETS: Mapping[str, Callable[[str], ImageSet]] = {
    FOLDER: load_folder,
    ARRAYS: load_arrays,
    IDX: load_idx,
}
"""Sets in local files, by the prefix of their names."""

IMAGE_SETS: Mapping[str, Callable[[], ImageSet]] = (
    {"digits": partial(_digits, "digits"), SHUFFLED: partial(_digits, SHUFFLED)}
    | {WAVES: load_waves}
    | {name: partial(load_glyphs, name) for name in GLYPH_SETS}
    | {name: partial(load_hub_images, name) for name in HUB_SETS}
)
"""The shipped image sets: embedded, drawn, and published ones on the Hub."""
