"""The rows of a zoo that one generator can learn: finite, late in training, of one activation."""

import math
import statistics
from collections.abc import Mapping

from ..loaders import ZooDataset
from ..zoos.recipe import HyperParameters, hyper_parameter_names

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
    """The finite late rows of one activation, by default the commonest.

    Raises:
        ValueError: if there are none.
    """
    rows = zoo.filter(f"epoch >= {least_epoch}").filter("status == 'ok'")
    names = [name for name in rows.columns["activation"] if activation in (None, name)]
    if not names:
        raise ValueError(
            f"zoo {zoo.name!r} has no finite checkpoint from epoch {least_epoch} on: its epochs "
            f"are {sorted(set(zoo.columns['epoch'].tolist()))}"
        )
    chosen = statistics.mode(names)
    return rows.filter(lambda columns: columns["activation"] == chosen)


def common_hyper_parameters(rows: ZooDataset) -> HyperParameters:
    """How to fine-tune: the zoo's commonest values, without dropout."""
    values = {
        name: statistics.mode(rows.columns[name].tolist())
        for name in hyper_parameter_names()
        if name in rows.columns
    }
    return HyperParameters(**values | {"dropout": 0.0})
