"""The rows of a zoo that one generator can learn: finite, late in training, of one activation."""

import math
import statistics
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.recipe import HyperParameters, hyper_parameter_names

TOP_SHARE = 0.3  # of the rows, from which samplers draw
LATE = 0.8  # share of training after which checkpoints are learned from


def late_epoch(zoo: ZooDataset) -> int:
    """From when on a checkpoint is of the last fifth of training; 21 of 25."""
    return math.floor(LATE * int(zoo.columns["epoch"].max())) + 1


def homogeneous_splits(
    zoo: Mapping[str, ZooDataset], least_epoch: int
) -> tuple[ZooDataset, ZooDataset]:
    """Train and val rows that one generator can learn, see `homogeneous`."""
    train = homogeneous(zoo["train"], least_epoch)
    return train, homogeneous(zoo["val"], least_epoch, str(train.columns["activation"][0]))


def homogeneous(zoo: ZooDataset, least_epoch: int, activation: str | None = None) -> ZooDataset:
    """The finite late rows of one activation, by default the commonest of the best rows.

    The best are those with the highest val accuracies (`top_rows`), from which samplers draw: in
    a zoo of many activations most rows of the commonest may be models that never learned.

    Raises:
        ValueError: if there are none.
    """
    rows = zoo.filter(f"epoch >= {least_epoch}").filter("status == 'ok'")
    if activation is None and len(rows):
        activation = _activation(rows)
    rows = rows.filter(lambda columns: columns["activation"] == activation)
    if not len(rows):
        raise ValueError(
            f"zoo {zoo.name!r} has no finite checkpoint from epoch {least_epoch} on: its epochs "
            f"are {sorted(set(zoo.columns['epoch'].tolist()))}"
        )
    return rows


def top_rows(accuracy: Tensor, share: float = TOP_SHARE) -> Tensor:
    """The rows whose accuracy is among the best `share`, as row numbers in order.

    Args:
        accuracy: (N,), of the val images, so that the test images stay unseen; the published
            experiments took the test accuracy.
        share: above 0, at most 1.

    Raises:
        ValueError: if the share is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}")
    return (accuracy >= accuracy.double().quantile(1 - share)).nonzero()[:, 0]


def best_hyper_parameters(rows: ZooDataset) -> HyperParameters:
    """How to fine-tune: as the model with the best val accuracy was trained, without dropout.

    In a zoo with one value of each hyper-parameter that is this value. Where they differ, values
    taken one by one (a mode, a median) need not go together, such as a rate and its optimizer.
    """
    best = int(_comparable(rows).argmax())
    values = {
        name: rows.columns[name].tolist()[best]
        for name in hyper_parameter_names()
        if name in rows.columns
    }
    return HyperParameters(**values | {"dropout": 0.0})


def _activation(rows: ZooDataset) -> str:
    best = top_rows(torch.from_numpy(_comparable(rows)))
    return statistics.mode(rows.columns["activation"][best.numpy()].tolist())


def _comparable(rows: ZooDataset) -> np.ndarray:
    """(N,), val accuracies, -1 where there is none."""
    return np.nan_to_num(rows.columns["val_accuracy"], nan=-1.0)
