"""An image set in memory: three standardised splits and a fingerprint of their 8-bit pixels.

Pixels are float32 in memory, as the trainers index them batch by batch: 4 bytes a value, so
60,000 CIFAR images take 0.74 GB and 110,000 Tiny-ImageNet images 5.4 GB. Standardising as they
are drawn would keep them at a quarter of that and cost a pass over every batch of every model.

Shape letters: N images, C channels, H height, W width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train.pixels.shape[1:])

    def brightness(self, pixels: Tensor) -> Tensor:
        """Undo the scaling: (..., C, H, W) of this set back to 8-bit steps in [0, 1]."""
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return ((pixels * deviation[:, None, None] + mean[:, None, None]) * 255).round() / 255


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
