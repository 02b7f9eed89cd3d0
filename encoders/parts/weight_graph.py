"""Networks as graphs: units are nodes, the weights between two sets of units are edges.

The graph is read from the layer table alone, tensor by tensor, input to output:

- A convolutional, linear or attention weight joins the set of units that it reads, the latest set
  that fits, with a new set. A weight that can read only an earlier set is a shortcut, and adds to
  the latest set if that has as many units as it outputs.
- The joint input projection of an attention has three values per pair: query, key and value.
  Separate layers named query, key and value read the same set. Queries and keys make one set,
  because their units are compared in pairs; values make the next set.
- Other tensors of two or more dimensions, such as a position embedding, join a set of their
  positions with the units of the latest set as wide as their last dimension.
- Biases, norms and other vectors are features of the latest set as large as they are.

The graph lacks what the table does not show: sums without weights, as around a residual block, and
the grouping of attention heads.

Shape letters: B models, D length of the flat vector, U units of a set, O and I units of the sets
that edges join, K values per pair, F features of a unit.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import KINDS, LayerTable, TensorSpec
from .parameters import parameter_tensors

VECTOR_VALUES = 3  # largest number of vector values per unit: query, key and value
JOINING = ("conv", "linear", "attention")
CACHED_TABLES = 32


@dataclass
class UnitSet:
    """Units that can be reordered among themselves, unless they are numbered.

    Attributes:
        units: U, number of units.
        numbered: whether units are identified by their number, as inputs, outputs and positions.
        vectors: tensors with one to three values per unit.
    """

    units: int
    numbered: bool = False
    vectors: list[TensorSpec] = field(default_factory=list)

    def values(self, spec: TensorSpec, weights: Tensor) -> Tensor:
        """Read one of the vectors.

        Args:
            spec: entry of the vector in the layer table.
            weights: flat weight vectors, (B, D).

        Returns:
            Values, (B, U, 3), padded with zeros.
        """
        part = weights[:, spec.offset : spec.offset + spec.size]
        per_unit = part.unflatten(1, (-1, self.units)).transpose(1, 2)
        return F.pad(per_unit, (0, VECTOR_VALUES - per_unit.shape[-1]))


@dataclass(frozen=True)
class Edges:
    """All edges from one set of units to another.

    Attributes:
        spec: entry of the weight tensor in the layer table.
        source: index of the set that the weight reads.
        target: index of the set that the weight outputs.
        shape: (O, I, K).
        layout: order of dimensions: "pairs" (O, I, K), "projections" (K, O, I), "positions" (I, O).
    """

    spec: TensorSpec
    source: int
    target: int
    shape: tuple[int, int, int]
    layout: str

    def values(self, weights: Tensor, most: int) -> Tensor:
        """Read the weight tensor.

        Args:
            weights: flat weight vectors, (B, D).
            most: largest number of values per pair of units.

        Returns:
            Values, (B, O, I, most); kernels are padded on all sides.
        """
        part = weights[:, self.spec.offset : self.spec.offset + self.spec.size]
        outputs, inputs, values = self.shape
        if self.layout == "positions":
            part = part.unflatten(1, (inputs, outputs, 1)).transpose(1, 2)
        elif self.layout == "projections":
            part = part.unflatten(1, (values, outputs, inputs)).permute(0, 2, 3, 1)
        else:
            part = part.unflatten(1, self.shape)
        return _middle(part, self.spec, most)


@dataclass(frozen=True)
class WeightGraph:
    """Graph of one architecture.

    Attributes:
        sets: sets of units, which are the nodes.
        edges: tensors that join two sets.
    """

    sets: tuple[UnitSet, ...]
    edges: tuple[Edges, ...]


@lru_cache(maxsize=CACHED_TABLES)
def weight_graph(layer_table: LayerTable) -> WeightGraph:
    """Read the graph of an architecture.

    Raises:
        ValueError: if no earlier set of units fits the inputs of a weight.
    """
    builder = _Builder()
    for spec in sorted(parameter_tensors(layer_table), key=lambda spec: spec.depth):
        if spec.role == "weight" and spec.kind in JOINING and len(spec.shape) > 1:
            builder.add_weight(spec)
        elif len(spec.shape) > 1 and spec.kind not in ("norm", "attention"):
            builder.add_positions(spec)
        else:
            builder.add_vector(spec)
    if builder.readable:
        builder.sets[builder.readable[-1]].numbered = True  # the network's outputs
    return WeightGraph(tuple(builder.sets), tuple(builder.edges))


class _Builder:
    """The sets and edges found so far."""

    def __init__(self) -> None:
        self.sets: list[UnitSet] = []
        self.edges: list[Edges] = []
        self.readable: list[int] = []  # sets that weights can read, input to output
        self.awaited: dict[
            int, int
        ] = {}  # sets with positions but without a weight yet, by number of units
        self.of_layer: dict[str, int] = {}
        self.queries: dict[str, Edges] = {}  # by name of the attention

    def add_weight(self, spec: TensorSpec) -> None:
        """Join the set that the weight reads with the set that it outputs."""
        attention, _, name = spec.layer.rpartition(".")
        query = self.queries.get(attention) if name in ("key", "value") else None
        source = self._source(spec) if query is None else query.source
        inputs, latest = self.sets[source].units, self.readable[-1]
        projections = 3 if spec.kind == "attention" and spec.shape[0] == 3 * spec.shape[1] else 1
        outputs = spec.shape[0] // projections
        values = projections * math.prod(spec.shape[1:]) // inputs
        if query is not None and name == "key":
            target = query.target
        elif query is None and source != latest and self.sets[latest].units == outputs:
            target = latest
        else:
            awaited = outputs in self.awaited
            target = self.awaited.pop(outputs) if awaited else self._new(UnitSet(outputs))
            self.readable.append(target)
        layout = "pairs" if projections == 1 else "projections"
        edges = Edges(spec, source, target, (outputs, inputs, values), layout)
        self.edges.append(edges)
        self.of_layer[spec.layer] = target
        if spec.kind == "attention" and name == "query":
            self.queries[attention] = edges

    def add_positions(self, spec: TensorSpec) -> None:
        """Join numbered positions with the units that they are added to.

        A table that is looked up before any weight makes these units, which weights then read.
        """
        positions, units = spec.size // spec.shape[-1], spec.shape[-1]
        source = self._new(UnitSet(positions, numbered=True))
        target = self._latest(units)
        if target is None and spec.name.endswith(".weight"):
            target = self._new(UnitSet(units))
            self.readable.append(target)
        elif target is None:
            target = self.awaited[units] = self._new(UnitSet(units))
        self.edges.append(Edges(spec, source, target, (units, positions, 1), "positions"))

    def add_vector(self, spec: TensorSpec) -> None:
        """Add values to the units of the layer's own set, or of the latest set as large."""
        index = self.of_layer.get(spec.layer, self._latest(spec.size))
        if index is None:
            index = self._new(UnitSet(spec.size))
        units = self.sets[index].units
        if spec.size % units or spec.size > VECTOR_VALUES * units:
            raise UnsuitableError(
                f"NeuralGraph takes one to {VECTOR_VALUES} values per unit, but {spec.name!r} has "
                f"{spec.size} values for {units} units: use SNE or DeepSets"
            )
        self.sets[index].vectors.append(spec)

    def _source(self, spec: TensorSpec) -> int:
        """Index of the latest set that the weight can read; the first weight makes its own set."""
        wanted, blocks = spec.shape[1], spec.kind == "linear"
        if not self.readable:
            self.readable.append(self._new(UnitSet(wanted, numbered=True)))
        recent = self.readable[::-1]
        exact = [index for index in recent if self.sets[index].units == wanted]
        whole = [index for index in recent if blocks and wanted % self.sets[index].units == 0]
        if recent[0] in exact + whole:
            return recent[0]
        if exact or whole:
            return (exact or whole)[0]
        raise UnsuitableError(
            f"NeuralGraph: {spec.name!r} of shape {spec.shape} reads {wanted} units, but no layer "
            "before it has so many (grouped convolutions are not supported): use SNE or DeepSets"
        )

    def _latest(self, units: int) -> int | None:
        """Index of the latest set with this number of units; sets of weights take precedence."""
        candidates = [*self.awaited.values(), *self.readable]
        return next((one for one in candidates[::-1] if self.sets[one].units == units), None)

    def _new(self, units: UnitSet) -> int:
        self.sets.append(units)
        return len(self.sets) - 1


def _middle(pairs: Tensor, spec: TensorSpec, most: int) -> Tensor:
    """Pad (B, O, I, K) to (B, O, I, most); kernels are in the middle of the largest square."""
    values = pairs.shape[-1]
    if values > most:
        raise UnsuitableError(
            f"NeuralGraph was made for at most {most} values per pair of units, but "
            f"{spec.name!r} has {values}: make it with a larger max_kernel"
        )
    side, kernel = math.isqrt(most), spec.shape[2:]
    if spec.kind != "conv" or len(kernel) != 2 or max(kernel) > side:
        return F.pad(pairs, (0, most - values))
    height, width = kernel
    top, left = (side - height) // 2, (side - width) // 2
    image = F.pad(
        pairs.unflatten(-1, kernel), (left, side - width - left, top, side - height - top)
    )
    return F.pad(image.flatten(-2), (0, most - side * side))


@lru_cache(maxsize=CACHED_TABLES)
def value_places(edges: Edges, most: int) -> Tensor:
    """Places (K,) of the values of a pair of units among `most`, where `Edges.values` pads them.

    Args:
        edges: edges of one tensor.
        most: largest number of values per pair of units.

    Raises:
        UnsuitableError: if a pair has more values.
    """
    values = torch.arange(1, edges.shape[2] + 1).view(1, 1, 1, -1)
    return _middle(values, edges.spec, most).flatten().nonzero()[:, 0]


def kind_index(spec: TensorSpec) -> int:
    """Return the number of a tensor's kind and role, below 2 * len(KINDS)."""
    return 2 * KINDS.index(spec.kind) + (spec.role == "bias")


def unit_numbers(units: UnitSet, device: torch.device) -> Tensor:
    """Number the units of a set.

    Args:
        units: set of units.
        device: device of the result.

    Returns:
        0, 1, 2, ... for numbered units, 0 for all others, (U,), int64.
    """
    positions = torch.arange(units.units, device=device)
    return positions if units.numbered else torch.zeros_like(positions)
