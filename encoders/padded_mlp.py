"""Padded MLP: the flat MLP made to take any architecture, by cutting or padding its input.

A control for transfer between architectures, where the flat MLP of most papers is not defined:
the trained values lie at other places in another architecture, so whatever still transfers is not
owed to places. Not from a paper.

Shape letters: B models, P trained values, H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron, perceptron
from .parts.parameters import parameter_values


class PaddedMLP(nn.Module):
    """A perceptron over the first trained values; a shorter network is padded with zeros."""

    def __init__(
        self, length: int = 4096, widths: Sequence[int] = (256, 256), outputs: int = 1
    ) -> None:
        """Make the perceptron.

        Args:
            length: trained values that it looks at.
            widths: of the hidden layers; the last is H.
            outputs: numbers to predict.
        """
        super().__init__()
        self.config: dict[str, Any] = {
            "length": length,
            "widths": list(widths),
            "outputs": outputs,
        }
        self.length = length
        self.encoder = nn.Sequential(perceptron([length, *widths]), nn.ReLU())
        self.head = normalized_perceptron([[length, *widths][-1], outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) of one architecture as (B, H)."""
        values = parameter_values(weights, layer_table)[:, : self.length]
        return self.encoder(F.pad(values, (0, self.length - values.shape[1])))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation."""
        return self.head(self.embed(weights, layer_table))
