"""StatNet: a perceptron on weight statistics.

Source: the baseline StatNN of the NFN paper (neural functional networks), Zhou et al. 2023,
arXiv:2302.14040, after Unterthiner et al. 2020, arXiv:2002.11448: seven statistics per tensor, two
hidden layers of 1,000. Differs: a batch norm scales the statistics, which span orders of magnitude;
the final sigmoid is part of the loss.

Shape letters: B models, D length of the flat vector, T parameter tensors, H width.
"""

from typing import Any

from torch import Tensor, nn

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import perceptron
from .parts.parameters import SEVERAL, check_same_table, parameter_tensors
from .statistics import STATISTICS, layer_statistics


class StatisticsMLP(nn.Module):
    """A perceptron over the 7 T statistics of one architecture."""

    def __init__(self, layer_table: LayerTable, width: int = 1000, outputs: int = 1) -> None:
        """Make the perceptron.

        Args:
            layer_table: layer table of the architecture.
            width: H, width of both hidden layers.
            outputs: number of predicted values.
        """
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "outputs": outputs}
        self.layer_table = layer_table
        statistics = len(STATISTICS) * len(parameter_tensors(layer_table))
        self.norm = nn.BatchNorm1d(statistics)
        self.encoder = nn.Sequential(perceptron([statistics, width, width]), nn.ReLU())
        self.head = perceptron([width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode weights of the architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H).

        Raises:
            ValueError: if the weights belong to another architecture.
        """
        return self.encode(*self.planned(weights, layer_table))

    def planned(self, weights: Tensor, layer_table: LayerTable) -> tuple[Tensor]:
        """Compute the statistics, which a compiler would not make faster: they are sorted.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Argument of `encode`.
        """
        check_same_table(layer_table, self.layer_table, "StatisticsMLP", SEVERAL)
        return (layer_statistics(weights, layer_table).to(self.norm.weight.dtype),)

    def encode(self, statistics: Tensor) -> Tensor:
        """Encode statistics, (B, 7 T), as embeddings, (B, H)."""
        return self.encoder(self.norm(statistics))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        In training mode the batch norm needs at least two models.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))
