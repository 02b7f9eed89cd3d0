"""Neural graph: message passing over the units and weights of a network of any architecture.

Sources: Kofinas et al. 2024, "Graph Neural Networks for Learning Equivariant Representations of
Neural Networks", arXiv:2403.12143 (units and their biases as nodes, weights as edges with kernels
padded to the largest, edges updated with the nodes), and Lim et al. 2024, "Graph Metanetworks",
arXiv:2312.04501 (norms and attention as part of the graph). One round, for the edges e_oi from unit
i to unit o, with W linear:

    u_oi = relu(W_1 e_oi + W_2 h_o + W_3 h_i)             e_oi <- e_oi + W_4 u_oi
    h_o  <- h_o + MLP(LayerNorm(h_o), mean_i u_oi, mean_o' u_o'o)

`weight_graph.py` reads the graph from the layer table. Differs: edges between two sets of units are
dense, so no sparse library is needed; messages are averages; all layers share the parameters of a
round, and codes give their kind and depth; the output averages over sets and over their edges.

Reordering hidden units does not change the output. Inputs, outputs and positions of position
embeddings are identified by their number. Memory is proportional to H times the number of weights
divided by the values per pair.

Shape letters: B models, D length of the flat vector, U units of a set, O and I units of the sets
that edges join, H width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.layer_table import KINDS, LayerTable
from .parts.blocks import normalized_perceptron, perceptron
from .parts.graph_plan import GraphPlan, graph_plan
from .parts.parameters import check_weights
from .parts.weight_graph import VECTOR_VALUES, Edges, WeightGraph, kind_index


class GraphInput(nn.Module):
    """Maps weights to the first features of nodes and edges."""

    def __init__(self, width: int, max_values: int) -> None:
        """Make the linear layers, and one code per kind of tensor.

        Args:
            width: H, width of nodes and edges.
            max_values: largest number of values per pair of units.
        """
        super().__init__()
        self.width, self.max_values = width, max_values
        self.vectors = nn.ModuleList(nn.Linear(VECTOR_VALUES, width) for _ in range(2 * len(KINDS)))
        self.pairs = nn.Linear(max_values, width)
        self.kind = nn.Embedding(2 * len(KINDS), width)

    def nodes(self, weights: Tensor, plan: GraphPlan) -> list[Tensor]:
        """Make the features of nodes.

        Args:
            weights: flat weight vectors, (B, D).
            plan: graph of the architecture, and codes of its sets.

        Returns:
            Features (B, U, H) of every set of units.
        """
        nodes = []
        for units, depth, numbers in zip(
            plan.graph.sets, plan.set_depths, plan.numbers, strict=True
        ):
            node = (depth + numbers).to(weights.dtype).expand(len(weights), -1, -1)
            for spec in units.vectors:
                node = node + self.vectors[kind_index(spec)](units.values(spec, weights))
            nodes.append(node)
        return nodes

    def edges(self, weights: Tensor, plan: GraphPlan) -> list[Tensor]:
        """Make the features of edges.

        Args:
            weights: flat weight vectors, (B, D).
            plan: graph of the architecture, and codes of its edges.

        Returns:
            Features (B, O, I, H) of every tensor that joins two sets.
        """
        edges = []
        for one, depth in zip(plan.graph.edges, plan.edge_depths, strict=True):
            code = depth + self.kind.weight[kind_index(one.spec)]
            edges.append(self.pairs(one.values(weights, self.max_values)) + code)
        return edges


class GraphRound(nn.Module):
    """One round of messages."""

    def __init__(self, width: int, last: bool) -> None:
        """Make the layers of the round.

        Args:
            width: H, width of nodes and edges.
            last: whether this is the last round, which does not update edges.
        """
        super().__init__()
        self.edge = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)
        self.into = nn.Linear(width, width, bias=False)
        self.edge_update = None if last else nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.node_update = perceptron([3 * width, width, width])

    def forward(
        self, nodes: list[Tensor], edges: list[Tensor], graph: WeightGraph
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Send messages along the edges.

        Args:
            nodes: features (B, U, H) of every set of units.
            edges: features (B, O, I, H) of every tensor that joins two sets.
            graph: graph of the architecture.

        Returns:
            Updated nodes, updated edges, and the average message (B, H) of every such tensor.
        """
        read = [torch.zeros_like(node) for node in nodes]
        written = [torch.zeros_like(node) for node in nodes]
        outs, intos = [self.out(node) for node in nodes], [self.into(node) for node in nodes]
        updated, averages = [], []
        for one, edge in zip(graph.edges, edges, strict=True):
            message = self._message(one, edge, outs, intos)
            to_target = message.mean(dim=2)
            read[one.target] = read[one.target] + to_target
            written[one.source] = written[one.source] + message.mean(dim=1)
            averages.append(to_target.mean(dim=1))
            updated.append(edge if self.edge_update is None else edge + self.edge_update(message))
        nodes = [
            node + self.node_update(torch.cat([self.norm(node), one, other], dim=-1))
            for node, one, other in zip(nodes, read, written, strict=True)
        ]
        return nodes, updated, averages

    def _message(self, one: Edges, edge: Tensor, outs: list[Tensor], intos: list[Tensor]) -> Tensor:
        """Messages along the edges of one tensor, (B, O, I, H)."""
        ends = outs[one.target][:, :, None] + intos[one.source][:, None]
        return torch.relu(self.edge(edge) + ends)


class NeuralGraph(nn.Module):
    """Encoder of any architecture whose graph can be read from the layer table."""

    def __init__(
        self, width: int = 32, rounds: int = 3, max_kernel: int = 8, outputs: int = 1
    ) -> None:
        """Make an encoder.

        Args:
            width: H, width of nodes and edges.
            rounds: number of rounds of messages; a message passes one layer per round.
            max_kernel: largest side of a kernel, patch, or flattened image.
            outputs: number of predicted values.

        Raises:
            ValueError: if a size is below 1.
        """
        super().__init__()
        if min(width, rounds, max_kernel) < 1:
            raise ValueError(
                "width, rounds and max_kernel must be at least 1, "
                f"got {width!r}, {rounds!r} and {max_kernel!r}"
            )
        self.config: dict[str, Any] = {
            "width": width,
            "rounds": rounds,
            "max_kernel": max_kernel,
            "outputs": outputs,
        }
        self.input = GraphInput(width, max_kernel**2)
        self.rounds = nn.ModuleList(GraphRound(width, n == rounds - 1) for n in range(rounds))
        self.node_output = perceptron([width, width, width])
        self.edge_output = perceptron([width, width, width])
        self.head = normalized_perceptron([2 * width, 2 * width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode weights of one architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, 2 H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table gives no graph.
        """
        return self.encode(*self.planned(weights, layer_table))

    def planned(self, weights: Tensor, layer_table: LayerTable) -> tuple[Tensor, GraphPlan]:
        """Make the plan of the architecture, or take the one made before.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Arguments of `encode`.
        """
        check_weights(weights, layer_table)
        return weights, graph_plan(layer_table, self.config["width"], weights.device)

    def encode(self, weights: Tensor, plan: GraphPlan) -> Tensor:
        """Encode weights by a given plan.

        Args:
            weights: flat weight vectors, (B, D).
            plan: graph of the architecture, and codes of its sets and edges.

        Returns:
            Embeddings, (B, 2 H).
        """
        nodes, edges = self.input.nodes(weights, plan), self.input.edges(weights, plan)
        averages: list[Tensor] = []
        for one in self.rounds:
            nodes, edges, averages = one(nodes, edges, plan.graph)
        sets = torch.stack([node.mean(dim=1) for node in nodes], dim=1)
        of_nodes = self.node_output(sets).mean(dim=1)
        if not averages:  # the network has vectors only
            return torch.cat([of_nodes, torch.zeros_like(of_nodes)], dim=1)
        of_edges = self.edge_output(torch.stack(averages, dim=1)).mean(dim=1)
        return torch.cat([of_nodes, of_edges], dim=1)

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
