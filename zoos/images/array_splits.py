"""Arrays of images and labels in the form of an image set, and the cut of missing splits.

Shape letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import RecipeError

HELD_OUT = 0.15  # of each class, for each split that is missing
CHANNELS = (1, 3)  # grey, RGB
SPLITS = ("train", "val", "test")

Arrays = tuple[Any, Any]
"""Pixels and labels of a split, as arrays, tensors or lists."""


def splits_of_arrays(
    given: Sequence[Arrays | None], seed: int
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Check and convert the splits of an image set; a missing split is cut from train.

    Args:
        given: train, val and test; None for a val or test split that is missing.
        seed: seed of the cut.

    Returns:
        (pixels (N, C, H, W) uint8, labels (N,) int64) of train, val and test, and the number of
        classes. Classes are numbered in the sorted order of the labels.

    Raises:
        RecipeError: if arrays have another form, differ in length or shape, a label is not one of
            train, there are fewer than 2 classes, or a class has too few images to cut a split off.
    """
    parts = {
        split: _checked(split, *arrays)
        for split, arrays in zip(SPLITS, given, strict=True)
        if arrays is not None
    }
    shapes = {split: pixels.shape[1:] for split, (pixels, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        raise RecipeError(f"splits must have images of one shape (C, H, W), got {shapes}")
    classes = np.unique(parts["train"][1])
    if len(classes) < 2:
        raise RecipeError(f"labels must have at least 2 classes, train has {classes.tolist()}")
    numbered = {
        split: (pixels, _class_numbers(split, labels, classes))
        for split, (pixels, labels) in parts.items()
    }
    rng = np.random.default_rng(seed)
    for split in ("test", "val"):
        if split not in numbered:
            pixels, labels = numbered["train"]
            kept, cut = hold_out(
                labels, rng, split, lambda label: f"class {classes[label].item()!r}"
            )
            numbered["train"] = pixels[kept], labels[kept]
            numbered[split] = pixels[cut], labels[cut]
    made = [(torch.from_numpy(numbered[split][0]), numbered[split][1]) for split in SPLITS]
    return [(pixels, torch.from_numpy(labels)) for pixels, labels in made], len(classes)


def hold_out(
    labels: np.ndarray, rng: np.random.Generator, split: str, name_of: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the same share off each class, at least one image.

    Args:
        labels: class of each image, (N,).
        rng: generator of the choice.
        split: name of the new split, for the message.
        name_of: name of a class, for the message.

    Returns:
        Indices that stay and indices of the new split, class by class.

    Raises:
        RecipeError: if a class has too few images.
    """
    kept, cut = list[np.ndarray](), list[np.ndarray]()
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        size = max(1, round(HELD_OUT * len(mine)))
        if size >= len(mine):
            raise RecipeError(
                f"{name_of(int(label))} has too few images to cut {split} off ({len(mine)}): add "
                f"some, or give a split {split} of its own"
            )
        order = rng.permutation(len(mine))
        cut.append(mine[np.sort(order[:size])])
        kept.append(mine[np.sort(order[size:])])
    return np.concatenate(kept), np.concatenate(cut)


def _checked(split: str, pixels: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    images, classes = _pixels(split, pixels), _array(labels)
    if classes.ndim == 2 and classes.shape[1] == 1:  # as some archives have them
        classes = classes[:, 0]
    if classes.ndim != 1 or classes.dtype.kind not in "iuUS":
        raise RecipeError(
            f"labels of {split} must be (N,) whole numbers or texts, got {classes.dtype} "
            f"{classes.shape}"
        )
    if len(images) != len(classes) or not len(images):
        raise RecipeError(
            f"{split} must have one label per image, and an image, got {len(images)} images and "
            f"{len(classes)} labels"
        )
    return images, classes


def _pixels(split: str, given: Any) -> np.ndarray:
    """(N, C, H, W), uint8."""
    pixels = _array(given)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in CHANNELS and pixels.shape[3] in CHANNELS:
        pixels = pixels.transpose(0, 3, 1, 2)
    if pixels.ndim != 4 or pixels.shape[1] not in CHANNELS or pixels.dtype.kind not in "iufb":
        raise RecipeError(
            f"images of {split} must be numbers of shape (N, H, W), (N, C, H, W) or (N, H, W, C) "
            f"with 1 or 3 channels C, got {pixels.dtype} {_array(given).shape}"
        )
    return np.ascontiguousarray(_bytes(split, pixels))


def _bytes(split: str, pixels: np.ndarray) -> np.ndarray:
    """Pixels in steps from 0 to 255."""
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8)
    top = 1 if pixels.dtype.kind in "fb" else 255
    low, high = pixels.min(), pixels.max()
    if not 0 <= low <= high <= top:  # also if one is not a number
        raise RecipeError(
            f"pixels of {split} must be whole numbers from 0 to 255 or fractions from 0 to 1, got "
            f"{pixels.dtype} from {low} to {high}: leave out normalisation, which image sets do "
            "themselves"
        )
    return np.round(pixels * (255 // top)).astype(np.uint8)


def _array(given: Any) -> np.ndarray:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _class_numbers(split: str, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    if odd := np.setdiff1d(labels, classes).tolist():
        raise RecipeError(
            f"{split} has the classes {odd[:5]}, train has only {classes[:20].tolist()}"
        )
    return np.searchsorted(classes, labels).astype(np.int64)
