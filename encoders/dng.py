"""DNG: one pass over the graph of a network, in the direction of its forward pass.

Source: directed neural graphs, as described in the notes on their public code (`dddiowww/DNG`); we
know of no identifier of a paper. Units gather messages from the layer before alone, so that one
pass over the layers suffices. For unit o with the state s_o of its bias, weights e_oi from the
units i before it, Fourier features phi, and W and V linear:

    m_o = mean_i W phi(e_oi) * V h_i        h_o = LayerNorm(GRU(message m_o, state s_o))

where * multiplies components, at the place where the network multiplies a weight with the value of
a unit. Differs: messages are averages, so that wide layers do not outweigh narrow ones; the graph
is read from the layer table by `parts/weight_graph.py`, also for residual networks and attention;
all layers share their parameters, and codes give kind and depth; output units, which are numbered,
are averaged after a perceptron, so that networks may have any number of them.

Reordering hidden units does not change the output. Activation functions are not read.

Shape letters: B models, D length of the flat vector, U units of a set, O and I units of the sets
that edges join, K values per pair, F Fourier features of a value, H width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.layer_table import KINDS, LayerTable
from .neural_graph import GraphInput
from .parts.blocks import normalized_perceptron, perceptron
from .parts.graph_plan import GraphPlan, edge_places, graph_plan
from .parts.parameters import check_weights
from .parts.weight_graph import Edges, kind_index


class FourierEdges(nn.Module):
    """Maps the values between two units, through Fourier features of each, to width H."""

    frequencies: Tensor

    def __init__(self, width: int, max_values: int, frequencies: int) -> None:
        """Make one matrix per place of a value, and one code per kind of tensor.

        Args:
            width: H, width of edges.
            max_values: largest number of values per pair of units.
            frequencies: number of frequencies; the lowest has a period of 8.
        """
        super().__init__()
        self.register_buffer("frequencies", 0.25 * math.pi * 2.0 ** torch.arange(frequencies))
        features = 2 * frequencies + 1
        self.maps = nn.Parameter(torch.randn(max_values, features, width) / features**0.5)
        self.kind = nn.Embedding(2 * len(KINDS), width)

    def forward(self, weights: Tensor, one: Edges, places: Tensor, depth: Tensor) -> Tensor:
        """Make the features (B, O, I, H) of the edges of one tensor.

        Args:
            weights: flat weight vectors, (B, D).
            one: edges of the tensor.
            places: places of the values of a pair of units, (K,).
            depth: encoding of the depth of the tensor, (1, H).
        """
        values = one.values(weights, one.shape[2])[..., None]  # (B, O, I, K, 1)
        angles = values * self.frequencies.to(weights)
        features = torch.cat([values, angles.sin(), angles.cos()], dim=-1).flatten(-2)
        code = depth + self.kind.weight[kind_index(one.spec)]
        mapped = features @ self.maps[places].flatten(0, 1) / len(places) ** 0.5
        return mapped + code.to(weights)


class DNG(nn.Module):
    """Encoder of any architecture whose graph can be read from the layer table."""

    def __init__(
        self, width: int = 32, frequencies: int = 4, max_kernel: int = 8, outputs: int = 1
    ) -> None:
        """Make an encoder.

        Args:
            width: H, width of units and edges.
            frequencies: number of frequencies of the Fourier features.
            max_kernel: largest side of a kernel, patch, or flattened image.
            outputs: number of predicted values.

        Raises:
            ValueError: if a size is below 1.
        """
        super().__init__()
        if min(width, frequencies, max_kernel) < 1:
            raise ValueError(
                "width, frequencies and max_kernel must be at least 1, "
                f"got {width!r}, {frequencies!r} and {max_kernel!r}"
            )
        self.config: dict[str, Any] = {
            "width": width,
            "frequencies": frequencies,
            "max_kernel": max_kernel,
            "outputs": outputs,
        }
        self.input = GraphInput(width, 1)  # of the units; edges have their own
        self.edges = FourierEdges(width, max_kernel**2, frequencies)
        self.value = nn.Linear(width, width)
        self.update = nn.GRUCell(width, width)
        self.norm = nn.LayerNorm(width)
        self.unit_output = perceptron([width, width, width])
        self.head = normalized_perceptron([2 * width, 2 * width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode weights of one architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, 2 H): of the output units, and of the average layer.

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table gives no graph.
        """
        return self.encode(*self.planned(weights, layer_table))

    def planned(
        self, weights: Tensor, layer_table: LayerTable
    ) -> tuple[Tensor, GraphPlan, tuple[Tensor, ...]]:
        """Make the plan of the architecture, or take the one made before.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Arguments of `encode`.
        """
        check_weights(weights, layer_table)
        width, side = self.config["width"], self.config["max_kernel"]
        plan = graph_plan(layer_table, width, weights.device)
        return weights, plan, edge_places(layer_table, side**2, weights.device)

    def encode(self, weights: Tensor, plan: GraphPlan, places: tuple[Tensor, ...]) -> Tensor:
        """Encode weights by a given plan.

        Args:
            weights: flat weight vectors, (B, D).
            plan: graph of the architecture, and codes of its sets and edges.
            places: places of the values of every tensor, see `edge_places`.

        Returns:
            Embeddings, (B, 2 H).
        """
        units, last = self.input.nodes(weights, plan), 0
        for one, own, depth in zip(plan.graph.edges, places, plan.edge_depths, strict=True):
            read = self.value(units[one.source])
            features = self.edges(weights, one, own, depth)
            message = torch.einsum("boih,bih->boh", features, read) / one.shape[1]
            state = units[one.target].flatten(0, 1)
            updated = self.norm(self.update(message.flatten(0, 1), state))
            units[one.target], last = updated.view_as(message), one.target
        layers = torch.stack([self.unit_output(one).mean(1) for one in units], 1)
        return torch.cat([layers[:, last], layers.mean(1)], dim=1)

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        In training mode the batch norm of the head needs at least two models.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))
