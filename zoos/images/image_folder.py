"""A local folder of images as an image set: `folder:PATH`.

    PATH/train/<class>/<image>    needed; classes are numbered by name
    PATH/val/<class>/<image>      optional
    PATH/test/<class>/<image>     optional

A split that is missing is cut from train, class by class with a fixed seed. All images have one
size, and are grey if every one of them is.
"""

import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..errors import RecipeError
from .array_splits import hold_out
from .image_set import SPLIT_SEED, ImageSet, make_image_set
from .preprocessing import GREY_MODES, Preprocessing, stack

FOLDER = "folder:"
CACHED_SETS = 4  # in memory at once

File = tuple[Path, int]
"""An image and its class."""


@lru_cache(CACHED_SETS)
def load_folder(name: str) -> ImageSet:
    """Load `folder:PATH`; changes to the folder are seen by a new process.

    Raises:
        RecipeError: if there is no such folder, no or one class, a class with too few images, an
            image that cannot be read (it is named), or images of several sizes.
    """
    root = Path(name.removeprefix(FOLDER)).expanduser()
    classes = _class_names(root)
    files = {
        split: list(_files(root / split, classes))
        for split in ("train", "val", "test")
        if split == "train" or (root / split).is_dir()
    }
    rng = np.random.default_rng(SPLIT_SEED)
    for split in ("test", "val"):
        if split not in files:
            files["train"], files[split] = _hold_out(files["train"], rng, split)
    ordered = [files[split] for split in ("train", "val", "test")]
    pixels = torch.from_numpy(read_images([path for part in ordered for path, _ in part]))
    labels = [torch.tensor([label for _, label in part]) for part in ordered]
    parts = pixels.split([len(part) for part in ordered])
    return make_image_set(name, list(zip(parts, labels, strict=True)), len(classes))


def _class_names(root: Path) -> list[str]:
    train = root / "train"
    if not train.is_dir():
        raise RecipeError(f"no folder {str(train)!r}: images must lie in PATH/train/<class>/")
    classes = sorted(path.name for path in train.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise RecipeError(
            f"{str(train)!r} must have a folder for each of at least 2 classes, has {classes}"
        )
    return classes


def _files(folder: Path, classes: list[str]) -> Iterator[File]:
    """Every image of a split, by class and name."""
    from PIL import Image

    odd = sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(classes))
    if odd:
        raise RecipeError(f"{str(folder)!r} has the classes {odd}, train has only {classes}")
    known = Image.registered_extensions()
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in known)
        if not found:
            raise RecipeError(f"{str(folder / name)!r} has no image")
        yield from ((path, label) for path in found)


def _hold_out(
    files: list[File], rng: np.random.Generator, split: str
) -> tuple[list[File], list[File]]:
    """Cut the same share off each class, at least one image."""
    folders = {label: path.parent for path, label in files}
    labels = np.array([label for _, label in files])
    kept, cut = hold_out(labels, rng, split, lambda label: repr(str(folders[label])))
    return [files[int(index)] for index in kept], [files[int(index)] for index in cut]


def read_images(paths: list[Path], side: int | None = None) -> np.ndarray:
    """Decode images to (N, C, H, W) uint8; grey if every one of them is.

    Args:
        paths: image files.
        side: side that all are scaled to; None keeps their size, which must be one.

    Raises:
        RecipeError: if an image cannot be read (it is named), or sizes differ.
    """
    from PIL import Image

    images, grey = [], True
    with warnings.catch_warnings():  # beyond Pillow's limit of pixels, it only warns at first
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            try:
                with Image.open(path) as image:
                    grey = grey and image.mode in GREY_MODES
                    images.append(Preprocessing(1 if grey else 3, side)(image))
            except (OSError, SyntaxError, ValueError) as error:  # RecipeError is a ValueError
                raise RecipeError(f"cannot read image {str(path)!r}: {error}") from error
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise RecipeError(
                    f"cannot read image {str(path)!r}: {error}; make it smaller, or remove it"
                ) from error
    if not grey:  # those read before the first colour image
        images = [image.repeat(3, axis=0) if len(image) == 1 else image for image in images]
    return stack(images, [str(path) for path in paths])
