"""Maps of features that keep the factors of units, for ScaleGMN.

Source: Kalogeropoulos et al. 2024, "Scale Equivariant Graph Metanetworks", arXiv:2406.10685.

Shape letters: B networks, O and I units of the sets that edges join, H width.
"""

import torch
from torch import Tensor, nn

from .blocks import perceptron
from .unit_symmetries import NONE, SCALE, SIGN, canonical


class Equivariant(nn.Module):
    """Maps features to features that scale alike; any map for units without a symmetry."""

    def __init__(self, into: int, width: int) -> None:
        """Make the layers.

        Args:
            into: width of the features.
            width: H, width of the result.
        """
        super().__init__()
        self.linear = bare_linear(into, width)
        self.factors = nn.ModuleList(perceptron([into, width, width]) for _ in (SCALE, SIGN))
        self.free = perceptron([into, width, width])

    def forward(self, x: Tensor, symmetry: int) -> Tensor:
        """Map features (..., I) to (..., H).

        Args:
            x: features.
            symmetry: symmetry of the units that the features belong to.
        """
        seen = canonical(x, symmetry)
        if symmetry == NONE:
            return self.free(seen)
        return self.linear(x) * (1 + self.factors[symmetry - SCALE](seen))


class EdgeUpdate(nn.Module):
    """Changes the features of edges by factors that depend on both ends."""

    def __init__(self, width: int) -> None:
        """Make the layers.

        Args:
            width: H, width of units and edges.
        """
        super().__init__()
        self.linear = bare_linear(width, width)
        self.target, self.source = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.factor = nn.Linear(width, width)

    def forward(self, edge: Tensor, target: Tensor, source: Tensor) -> Tensor:
        """Update the edges of one tensor.

        Args:
            edge: features of the edges, (B, O, I, H).
            target: canonical features of the units that they lead to, (B, O, H).
            source: canonical features of the units that they come from, (B, I, H).
        """
        ends = self.target(target)[:, :, None] + self.source(source)[:, None]
        updated: Tensor = edge + self.linear(edge) * self.factor(torch.relu(ends))
        return updated


def bare_linear(into: int, out: int, std: float | None = None) -> nn.Linear:
    """A linear layer without bias.

    Args:
        into: width of the features.
        out: width of the result.
        std: deviation of the initial weights; None keeps the deviation of the input.
    """
    layer = nn.Linear(into, out, bias=False)
    nn.init.normal_(layer.weight, std=std or into**-0.5)
    return layer
