"""An image set in memory: three standardised splits and a fingerprint of their 8-bit pixels.

Pixels are float32 in memory, as the trainers index them batch by batch: 4 bytes a value, so
60,000 CIFAR images take 0.74 GB and 110,000 Tiny-ImageNet images 5.4 GB. Standardising as they
are drawn would keep them at a quarter of that and cost a pass over every batch of every model.

Shape letters: N images, C channels, H height, W width.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..disk import write_whole
from ..errors import RecipeError
from .array_splits import SPLITS, Arrays, splits_of_arrays
from .preprocessing import GREY_MODES, Preprocessing

SPLIT_SEED = 42  # as the published zoos split their image sets
SCALINGS = ("standard", "unit")


@dataclass(frozen=True)
class Images:
    """One split of an image set.

    Attributes:
        pixels: (N, C, H, W), float32; standardised with the train split's mean and deviation of
            each channel, or (scaling "unit") mapped from [0, 255] to [-1, 1].
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
        name: what `load_images` was given.
        classes: number of classes.
        fingerprint: "sha256:..." of the 8-bit pixels, labels, split sizes and scaling.
        train: what models learn from.
        val: held out for choices.
        test: held out for reports.
        mean: what was subtracted from each channel's pixels in [0, 1].
        deviation: what they were divided by then.
    """

    name: str
    classes: int
    fingerprint: str
    train: Images
    val: Images
    test: Images
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def from_arrays(
        cls, name: str, train: Arrays, val: Arrays | None = None, test: Arrays | None = None
    ) -> "ImageSet":
        """Make an image set of arrays or tensors, standardised like every other.

        Args:
            name: name of the set.
            train: images and labels. Images are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or
                3 channels, whole numbers from 0 to 255 or fractions from 0 to 1. Labels are (N,)
                whole numbers or texts; classes are numbered in their sorted order.
            val: images and labels; None cuts them from train.
            test: images and labels; None cuts them from train.

        Raises:
            RecipeError: if the arrays have another form or do not fit each other.
        """
        splits, classes = splits_of_arrays((train, val, test), SPLIT_SEED)
        return make_image_set(name, splits, classes)

    @classmethod
    def from_datasets(
        cls,
        name: str,
        train: Iterable[tuple[Any, Any]],
        val: Iterable[tuple[Any, Any]] | None = None,
        test: Iterable[tuple[Any, Any]] | None = None,
    ) -> "ImageSet":
        """Make an image set of torch datasets of (image, label), which are read once.

        Args:
            name: name of the set.
            train: dataset of images, from Pillow, as tensors (C, H, W) or as arrays, and labels.
            val: dataset; None cuts the split from train.
            test: dataset; None cuts the split from train.

        Raises:
            RecipeError: if images differ in shape, or for the reasons in `from_arrays`.
        """
        parts = [None if part is None else _stacked(part) for part in (train, val, test)]
        return cls.from_arrays(name, *parts)  # type: ignore[arg-type]

    def save(self, path: Path | str) -> str:
        """Write the 8-bit images and labels to an .npz file.

        Args:
            path: path of the file.

        Returns:
            The name that recipes and `load_images` take, "arrays:PATH".

        Raises:
            RecipeError: if the path does not end in .npz, or the set is scaled to [-1, 1].
        """
        if (path := Path(path)).suffix != ".npz":
            raise RecipeError(f"an image set is saved to an .npz file, got {str(path)!r}")
        if {*self.mean, *self.deviation} == {0.5}:
            raise RecipeError(
                f"image set {self.name!r} is scaled to [-1, 1]; only standardised ones are saved"
            )
        arrays = dict[str, np.ndarray]()
        for split in SPLITS:
            images: Images = getattr(self, split)
            pixels = (self.brightness(images.pixels) * 255).round().to(torch.uint8)
            arrays |= {f"{split}_images": pixels.numpy(), f"{split}_labels": images.labels.numpy()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())
        return f"arrays:{path}"

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train.pixels.shape[1:])

    def brightness(self, pixels: Tensor) -> Tensor:
        """Undo the scaling: (..., C, H, W) of this set back to 8-bit steps in [0, 1]."""
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return ((pixels * deviation[:, None, None] + mean[:, None, None]) * 255).round() / 255


def _stacked(dataset: Iterable[tuple[Any, Any]]) -> Arrays:
    """Images and labels of a dataset as arrays."""
    images, labels = list[np.ndarray](), list[Any]()
    for image, label in dataset:
        if not isinstance(image, Tensor) and hasattr(image, "mode"):  # from Pillow
            image = Preprocessing(1 if image.mode in GREY_MODES else 3)(image)
        images.append(np.asarray(image))
        labels.append(label.item() if isinstance(label, Tensor) else label)
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise RecipeError(
            f"images of a dataset must have one shape, got {sorted(shapes)[:5]}: resize them with "
            "a transform"
        )
    return np.stack(images), np.asarray(labels)


def make_image_set(
    name: str, splits: Sequence[tuple[Tensor, Tensor]], classes: int, scaling: str = "standard"
) -> ImageSet:
    """Scale train, val and test and fingerprint them.

    Args:
        name: name of the set.
        splits: (pixels (N, C, H, W) uint8, labels (N,) int64) of train, val and test.
        classes: number of classes.
        scaling: one of `SCALINGS`.
    """
    if scaling == "unit":
        means = deviations = (0.5,) * splits[0][0].shape[1]
    else:
        means, deviations = _channel_statistics(splits[0][0])
    train, val, test = (Images(_scale(x, means, deviations), labels) for x, labels in splits)
    fingerprint = _fingerprint(splits, scaling)
    return ImageSet(name, classes, fingerprint, train, val, test, means, deviations)


def cut(pixels: Tensor, labels: Tensor, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Cut images into consecutive splits.

    Args:
        pixels: images, (N, C, H, W).
        labels: class indices, (N,).
        sizes: number of images of each split.
    """
    counts = list(sizes)
    return list(zip(pixels.split(counts), labels.split(counts), strict=True))


def _channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel; a flat channel is not divided."""
    channels = [pixels[:, c].to(torch.float32) / 255 for c in range(pixels.shape[1])]
    deviations = tuple(channel.std().item() or 1.0 for channel in channels)
    return tuple(channel.mean().item() for channel in channels), deviations


def _scale(pixels: Tensor, means: Sequence[float], deviations: Sequence[float]) -> Tensor:
    """In place on one float32 copy, so that large sets need no third one."""
    scaled = pixels.to(torch.float32).div_(255)
    scaled.sub_(torch.tensor(means)[:, None, None])
    return scaled.div_(torch.tensor(deviations)[:, None, None])


def _fingerprint(splits: Sequence[tuple[Tensor, Tensor]], scaling: str) -> str:
    digest = hashlib.sha256()
    for column in zip(*splits, strict=True):  # all pixels, then all labels
        for part in column:
            digest.update(part.contiguous().numpy().data)
    digest.update(str(tuple(len(labels) for _, labels in splits)).encode())
    if scaling != "standard":
        digest.update(scaling.encode())
    return f"sha256:{digest.hexdigest()}"
