"""Runs of a zoo, cut into the checkpoints that are known and the one that is predicted.

Shape letters: M models, K known checkpoints, D length of the flat vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...loaders.load import ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.format import SPLITS

KNOWN_SHARE = 1 / 3  # of the epochs of a run
LEAST_KNOWN = 3
FINAL_ACCURACY, FINAL_GAP = "final_accuracy", "final_gap"
TARGETS = (FINAL_ACCURACY, FINAL_GAP)


@dataclass(frozen=True)
class Horizon:
    """Epochs of the known checkpoints, and of the predicted one.

    Attributes:
        known: K epochs.
        last: epoch to predict.
    """

    known: tuple[int, ...]
    last: int

    @classmethod
    def of(cls, zoo: Mapping[str, ZooDataset]) -> "Horizon":
        """The checkpoints in the first third of the epochs, and the last one.

        Raises:
            UnsuitableError: if fewer than three checkpoints are in the first third.
        """
        epochs = np.unique(np.concatenate([part.columns["epoch"] for part in zoo.values()]))
        last = int(epochs[-1])
        known = tuple(int(epoch) for epoch in epochs if epoch <= last * KNOWN_SHARE)
        if len(known) < LEAST_KNOWN:
            raise UnsuitableError(
                f"the benchmark needs {LEAST_KNOWN} checkpoints in the first third of the epochs, "
                f"the zoo has {epochs.tolist()}: keep more early checkpoints in the recipe"
            )
        return cls(known, last)


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of one split whose known and last checkpoints did not diverge in any measure.

    Attributes:
        known: dataset of the last known checkpoint of each model, M rows, with the targets and
            the early measures as columns.
        rows: row numbers of the known checkpoints in `split`, (M, K).
        last_rows: row numbers of the last checkpoints, (M,).
        split: dataset of all rows of the split.
        left_out: number of models that diverged or lack a checkpoint.
    """

    known: ZooDataset
    rows: np.ndarray
    last_rows: np.ndarray
    split: ZooDataset
    left_out: int

    @classmethod
    def of(cls, split: ZooDataset, horizon: Horizon) -> "Runs":
        """Cut the runs of a split.

        Args:
            split: all rows of the split.
            horizon: known epochs and last epoch.
        """
        columns = split.columns
        wanted = (*horizon.known, horizon.last)
        table = [_rows_of(columns, epoch) for epoch in wanted]
        models = sorted(set.intersection(*(set(rows) for rows in table)))
        index = np.array([[rows[model] for rows in table] for model in models], np.int64)
        index = index.reshape(len(models), len(wanted))
        early, last = index[:, :-1], index[:, -1]
        known = split.select(early[:, -1])
        known = known.add_column(FINAL_ACCURACY, columns["test_accuracy"][last])
        known = known.add_column(FINAL_GAP, columns["generalization_gap"][last])
        for position, epoch in enumerate(horizon.known):
            values = columns["val_accuracy"][early[:, position]]
            gaps = columns["train_accuracy"][early[:, position]] - values
            known = known.add_column(f"val_accuracy_{epoch}", values)
            known = known.add_column(f"val_gap_{epoch}", gaps)
        left_out = len(np.unique(columns["model_id"])) - len(models)
        return cls(known, early, last, split, left_out)

    def __len__(self) -> int:
        """M."""
        return len(self.last_rows)

    def series(self, name: str) -> Tensor:
        """A column at the known checkpoints, (M, K, 1)."""
        return torch.from_numpy(self.split.columns[name][self.rows].astype(np.float64))[..., None]

    def weights(self) -> Tensor:
        """Weights of the known checkpoints, (M, K, D)."""
        return self.split.weights(self.rows.reshape(-1)).unflatten(0, self.rows.shape)

    def last_weights(self) -> Tensor:
        """Weights of the last checkpoint, (M, D)."""
        return self.split.weights(self.last_rows)


def cut_runs(zoo: Mapping[str, ZooDataset]) -> tuple[dict[str, Runs], Horizon]:
    """The runs of every split.

    Raises:
        UnsuitableError: if the zoo lacks a split, or has too few early checkpoints.
    """
    if missing := [split for split in SPLITS if split not in zoo]:
        raise UnsuitableError(f"the benchmark needs the splits {SPLITS}, missing are {missing}")
    horizon = Horizon.of(zoo)
    return {split: Runs.of(zoo[split], horizon) for split in SPLITS}, horizon


def _rows_of(columns: Mapping[str, np.ndarray], epoch: int) -> dict[int, int]:
    """Row of every model whose checkpoint of an epoch did not diverge, with known measures.

    Weights that are finite may still have outputs that are not.
    """
    good = (columns["epoch"] == epoch) & (columns["status"] == "ok")
    for name in ("train_accuracy", "val_accuracy", "test_accuracy", "generalization_gap"):
        good &= np.isfinite(columns[name])
    rows = np.flatnonzero(good)
    return dict(zip(columns["model_id"][rows].tolist(), rows.tolist(), strict=True))
