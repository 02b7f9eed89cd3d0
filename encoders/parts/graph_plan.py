"""Plans of the encoders of graphs: the graph of an architecture and the codes of its sets.

The codes depend on the layer table alone. They are made once and stay on the device, because each
would be copied there in every call.

Shape letters: U units of a set, H width, K values per pair of units.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable
from .blocks import encoding
from .weight_graph import CACHED_TABLES, WeightGraph, unit_numbers, value_places, weight_graph

DEPTH, NUMBER = range(2)  # indices of the encodings, each with its own start


@dataclass(frozen=True)
class GraphPlan:
    """Graph of one architecture with the codes of its sets and edges.

    Attributes:
        graph: the graph.
        set_depths: encoding of the depth of every set, each (1, H).
        numbers: encodings of the numbers of the units of every set, each (U, H).
        edge_depths: encoding of the depth of every tensor that joins two sets, each (1, H).
    """

    graph: WeightGraph
    set_depths: tuple[Tensor, ...]
    numbers: tuple[Tensor, ...]
    edge_depths: tuple[Tensor, ...]


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # a plan made in prediction can be reused in training
def graph_plan(layer_table: LayerTable, width: int, device: torch.device) -> GraphPlan:
    """Read the graph of an architecture and encode depths and numbers.

    Args:
        layer_table: layer table of the architecture.
        width: H, width of the codes.
        device: device of the codes.

    Raises:
        UnsuitableError: if the table gives no graph.
    """
    graph = weight_graph(layer_table)

    def depth_code(depth: int) -> Tensor:
        return encoding(torch.tensor([depth], device=device), width, DEPTH)

    return GraphPlan(
        graph=graph,
        set_depths=tuple(depth_code(depth) for depth in range(len(graph.sets))),
        numbers=tuple(encoding(unit_numbers(one, device), width, NUMBER) for one in graph.sets),
        edge_depths=tuple(depth_code(one.spec.depth) for one in graph.edges),
    )


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)
def edge_places(
    layer_table: LayerTable, max_values: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Places of the values of all tensors that join two sets, each (K,), see `value_places`.

    Args:
        layer_table: layer table of the architecture.
        max_values: largest number of values per pair of units.
        device: device of the places.

    Raises:
        UnsuitableError: if the table gives no graph, or a pair of units has more values.
    """
    edges = weight_graph(layer_table).edges
    return tuple(value_places(one, max_values).to(device) for one in edges)
