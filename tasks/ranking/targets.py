"""Targets: small tasks on image sets, with few images per class and changed images if asked for.

A target takes its images from the val and test splits of a set, so that models which were trained
on the set's train split saw none of them. `NAME+CHANGE+...` changes the images or the classes:
`glyphs-greek+invert`, `digits+first+rotate`. `NAME/DOMAIN` is a task of unseen domains: its train
and val images come from all of `DOMAINS` but one, its test images from that one.
`domains:ROOT/DOMAIN` takes the domains of a folder instead, see `folder_domains`. Of a split with
more than 2,000 images that accuracies are measured on, so many are drawn.

Shape letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import RecipeError
from ...zoos.images.catalog import LOCAL_SETS, check_image_set, load_images
from ...zoos.images.image_set import Images, ImageSet, make_image_set
from .folder_domains import DOMAINS_OF, unseen_domain

Change = Callable[[Tensor, np.random.Generator], Tensor]
NOISE, BLUR, ANGLE = 0.3, 5, 35
MOST_MEASURED = 2_000  # images of val and test: an accuracy of 0.5 then has an error of 0.011


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target task.

    Attributes:
        name: name that was asked for.
        family: the image set it is made of; targets of one family resemble each other.
        images: train with few images per class, val to choose settings by, test.
        domains: domain of each train image, (N,), as an index; None for one domain.
    """

    name: str
    family: str
    images: ImageSet
    domains: np.ndarray | None = None


def make_target(name: str, shots: int = 15, seed: int = 0) -> Target:
    """Make a target; the same arguments give the same images.

    Args:
        name: an image set, and changes after `+`: one of `CHANGES`, or `first` or `second` for
            one half of the classes; or an image set, a slash, and the domain that is unseen; or
            `domains:ROOT[@SIDE]/DOMAIN` for the domains of a folder.
        shots: training images per class, and per domain.
        seed: seed of the choice of images and of noise.

    Raises:
        RecipeError: if the set or a change is unknown, or a class has too few images.
    """
    if name.startswith(DOMAINS_OF):
        family, image_set, domains = unseen_domain(name, shots, seed)
        return Target(name=name, family=family, images=image_set, domains=domains)
    base, slash, unseen = name.rpartition("/")
    if slash and not name.startswith(PATHS):
        return _unseen_domain(name, base, unseen, shots, seed)
    base, *changes = name.split("+")
    check_image_set(base)
    if odd := [change for change in changes if change not in (*CHANGES, *HALVES)]:
        raise RecipeError(f"target {name!r}: changes must be of {[*CHANGES, *HALVES]}, got {odd}")
    source, rng = load_images(base), np.random.default_rng(seed)
    chosen = np.arange(source.classes)
    for change in changes:
        if change in HALVES:
            halves = np.array_split(chosen, 2)
            chosen = halves[HALVES.index(change)]
    few, rest = _few(_of_classes(source.val, chosen), shots, rng, name)
    measured = (_drawn(one, rng) for one in (rest, _of_classes(source.test, chosen)))
    splits = []
    for images in (few, *measured):
        pixels = source.brightness(images.pixels)
        for change in changes:
            pixels = CHANGES[change](pixels, rng) if change in CHANGES else pixels
        splits.append(_eight_bit(pixels, images.labels))
    return Target(name=name, family=base, images=make_image_set(name, splits, len(chosen)))


def _unseen_domain(name: str, base: str, unseen: str, shots: int, seed: int) -> Target:
    """Few images of every domain but one to train on, the others to choose by, one to test on."""
    check_image_set(base)
    if unseen not in DOMAINS:
        raise RecipeError(f"target {name!r}: the domain must be of {DOMAINS}, got {unseen!r}")
    parts: list[list[tuple[Tensor, Tensor]]] = [[], [], []]
    domains = []
    for index, domain in enumerate(DOMAINS):
        change = f"+{domain}" if domain in CHANGES else ""
        own = make_target(f"{base}{change}", shots, seed + index).images
        if domain == unseen:
            parts[2].append(_eight_bit(own.brightness(own.test.pixels), own.test.labels))
            continue
        for part, split in zip(parts, (own.train, own.val), strict=False):
            part.append(_eight_bit(own.brightness(split.pixels), split.labels))
        domains.append(np.full(len(own.train), index))
    splits = [
        (torch.cat([pixels for pixels, _ in part]), torch.cat([labels for _, labels in part]))
        for part in parts
    ]
    images = make_image_set(name, splits, load_images(base).classes)
    return Target(name=name, family=base, images=images, domains=np.concatenate(domains))


def _eight_bit(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8), labels


def _invert(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    return 1 - pixels


def _noise(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    return pixels + torch.from_numpy(rng.normal(0, NOISE, pixels.shape)).float()


def _blur(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    return F.avg_pool2d(pixels, BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)


def _rotate(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    angle = torch.tensor(np.deg2rad(ANGLE), dtype=torch.float32)
    rows = [torch.cos(angle), -torch.sin(angle), angle * 0, torch.sin(angle), torch.cos(angle)]
    turn = torch.stack([*rows, angle * 0]).view(1, 2, 3).expand(len(pixels), -1, -1)
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


CHANGES: dict[str, Change] = {
    "invert": _invert,
    "noise": _noise,
    "blur": _blur,
    "rotate": _rotate,
}
HALVES = ("first", "second")
DOMAINS = ("clean", *CHANGES)
PATHS = (*LOCAL_SETS, "hub:")  # names of image sets that have slashes of their own


def _of_classes(images: Images, chosen: np.ndarray) -> Images:
    """The images of some classes, which are numbered anew."""
    labels = images.labels.numpy()
    kept = torch.from_numpy(np.isin(labels, chosen))
    return Images(images.pixels[kept], torch.from_numpy(np.searchsorted(chosen, labels[kept])))


def _drawn(images: Images, rng: np.random.Generator) -> Images:
    """At most `MOST_MEASURED` of the images."""
    if len(images) <= MOST_MEASURED:
        return images
    chosen = np.sort(rng.choice(len(images), MOST_MEASURED, replace=False))
    return Images(images.pixels[chosen], images.labels[chosen])


def _few(images: Images, shots: int, rng: np.random.Generator, name: str) -> tuple[Images, Images]:
    """So many images of each class, and the others."""
    labels, taken = images.labels.numpy(), []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) <= shots:
            raise RecipeError(
                f"target {name!r}: class {label} has {len(own)} images for training and choices, "
                f"so shots must be below that, got {shots}"
            )
        taken.append(rng.choice(own, shots, replace=False))
    few = np.sort(np.concatenate(taken))
    rest = np.setdiff1d(np.arange(len(labels)), few)
    return tuple(Images(images.pixels[part], images.labels[part]) for part in (few, rest))  # type: ignore[return-value]
