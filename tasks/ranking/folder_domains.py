"""Tasks of unseen domains from folders: `domains:ROOT[@SIDE]/DOMAIN`.

    ROOT/DOMAIN/CLASS/IMAGE

PACS, VLCS, OfficeHome, TerraIncognita and DomainNet are published in this layout. The named domain
is unseen: its images are the test split. Every other domain gives a few train images of each class
and, with the rest, val images. `@SIDE` scales all images to SIDE x SIDE; without it they must have
one size.

Shape letters: N images, C channels, S side of an image.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ...zoos.errors import RecipeError, did_you_mean
from ...zoos.images.image_folder import read_images
from ...zoos.images.image_set import ImageSet, make_image_set
from .samples import fingerprints, refuse_overlap

DOMAINS_OF = "domains:"
CACHED_ROOTS = 2  # in memory at once


@dataclass(frozen=True, eq=False)
class DomainFolders:
    """All images of a root folder.

    Attributes:
        domains: names of the domains, sorted.
        classes: names of the classes, sorted; every domain has all of them.
        pixels: (N, C, S, S) uint8.
        labels: (N,) index of the class.
        domain: (N,) index of the domain.
    """

    domains: tuple[str, ...]
    classes: tuple[str, ...]
    pixels: torch.Tensor
    labels: np.ndarray
    domain: np.ndarray


def unseen_domain(name: str, shots: int, seed: int) -> tuple[str, ImageSet, np.ndarray]:
    """Images of a task whose test split is one domain.

    Args:
        name: `domains:ROOT[@SIDE]/DOMAIN`.
        shots: train images per class and domain.
        seed: seed of their choice.

    Returns:
        The name without the domain, the images, and the domain of each train image.

    Raises:
        RecipeError: if folders are missing, domains have different classes, or a class has too
            few images.
        UnsuitableError: if an image lies in the unseen domain and in another one.
    """
    base, _, unseen = name.rpartition("/")
    root, mark, side = base.removeprefix(DOMAINS_OF).rpartition("@")
    sized = mark and side.isdigit()
    found = load_domains(
        root if sized else base.removeprefix(DOMAINS_OF), int(side) if sized else None
    )
    if unseen not in found.domains:
        raise RecipeError(
            f"target {name!r}: the domain must be one of {list(found.domains)}, got {unseen!r}"
            + did_you_mean(unseen, found.domains)
        )
    rng = np.random.default_rng(seed)
    test = found.domain == found.domains.index(unseen)
    samples = fingerprints(found.pixels)
    others = "the images of the other domains"
    refuse_overlap(samples[~test], samples[test], others, f"the unseen domain {unseen!r}")
    few = _few(found, ~test, shots, rng, name)
    rest = np.setdiff1d(np.flatnonzero(~test), few)
    splits = [
        (found.pixels[torch.from_numpy(rows)], torch.from_numpy(found.labels[rows]))
        for rows in (few, rest, np.flatnonzero(test))
    ]
    return base, make_image_set(name, splits, len(found.classes)), found.domain[few]


@lru_cache(CACHED_ROOTS)
def load_domains(root: str, side: int | None) -> DomainFolders:
    """Read all images of a root folder.

    Args:
        root: path of the folder of domains.
        side: side that images are scaled to; None keeps their size, which must be one.

    Raises:
        RecipeError: if there are fewer than two domains or classes, or an image cannot be read.
    """
    folder = Path(root).expanduser()
    domains = _folders(folder, "domains")
    classes = _folders(folder / domains[0], "classes")
    paths, labels, places = list[Path](), list[int](), list[int]()
    for place, domain in enumerate(domains):
        if (odd := _folders(folder / domain, "classes")) != classes:
            differ = sorted(set(odd) ^ set(classes))
            raise RecipeError(
                f"domains must have the same classes: {domains[0]!r} and {domain!r} of {root!r} "
                f"differ in {differ}"
            )
        for label, name in enumerate(classes):
            files = sorted(path for path in (folder / domain / name).iterdir() if path.is_file())
            paths += files
            labels += [label] * len(files)
            places += [place] * len(files)
    pixels = torch.from_numpy(read_images(paths, side))
    return DomainFolders(tuple(domains), tuple(classes), pixels, np.array(labels), np.array(places))


def _folders(folder: Path, kind: str) -> list[str]:
    """Names of the folders inside."""
    names = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    )
    if len(names) < 2:
        raise RecipeError(
            f"{str(folder)!r} must hold a folder for each of at least 2 {kind}, has "
            f"{names}: images lie in ROOT/DOMAIN/CLASS/"
        )
    return names


def _few(
    found: DomainFolders, kept: np.ndarray, shots: int, rng: np.random.Generator, name: str
) -> np.ndarray:
    """So many images of each class and kept domain, as rows."""
    taken = []
    for domain in np.unique(found.domain[kept]):
        for label, text in enumerate(found.classes):
            own = np.flatnonzero((found.domain == domain) & (found.labels == label))
            if len(own) <= shots:
                raise RecipeError(
                    f"target {name!r}: class {text!r} of domain {found.domains[domain]!r} has "
                    f"{len(own)} images for training and choices, so shots must be below that, "
                    f"got {shots}"
                )
            taken.append(rng.choice(own, shots, replace=False))
    return np.sort(np.concatenate(taken))
