"""ScaleGMN: message passing that keeps the factors which leave a network's function unchanged.

Source: Kalogeropoulos et al. 2024, "Scale Equivariant Graph Metanetworks", arXiv:2406.10685. Hidden
units of ReLU networks may be scaled by q > 0, those of tanh and sine networks flipped
(`parts/unit_symmetries.py`). The features of a hidden unit scale with it, h_o -> q_o h_o, and those
of a weight with both ends, e_oi -> q_o e_oi / q_i. Every map keeps this (G linear without bias):

    Eq(x) = G x * (1 + MLP(c(x)))        c(x) = x / |x| for scales, |x| by component for signs
    m_o   = sum_i G e_oi * G h_i         h_o  <- h_o + Eq(h_o, m_o)
    e_oi  <- e_oi + G e_oi * MLP(c(h_o), c(h_i))

Only MLPs of c(h) are read out, which factors do not change. Units without a symmetry, such as
inputs, outputs, and all units of sigmoid networks, have c(x) = asinh(x) and Eq(x) = MLP(c(x)).
Biases of sine layers lose whole and half turns first. This is the forward variant of the paper,
where messages go from inputs to outputs; its bidirectional variant needs reciprocals of weights,
which are unstable for scales.

Differs: Eq is applied to the sum of messages, where the paper also applies it to every message; 1 +
MLP in place of MLP keeps the size of features over rounds; the graph is read from the layer table
by `parts/weight_graph.py`; layers share the parameters of a round, and codes give kind and depth,
as factors where units have a symmetry; the output averages over units and sets. Weights are read as
stored, since other scalings would break the symmetry. A batch is split by activation function.

Shape letters: B networks, D length of the flat vector, U units of a set, O and I units of the sets
that edges join, H width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.batched import NetworkBatch
from ..zoos.networks.devices import upload
from ..zoos.networks.layer_table import KINDS, LayerTable
from .parts.blocks import normalized_perceptron, perceptron
from .parts.graph_plan import GraphPlan, graph_plan
from .parts.scale_equivariant import EdgeUpdate, Equivariant, bare_linear
from .parts.unit_symmetries import (
    LARGEST,
    NONE,
    canonical,
    canonical_phases,
    set_symmetries,
)
from .parts.weight_graph import VECTOR_VALUES, WeightGraph, kind_index

Groups = tuple[tuple[tuple[int, ...], int], ...]  # symmetries and number of networks
LARGEST_WEIGHT = 1e9  # of diverged networks; products over layers must stay finite


class ScaleInput(nn.Module):
    """Maps weights to the first features of units and edges, without an additive constant."""

    def __init__(self, width: int, max_values: int) -> None:
        """Make the linear layers, and the codes of kinds and depths.

        Args:
            width: H, width of units and edges.
            max_values: largest number of values per pair of units.
        """
        super().__init__()
        self.width, self.max_values = width, max_values
        self.vectors = nn.ModuleList(
            bare_linear(VECTOR_VALUES, width) for _ in range(2 * len(KINDS))
        )
        self.pairs = bare_linear(
            max_values, width, std=1.0
        )  # divided by the number of values later
        self.kind = nn.Embedding(2 * len(KINDS), width)
        self.depth = bare_linear(width, width)

    def units(self, weights: Tensor, plan: GraphPlan, symmetries: tuple[int, ...]) -> list[Tensor]:
        """Make the features (B, U, H) of every set of units.

        Args:
            weights: flat weights, (B, D).
            plan: graph of the architecture, and codes of its sets.
            symmetries: symmetry of every set.
        """
        made, codes = [], zip(plan.set_depths, plan.numbers, strict=True)
        for units, symmetry, (depth, numbers) in zip(
            plan.graph.sets, symmetries, codes, strict=True
        ):
            code = self.depth(depth.to(weights))
            values = weights.new_zeros(len(weights), units.units, self.width)
            for spec in units.vectors:
                values = values + self.vectors[kind_index(spec)](units.values(spec, weights))
            if symmetry == NONE:
                made.append(values + code + numbers.to(weights))
            else:
                made.append(values * (1 + code))
        return made

    def edges(self, weights: Tensor, plan: GraphPlan) -> list[Tensor]:
        """Make the features (B, O, I, H) of every tensor that joins two sets.

        Args:
            weights: flat weights, (B, D).
            plan: graph of the architecture, and codes of its edges.
        """
        made = []
        for one, depth in zip(plan.graph.edges, plan.edge_depths, strict=True):
            code = 1 + self.depth(depth.to(weights)) + self.kind.weight[kind_index(one.spec)]
            pairs = self.pairs(one.values(weights, self.max_values))
            made.append(pairs * code / one.shape[2] ** 0.5)
        return made


class ScaleRound(nn.Module):
    """One round of messages from inputs towards outputs."""

    def __init__(self, width: int, last: bool) -> None:
        """Make the layers of the round.

        Args:
            width: H, width of units and edges.
            last: whether this is the last round, which does not update edges.
        """
        super().__init__()
        self.edge, self.read = bare_linear(width, width), bare_linear(width, width)
        self.update = Equivariant(2 * width, width)
        self.edge_update = None if last else EdgeUpdate(width)

    def forward(
        self,
        units: list[Tensor],
        edges: list[Tensor],
        graph: WeightGraph,
        symmetries: tuple[int, ...],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Send messages along the edges; return the updated units and edges.

        Args:
            units: features (B, U, H) of every set of units.
            edges: features (B, O, I, H) of every tensor that joins two sets.
            graph: graph of the architecture.
            symmetries: symmetry of every set.
        """
        messages = [torch.zeros_like(one) for one in units]
        updated: list[Tensor] = []  # `list[Tensor]()` would end a compiled graph
        seen = [canonical(one, symmetry) for one, symmetry in zip(units, symmetries, strict=True)]
        for one, edge in zip(graph.edges, edges, strict=True):
            read = self.read(units[one.source])
            sent = torch.einsum("boih,bih->boh", self.edge(edge), read)
            messages[one.target] = messages[one.target] + sent
            ends = seen[one.target], seen[one.source]
            updated.append(edge if self.edge_update is None else self.edge_update(edge, *ends))
        both = zip(units, messages, symmetries, strict=True)
        changed = [
            (own + self.update(torch.cat([own, sent], -1), symmetry)).clamp(-LARGEST, LARGEST)
            for own, sent, symmetry in both
        ]
        return changed, updated


class ScaleGMN(nn.Module):
    """Encoder of any architecture that weightzoo runs and whose graph the layer table gives.

    Example:
        >>> import torch
        >>> from weightzoo.encoders.scale_gmn import ScaleGMN
        >>> from weightzoo.zoos.networks.batched import NetworkBatch
        >>> from weightzoo.zoos.networks.presets import preset
        >>> cnn = preset("cnn-s")
        >>> weights = torch.randn(2, cnn.layer_table().width)
        >>> networks = NetworkBatch(cnn, ("relu", "tanh"), weights)
        >>> ScaleGMN(width=8).embed(networks, cnn.layer_table()).shape
        torch.Size([2, 16])
    """

    reads = "networks"

    def __init__(
        self, width: int = 32, rounds: int = 4, max_kernel: int = 8, outputs: int = 1
    ) -> None:
        """Make an encoder.

        Args:
            width: H, width of units and edges.
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
        self.input = ScaleInput(width, max_kernel**2)
        self.rounds = nn.ModuleList(ScaleRound(width, n == rounds - 1) for n in range(rounds))
        self.unit_output = perceptron([width, width, width])
        self.head = normalized_perceptron([2 * width, 2 * width, outputs])

    def embed(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Encode networks of one architecture.

        Args:
            networks: networks, with their activation functions.
            layer_table: layer table of their architecture.

        Returns:
            Embeddings, (B, 2 H): of the output units, and of the average set of units.

        Raises:
            UnsuitableError: if the table gives no graph.
        """
        return self.encode(*self.planned(networks, layer_table))

    def planned(
        self, networks: NetworkBatch, layer_table: LayerTable
    ) -> tuple[Tensor, GraphPlan, Groups, Tensor | None]:
        """Group networks by the symmetries of their units, and make or take the plan.

        Args:
            networks: networks, with their activation functions.
            layer_table: layer table of their architecture.

        Returns:
            Arguments of `encode`. Weights have the phases of sine units in one turn.
        """
        architecture = networks.architecture
        plan = graph_plan(layer_table, self.config["width"], networks.weights.device)
        weights = networks.weights.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
        weights = canonical_phases(weights, architecture, layer_table)
        names = set(networks.activations)
        known = {name: set_symmetries(plan.graph, architecture, name) for name in names}
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, name in enumerate(networks.activations):
            groups.setdefault(known[name], []).append(row)
        sizes = tuple((kinds, len(rows)) for kinds, rows in groups.items())
        order = [row for rows in groups.values() for row in rows]
        on_device = upload(torch.tensor(order), weights.device) if len(groups) > 1 else None
        return weights, plan, sizes, on_device

    def encode(
        self, weights: Tensor, plan: GraphPlan, groups: Groups, order: Tensor | None
    ) -> Tensor:
        """Encode networks by a given plan.

        Args:
            weights: flat weights, (B, D).
            plan: graph of the architecture, and codes of its sets and edges.
            groups: symmetries of all sets of units, and the number of networks that have them.
            order: rows of the networks, group by group, (B,); None for a single group.

        Returns:
            Embeddings, (B, 2 H).
        """
        if order is None:
            return self._embed(weights, plan, groups[0][0])
        parts = weights[order].split([count for _, count in groups])
        both = zip(parts, groups, strict=True)
        embedded = [self._embed(part, plan, symmetries) for part, (symmetries, _) in both]
        return torch.cat(embedded)[order.argsort()]

    def _embed(self, weights: Tensor, plan: GraphPlan, symmetries: tuple[int, ...]) -> Tensor:
        """Embeddings (B, 2 H) of networks whose units have the same symmetries."""
        graph = plan.graph
        units = self.input.units(weights, plan, symmetries)
        edges = self.input.edges(weights, plan)
        for one in self.rounds:
            units, edges = one(units, edges, graph, symmetries)
        both = zip(units, symmetries, strict=True)
        sets = [self.unit_output(canonical(one, symmetry)).mean(1) for one, symmetry in both]
        last = graph.edges[-1].target if graph.edges else -1
        return torch.cat([sets[last], torch.stack(sets, 1).mean(1)], dim=1)

    def forward(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Predict from networks.

        In training mode the batch norm of the head needs at least two models.

        Args:
            networks: networks, with their activation functions.
            layer_table: layer table of their architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(networks, layer_table))
