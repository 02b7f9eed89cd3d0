"""Signals that implicit neural representations (INRs) are fitted to, one signal per model.

A signal set has coordinates that all models share, and gives each model, by its seed, a signal on
them. `sine` is the sine regression of Navon et al. 2023 (arXiv:2301.12780): sin(frequency x) on
[-pi, pi], frequency ~ U(0.5, 10). `NAME-inr` has the images of the image set NAME, as in
`digits-inr`, `glyphs-inr` and `mnist-inr`.

Shape letters: M models, P points, F coordinates of a point, C values of a signal at a point.
"""

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..errors import RecipeError
from .catalog import IMAGE_SETS, load_images
from .image_set import ImageSet

Signal = dict[str, float | int]
PARTS = ("train", "val", "test")
IMAGE_SUFFIX = "-inr"
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 0.5, 10.0
SINE_POINTS = 1000


@dataclass(frozen=True)
class SignalSet(ABC):
    """Coordinates shared by all models, and a signal for each.

    Attributes:
        name: what `load_signals` was given.
        fingerprint: "sha256:..." of the coordinates and of what the signals are made from.
        inputs: (P, F) float32, the train coordinates.
        val_inputs: (P', F) float32, none of them a train coordinate.
        test_inputs: (P'', F) float32, none of them a train or val coordinate.
        property_names: the keys of a signal.
    """

    name: str
    fingerprint: str
    inputs: Tensor
    val_inputs: Tensor
    test_inputs: Tensor
    property_names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(F,): what a model takes at one point."""
        return tuple(self.inputs.shape[1:])

    @property
    @abstractmethod
    def outputs(self) -> int:
        """C: what a model gives at one point."""

    @abstractmethod
    def draw(self, seed: int) -> Signal:
        """The signal of the model with that seed; equal seeds give equal signals."""

    @abstractmethod
    def targets(self, signals: Sequence[Signal], part: str) -> Tensor:
        """Values of signals at the coordinates of a part.

        Args:
            signals: M signals, as `draw` gives them.
            part: "train", "val" or "test".

        Returns:
            (M, P, C), float32.

        Raises:
            ValueError: if there is no such part.
        """

    def part_inputs(self, part: str) -> Tensor:
        """Coordinates of "train", "val" or "test", (P, F).

        Raises:
            ValueError: if the part is unknown.
        """
        if part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}, got {part!r}")
        return {"train": self.inputs, "val": self.val_inputs, "test": self.test_inputs}[part]


@dataclass(frozen=True)
class SineSignals(SignalSet):
    """sin(frequency x): 1,000 even train points; the middles between them are val and test."""

    @property
    def outputs(self) -> int:
        """One value."""
        return 1

    def draw(self, seed: int) -> Signal:
        """{"frequency": f}, f uniform from 0.5 to 10."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        return {"frequency": float(rng.uniform(LOWEST_FREQUENCY, HIGHEST_FREQUENCY))}

    def targets(self, signals: Sequence[Signal], part: str) -> Tensor:
        """Values of signals in [-1, 1]; see `SignalSet.targets`.

        Args:
            signals: M signals of `draw`.
            part: "train", "val" or "test".
        """
        x = self.part_inputs(part).double()
        frequencies = torch.tensor([signal["frequency"] for signal in signals]).double()
        return torch.sin(frequencies[:, None, None] * x).to(torch.float32)


@dataclass(frozen=True)
class ImageSignals(SignalSet):
    """Images as functions of (row, column) in [-1, 1]^2, values in [0, 1].

    No pixel is held out, as a published INR fits them all. The val and test coordinates are the
    middles of four pixels, by turns, where the target is the mean of the four: they tell how a
    fit behaves off the grid.

    The model of seed s gets image s modulo the number of images, train, val and test images in
    one row: seeds that follow each other get an image each.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    @property
    def outputs(self) -> int:
        """The channels of an image."""
        return self.images.shape[1]

    def draw(self, seed: int) -> Signal:
        """{"image_index": i, "label": c}."""
        index = seed % len(self.images)
        return {"image_index": index, "label": int(self.labels[index])}

    def targets(self, signals: Sequence[Signal], part: str) -> Tensor:
        """Values of signals in [0, 1]; see `SignalSet.targets`.

        Args:
            signals: M signals of `draw`.
            part: "train", "val" or "test".
        """
        self.part_inputs(part)
        images = self.images[[int(signal["image_index"]) for signal in signals]]
        if part == "train":
            return images.flatten(2).transpose(1, 2)
        middles = torch.nn.functional.avg_pool2d(images, 2, stride=1)
        mine = _turns(*middles.shape[2:]) == PARTS.index(part) - 1
        return middles[:, :, mine].transpose(1, 2)


def is_signal_set(name: str) -> bool:
    """Whether `load_signals` knows the name; nothing is loaded."""
    if not isinstance(name, str):  # a recipe can hold anything
        return False
    image_set = name.removesuffix(IMAGE_SUFFIX)
    return name == "sine" or (image_set != name and image_set in IMAGE_SETS)


@cache
def load_signals(name: str) -> SignalSet:
    """Load a signal set by name; asked again, it is the same object.

    Raises:
        RecipeError: if the name is unknown.
    """
    if not is_signal_set(name):
        raise RecipeError(
            f"signal set must be 'sine' or NAME{IMAGE_SUFFIX} with NAME one of "
            f"{list(IMAGE_SETS)}, got {name!r}"
        )
    if name == "sine":
        return _sines(name)
    return _images(name, load_images(name.removesuffix(IMAGE_SUFFIX)))


def _sines(name: str) -> SineSignals:
    x = torch.linspace(-torch.pi, torch.pi, SINE_POINTS, dtype=torch.float64)
    middles = (x[1:] + x[:-1]) / 2
    parts = (x, middles[::2], middles[1::2])
    train, val, test = (points[:, None].to(torch.float32) for points in parts)
    law = f"sin(f x), f ~ U({LOWEST_FREQUENCY}, {HIGHEST_FREQUENCY})"
    fingerprint = _fingerprint((train, val, test), law)
    return SineSignals(name, fingerprint, train, val, test, ("frequency",))


def _images(name: str, image_set: ImageSet) -> ImageSignals:
    splits = (image_set.train, image_set.val, image_set.test)
    images = image_set.brightness(torch.cat([split.pixels for split in splits]))
    labels = torch.cat([split.labels for split in splits])
    rows, columns = (torch.linspace(-1, 1, side) for side in image_set.shape[1:])
    turns = _turns(len(rows) - 1, len(columns) - 1)
    middles = torch.cartesian_prod((rows[1:] + rows[:-1]) / 2, (columns[1:] + columns[:-1]) / 2)
    train = torch.cartesian_prod(rows, columns)
    val, test = (middles[turns.flatten() == turn] for turn in (0, 1))
    fingerprint = _fingerprint((train, val, test), image_set.fingerprint)
    properties = ("image_index", "label")
    return ImageSignals(name, fingerprint, train, val, test, properties, images, labels)


def _turns(rows: int, columns: int) -> Tensor:
    """(rows, columns) of 0 and 1, as on a chessboard."""
    return (torch.arange(rows)[:, None] + torch.arange(columns)) % 2


def _fingerprint(inputs: Sequence[Tensor], source: str) -> str:
    digest = hashlib.sha256(source.encode())
    for points in inputs:
        digest.update(points.contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"
