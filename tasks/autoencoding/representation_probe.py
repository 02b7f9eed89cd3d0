"""A predictor that probes a hyper-representation linearly.

Source: arXiv:2110.15288, whose autoencoders learn without labels, so that a linear model of the
embedding shows what the embedding holds.

Shape letters: N rows, H width of the embedding.
"""

import numpy as np
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError
from .hyper_representation import ZooAutoencoder, train_hyper_representation
from .probe import EmbeddingProbe
from .settings import AutoencoderSettings


class HyperRepresentationProbe:
    """A `Predictor` that trains an autoencoder on the train rows, then a linear probe on it.

    Attributes:
        autoencoder: autoencoder of the last fit.
        probe: probe of the last fit.
    """

    name, seeded = "hyper-representation + linear probe", True
    autoencoder: ZooAutoencoder
    probe: EmbeddingProbe

    def __init__(self, settings: AutoencoderSettings) -> None:
        """Store the settings of the autoencoder."""
        self.settings = settings

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Train both; errors are those of `train_hyper_representation` and `EmbeddingProbe.fit`.

        Args:
            train: train rows.
            val: val rows, which choose the regularisation of the probe.
            target: name of the target column, which the autoencoder does not see.
            seed: seed of both trainings.
        """
        self.autoencoder = train_hyper_representation(train, val, self.settings, seed)
        labelled = [(self._embedding(rows), rows.columns[target]) for rows in (train, val)]
        self.probe = EmbeddingProbe.fit(labelled[0], labelled[1], target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,).

        Raises:
            UnsuitableError: if the rows are networks of another architecture.
        """
        table = self.autoencoder.canonical.standardization.layer_table
        if dataset.layer_table != table:
            raise UnsuitableError(
                f"{self.name} was fitted to networks of {table.width} values, zoo "
                f"{dataset.name!r} has networks of another architecture with "
                f"{dataset.layer_table.width}: it is tied to one architecture"
            )
        return self.probe.predict(self._embedding(dataset))

    def _embedding(self, rows: ZooDataset) -> Tensor:
        """(N, H)."""
        return self.autoencoder.embed(self.autoencoder.canonical.weights(rows))
