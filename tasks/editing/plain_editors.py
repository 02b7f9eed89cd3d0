"""Editors without equivariance, which show what an equivariant one is worth.

Shape letters: B networks, D length of the flat vector.
"""

import torch
from torch import Tensor, nn

from ...encoders.parts.blocks import perceptron
from ...loaders import LayerStandardization
from .dilation import EditingSettings
from .weight_editor import FIRST_STEP

FLAT_WIDTH = 256


class MeanEditor(nn.Module):
    """Adds one learned change to the weights of every network."""

    def __init__(self, standardization: LayerStandardization, settings: EditingSettings) -> None:
        """Start without a change.

        Args:
            standardization: mean and deviation of each layer, fitted to train rows.
            settings: settings of the training, ignored.
        """
        super().__init__()
        self.standardization = standardization
        self.change = nn.Parameter(torch.zeros(standardization.layer_table.width))

    def forward(self, weights: Tensor) -> Tensor:
        """Edit networks, (B, D) to (B, D)."""
        scaled = self.standardization.apply(weights)
        return self.standardization.inverse(scaled + self.change)


class FlatEditor(nn.Module):
    """A perceptron from all weights of a network to a change of each."""

    def __init__(self, standardization: LayerStandardization, settings: EditingSettings) -> None:
        """Make the layers.

        Args:
            standardization: mean and deviation of each layer, fitted to train rows.
            settings: settings of the training, ignored.
        """
        super().__init__()
        self.standardization = standardization
        values = standardization.layer_table.width
        self.layers = perceptron([values, FLAT_WIDTH, FLAT_WIDTH, values])
        self.step = nn.Parameter(torch.tensor(FIRST_STEP))

    def forward(self, weights: Tensor) -> Tensor:
        """Edit networks, (B, D) to (B, D)."""
        scaled = self.standardization.apply(weights)
        return self.standardization.inverse(scaled + self.step * self.layers(scaled))
