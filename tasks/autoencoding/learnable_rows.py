"""Rows of a zoo that one generative model is fitted to: finite, late, of one activation."""

import math
import statistics
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.recipe import HyperParameters, hyper_parameter_names

TOP_SHARE = 0.3  # share of rows that samplers are fitted to
LATE = 0.8  # share of training after which checkpoints are used


def late_epoch(zoo: ZooDataset) -> int:
    """First epoch of the last fifth of training, e.g. 21 of 25."""
    return math.floor(LATE * int(zoo.columns["epoch"].max())) + 1


def homogeneous_splits(
    zoo: Mapping[str, ZooDataset], least_epoch: int
) -> tuple[ZooDataset, ZooDataset]:
    """Train and val rows of one activation, see `homogeneous`.

    Args:
        zoo: dataset by split.
        least_epoch: first epoch of the rows taken.
    """
    train = homogeneous(zoo["train"], least_epoch)
    return train, homogeneous(zoo["val"], least_epoch, str(train.columns["activation"][0]))


def homogeneous(zoo: ZooDataset, least_epoch: int, activation: str | None = None) -> ZooDataset:
    """The finite late rows of one activation.

    The default is the most frequent activation among the best rows (`top_rows`), which samplers
    are fitted to. In a zoo of many activations, most rows of the overall most frequent one may be
    models that never learned.

    Args:
        zoo: rows of one split.
        least_epoch: first epoch of the rows taken.
        activation: name of the activation; None takes the default.

    Raises:
        ValueError: if there are no such rows.
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
    """Row numbers of the best rows by accuracy, in rising order.

    Args:
        accuracy: accuracy of the rows on val images, (N,), so that the test images stay unseen;
            the published experiments took the test accuracy.
        share: share of rows to take, in (0, 1].

    Raises:
        ValueError: if the share is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}")
    return (accuracy >= accuracy.double().quantile(1 - share)).nonzero()[:, 0]


def best_hyper_parameters(rows: ZooDataset) -> HyperParameters:
    """Hyper-parameters of the model with the best val accuracy, without dropout, to fine-tune with.

    They are taken from one model, since values chosen separately (a mode, a median) need not be
    compatible, such as a learning rate and its optimizer.
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
    """Val accuracies, (N,), with -1 for missing values."""
    return np.nan_to_num(rows.columns["val_accuracy"], nan=-1.0)
