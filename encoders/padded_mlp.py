"""Padded MLP: a flat multilayer perceptron that cuts or pads its input for any architecture.

It is a control for transfer between architectures, for which the flat MLP of most papers is not
defined. The trained values have other positions in another architecture, so any transfer that
remains does not depend on positions. Not from a paper.

Shape letters: B models, D length of the flat vector, H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron, perceptron
from .parts.parameters import parameter_values


class PaddedMLP(nn.Module):
    """A perceptron over the first trained values; shorter networks are padded with zeros."""

    def __init__(
        self, length: int = 4096, widths: Sequence[int] = (256, 256), outputs: int = 1
    ) -> None:
        """Make the perceptron.

        Args:
            length: number of trained values that it reads.
            widths: widths of the hidden layers; the last is H.
            outputs: number of predicted values.
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
        """Encode weights of one architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H).
        """
        values = parameter_values(weights, layer_table)[:, : self.length]
        return self.encoder(F.pad(values, (0, self.length - values.shape[1])))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))
