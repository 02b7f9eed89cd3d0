"""Flat MLP (multilayer perceptron): all weights of a network as one vector.

This simplest learned encoder is the baseline called MLP in most papers on weight spaces, e.g. Navon
et al. 2023, arXiv:2301.12780, and SNE (the set-based neural network encoder), arXiv:2305.16625. It
has no notion of neurons: another order of the hidden units is another input.

Shape letters: B models, D length of the flat vector, P trained values, H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import perceptron
from .parts.parameters import SEVERAL, check_same_table, parameter_tensors, parameter_values


class FlatMLP(nn.Module):
    """A perceptron over the trained values of one architecture."""

    def __init__(
        self, layer_table: LayerTable, widths: Sequence[int] = (256, 256), outputs: int = 1
    ) -> None:
        """Make the perceptron.

        Args:
            layer_table: layer table of the architecture.
            widths: widths of the hidden layers; the last is H.
            outputs: number of predicted values.
        """
        super().__init__()
        self.config: dict[str, Any] = {"widths": list(widths), "outputs": outputs}
        self.layer_table = layer_table
        values = sum(spec.size for spec in parameter_tensors(layer_table))
        self.encoder = nn.Sequential(perceptron([values, *widths]), nn.ReLU())
        self.head = perceptron([[values, *widths][-1], outputs])

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
        check_same_table(layer_table, self.layer_table, "FlatMLP", SEVERAL)
        return self.encoder(parameter_values(weights, layer_table))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))
