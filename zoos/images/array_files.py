"""An image set in a file of arrays: `arrays:FILE.npz`.

    train_images   (N, H, W), (N, C, H, W) or (N, H, W, C), whole numbers from 0 to 255 or
                   fractions from 0 to 1
    train_labels   (N,) or (N, 1), whole numbers or texts
    val_images, val_labels, test_images, test_labels     optional

`x_train` and `y_train`, or `images` and `labels`, are other names of the arrays. A split that is
missing is cut from train, class by class with a fixed seed.
"""

import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import RecipeError
from .array_splits import SPLITS, Arrays
from .image_set import ImageSet

ARRAYS = "arrays:"
CACHED_SETS = 4  # in memory at once


def load_arrays(name: str) -> ImageSet:
    """Load `arrays:FILE.npz`; a changed file is read again.

    Raises:
        RecipeError: if there is no such file, it has no train images and labels, or arrays have
            another form.
    """
    path = Path(name.removeprefix(ARRAYS)).expanduser()
    if not path.is_file():
        raise RecipeError(
            f"no file {str(path)!r} of image set {name!r}: write one with numpy.savez(FILE, "
            "train_images=..., train_labels=...), or ImageSet.save"
        )
    state = path.stat()
    return _loaded(name, path, (state.st_mtime_ns, state.st_size))


@lru_cache(CACHED_SETS)
def _loaded(name: str, path: Path, state: tuple[int, int]) -> ImageSet:
    """The set of a file in this state."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            parts = [_split(path, file, split) for split in SPLITS]
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{str(path)!r} is no .npz file of plain arrays: {error}; write one with numpy.savez"
        ) from error
    try:
        return ImageSet.from_arrays(name, *parts)  # type: ignore[arg-type]
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def _split(path: Path, file: "np.lib.npyio.NpzFile", split: str) -> Arrays | None:
    """Images and labels of a split; None if val or test is missing."""
    pairs = [(f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}")]
    pairs += [("images", "labels")] if split == "train" else []
    for images, labels in pairs:
        found = [key for key in (images, labels) if key in file]
        if len(found) == 2:
            return file[images], file[labels]
        if found:
            other = labels if found[0] == images else images
            raise RecipeError(f"{path} has {found[0]!r} without {other!r}: add both or neither")
    if split == "train":
        raise RecipeError(
            f"{path} must have the arrays {pairs[0][0]!r} and {pairs[0][1]!r}, has {sorted(file)}"
        )
    return None
