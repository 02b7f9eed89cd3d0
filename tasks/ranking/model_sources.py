"""The models of a zoo that are ranked: one checkpoint of each, its weights, and the images it saw.

Shape letters: N rows, E width of an embedding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...builders.children.parents import Parents, choose_parents
from ...loaders import ZooDataset, concatenate_zoos, load_zoo
from ...zoos.images.catalog import load_images
from ..baselines.pooled_statistics import pooled_statistics
from .samples import image_samples

Embed = Callable[[ZooDataset], Any]
"""From N rows of a zoo to their embeddings (N, E): the `embed` of a trained encoder, as a rule."""


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


def weight_embeddings(zoo: Path | str, embed: Embed = pooled_statistics) -> dict[str, np.ndarray]:
    """Embedding (E,) of the weights of every model that `zoo_groups` ranks, under the same names.

    Args:
        zoo: FOLDER or FOLDER@EPOCH.
        embed: embeds rows; by default statistics that are defined for any architecture.

    Raises:
        ZooError: if there is no zoo, or no checkpoint is finite.
    """
    label, parents = model_source(zoo)
    folder = str(zoo).rpartition("@")[0] or str(zoo)
    epochs = {
        model.model_id: epoch for model, epoch in zip(parents.models, parents.epochs, strict=True)
    }
    rows = concatenate_zoos(list(load_zoo(folder).values())).filter(
        lambda columns: np.array(
            [
                epochs.get(int(model)) == epoch
                for model, epoch in zip(columns["model_id"], columns["epoch"], strict=True)
            ]
        )
    )
    found = np.asarray(embed(rows), np.float64)
    return {
        f"{label}/{model}": one for model, one in zip(rows.columns["model_id"], found, strict=True)
    }
