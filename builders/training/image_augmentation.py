"""Random augmentation of train images, drawn from each model's own generator.

Borders are black: the published zoos augment before they standardise pixels.

Shape letters: M models, B images of one model, N = M * B images, C channels, H height, W width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.networks.devices import upload
from .initialization import stream

PADDING, DEGREES = 4, 20.0


class Augmentation:
    """One augmentation with a generator per model, a function of its seed alone."""

    def __init__(self, name: str, seeds: Sequence[int], black: Sequence[float]) -> None:
        """Start the generators.

        Args:
            name: name of the augmentation: "none", "crop_flip" (pad by 4, crop, mirror) or
                "flip_rotate" (mirror, rotate by up to 20 degrees, nearest pixel).
            seeds: seeds of the M models.
            black: value of a black pixel by channel.
        """
        self.name = name
        self._generators = [stream(seed, "augmentation") for seed in seeds]
        self._black = torch.tensor(black)[:, None, None]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Augment images (M * B, C, H, W), model by model; the shape stays."""
        if self.name == "none":
            return pixels
        models = len(self._generators)
        draws = [torch.rand(3, len(pixels) // models, generator=g) for g in self._generators]
        mirrored, first, second = upload(torch.cat(draws, 1), pixels.device)
        black = self._black = self._black.to(pixels.device)
        change = _crop if self.name == "crop_flip" else _rotate
        return change(pixels - black, mirrored < 0.5, first, second) + black


def _crop(pixels: Tensor, mirrored: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Mirror if asked to, pad with zeros, cut out at an offset given by two numbers in [0, 1)."""
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (PADDING,) * 4)
    offsets = 2 * PADDING + 1
    rows = (down * offsets).long()[:, None] + torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    columns = (right * offsets).long()[:, None] + columns
    columns = torch.where(mirrored[:, None], width + 2 * PADDING - 1 - columns, columns)
    images = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None]]
    return cut.permute(0, 3, 1, 2)


def _rotate(pixels: Tensor, mirrored: Tensor, turn: Tensor, _: Tensor) -> Tensor:
    """Mirror if asked to, then rotate; a number in [0, 1) gives the angle."""
    height, width = pixels.shape[2:]
    angle = (2 * turn - 1) * math.radians(DEGREES)
    sign = torch.where(mirrored, -1.0, 1.0)
    # In affine_grid's coordinates both sides are 2 long, whatever their pixels.
    across, along = angle.sin() * height / width, -angle.sin() * width / height
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos() * sign, across * sign, zero], 1)]
    rows += [torch.stack([along, angle.cos(), zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="nearest", align_corners=False)
