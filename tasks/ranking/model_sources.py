"""The models of a zoo that are ranked: one checkpoint of each, and the images they saw."""

from pathlib import Path

import numpy as np

from ...builders.children.parents import Parents, choose_parents
from ...zoos.images.catalog import load_images
from .samples import image_samples


def model_source(zoo: Path | str) -> tuple[str, Parents]:
    """Label and rows of FOLDER or FOLDER@EPOCH.

    Raises:
        ZooError: as `choose_parents`.
        ValueError: if the epoch is not a whole number.
    """
    path, mark, epoch = str(zoo).rpartition("@")
    if not mark:
        return Path(zoo).name, choose_parents(Path(zoo))
    if not epoch.isdigit():
        raise ValueError(f"epoch must be a whole number, got {epoch!r} in {str(zoo)!r}")
    wanted = int(epoch)
    parents = choose_parents(Path(path), lambda columns: columns["epoch"] == wanted)
    return f"{Path(path).name}@{epoch}", parents


def images_seen(parents: Parents) -> np.ndarray:
    """Fingerprints of the images that the models were trained on; none if the zoo names no set.

    Raises:
        RecipeError: if the image set cannot be loaded.
    """
    if not parents.images:
        return np.empty(0, np.uint64)
    source = load_images(parents.images)
    return image_samples(source, source.train)
