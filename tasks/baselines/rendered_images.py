"""A classifier of the images that implicit neural representations (INRs) render, as a ceiling.

It runs every network on a grid of coordinates and classifies the values, which holds all that a
network knows of its image. It reads no weights.

Shape letters: N rows, P points of the grid, C channels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.networks.batched import NetworkBatch
from ..scoring.targets import is_category

SIDE = 28  # of the grid, in points
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)  # C of the support vector machine
BLOCK = 64  # networks that are run at once


class RenderedImages:
    """Support vector machine with Gaussian kernels on rendered images; val chooses the penalty."""

    name, seeded = "ceiling: rendered images", False

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Fit one machine per penalty and keep the best on the val split.

        Args:
            train: train rows, INRs of two coordinates.
            val: val rows.
            target: name of a column of categories.
            seed: seed, ignored.

        Raises:
            UnsuitableError: if the target is a number, or the networks are no INRs of images.
        """
        from sklearn.svm import SVC

        if not is_category(target, train.columns[target]):
            raise UnsuitableError(f"rendered images are classified, and {target!r} is a number")
        known, other = rendered(train), rendered(val)
        candidates = [SVC(C=penalty).fit(known, train.columns[target]) for penalty in PENALTIES]
        self._model: Any = max(
            candidates, key=lambda model: float(model.score(other, val.columns[target]))
        )

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the category of every row, (N,)."""
        return np.asarray(self._model.predict(rendered(dataset)))


def rendered(dataset: ZooDataset) -> np.ndarray:
    """Values of all networks on a grid of `SIDE` by `SIDE` points in [-1, 1]^2, (N, P C).

    Args:
        dataset: rows, INRs of two coordinates.

    Raises:
        UnsuitableError: if the architecture is unknown or does not read two coordinates.
    """
    architecture = dataset.header.architecture
    if architecture is None or architecture.input_shape != (2,):
        raise UnsuitableError(
            f"zoo {dataset.name!r} holds no networks of two coordinates, so it has no images to "
            "render: leave out RenderedImages"
        )
    if "activation" in architecture.kinds():
        raise UnsuitableError(f"zoo {dataset.name!r} holds no sine networks to render")
    points, parts = grid(SIDE), list[Tensor]()
    with torch.no_grad():
        for weights in dataset.weight_blocks(BLOCK):
            names = ("relu",) * len(weights)  # no layer reads them
            parts.append(NetworkBatch(architecture, names, weights).outputs(points).flatten(1))
    return torch.cat(parts).numpy()


def grid(side: int) -> Tensor:
    """Row and column of `side` by `side` points in [-1, 1]^2, row by row, (P, 2)."""
    ends = torch.linspace(-1, 1, side)
    return torch.cartesian_prod(ends, ends)
