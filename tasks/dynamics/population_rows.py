"""The rows of a zoo as an analysis reads them: model by model, in order of epoch.

Shape letters: N rows of the zoo, n rows of a block, D length of the flat vector.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...builders.training.objectives import DataSet
from ...loaders.load import ZooDataset, concatenate_zoos
from ...zoos.errors import UnsuitableError
from ...zoos.images.signals import SignalSet
from ...zoos.texts.text_set import TextSet
from .networks import EvaluationSet, Networks

NO_PARTNER = -1


@dataclass(frozen=True)
class PopulationRows:
    """All rows of a zoo in one dataset.

    Attributes:
        dataset: N rows.
    """

    dataset: ZooDataset

    @classmethod
    def of(cls, zoo: Mapping[str, ZooDataset]) -> "PopulationRows":
        """Join the splits of a zoo."""
        return cls(concatenate_zoos(list(zoo.values())))

    @cached_property
    def order(self) -> np.ndarray:
        """Row numbers by model and epoch, (N,)."""
        return np.lexsort((self.column("epoch"), self.column("model_id")))

    @cached_property
    def models(self) -> list[np.ndarray]:
        """Row numbers of every model in order of epoch."""
        ids = self.column("model_id")[self.order]
        return np.split(self.order, np.flatnonzero(np.diff(ids)) + 1)

    @property
    def checkpoints(self) -> int:
        """Largest number of checkpoints of a model."""
        return max(map(len, self.models))

    @cached_property
    def is_ok(self) -> np.ndarray:
        """Whether a row did not diverge, (N,)."""
        return np.asarray(self.column("status") == "ok")

    @cached_property
    def last_rows(self) -> np.ndarray:
        """Last row of every model that has a row that did not diverge."""
        good = [rows[self.is_ok[rows]] for rows in self.models]
        return np.array([rows[-1] for rows in good if len(rows)], np.int64)

    def column(self, name: str) -> np.ndarray:
        """A column of all rows, (N,)."""
        return self.dataset.hidden_column(name, "an analysis")

    def activations(self, rows: np.ndarray) -> list[str]:
        """Activation function of some rows."""
        if "activation" not in self.dataset.table.names:
            return ["relu"] * len(rows)
        return [str(name) for name in self.column("activation")[rows]]

    def networks(self, rows: np.ndarray) -> Networks:
        """The networks of some rows; the zoo must hold an architecture."""
        architecture = self.dataset.header.architecture
        assert architecture is not None
        return Networks(architecture, self.activations(rows))

    def evaluation_set(
        self, data: DataSet, rows: np.ndarray, part: str, count: int, seed: int
    ) -> EvaluationSet:
        """Inputs and targets of some rows; the inputs are the same for all rows.

        Args:
            data: image set or signal set.
            rows: row numbers, (n,).
            part: "train", "val" or "test".
            count: number of inputs at most.
            seed: seed of the choice.

        Raises:
            UnsuitableError: if the networks read text.
        """
        if isinstance(data, TextSet):
            raise UnsuitableError(f"networks are run on images or signals, {data.name!r} is a text")
        if isinstance(data, SignalSet):
            inputs = data.part_inputs(part)
            chosen = _chosen(len(inputs), count, seed)
            signals = [
                {name: self.column(name)[row].item() for name in data.property_names}
                for row in rows
            ]
            return EvaluationSet(inputs[chosen], data.targets(signals, part)[:, chosen])
        images = {"train": data.train, "val": data.val, "test": data.test}[part]
        chosen = _chosen(len(images), count, seed)
        return EvaluationSet(images.pixels[chosen], images.labels[chosen])

    def partners(self, seed: int) -> dict[int, int]:
        """Row of another model's last checkpoint, by row of a model's last checkpoint.

        The other model has the same activation function and is in the same split, so that no
        measure of a test model depends on a train model. Models of a group form one random cycle.

        Args:
            seed: seed of the cycles.
        """
        activations = np.array(self.activations(self.last_rows))
        splits = self.column("split")[self.last_rows].astype(str)
        found: dict[int, int] = {}
        for activation, split in sorted(set(zip(activations, splits, strict=True))):
            group = self.last_rows[(activations == activation) & (splits == split)]
            cycle = np.random.default_rng(seed).permutation(group)
            if len(cycle) > 1:
                found |= dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
        return found

    def paths(self, models: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Models with the same epochs together.

        Args:
            models: row numbers of each model.

        Yields:
            Row numbers (M, K), weights (M, K, D) and epochs (K,).
        """
        groups: dict[tuple[int, ...], list[np.ndarray]] = {}
        for rows in models:
            groups.setdefault(tuple(self.column("epoch")[rows].tolist()), []).append(rows)
        for epochs, members in groups.items():
            index = np.stack(members)
            weights = self.dataset.weights(index.reshape(-1)).unflatten(0, index.shape)
            weights[~torch.from_numpy(self.is_ok[index])] = torch.nan
            yield index, weights, torch.tensor(epochs)


def _chosen(size: int, count: int, seed: int) -> Tensor:
    """Numbers of the inputs that are used, in rising order."""
    drawn = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return drawn[:count].sort().values
