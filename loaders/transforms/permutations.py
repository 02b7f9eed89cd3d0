"""Permutations of hidden units, which change the weights and keep the function.

`permutation_groups.py` finds the units that can be reordered together. This module reorders them
with one gather per tensor for the whole batch; each model has its own permutations.

Shape letters: B models in the batch, D length of the flat vector, G permutation groups, U units
of a group; O output units, I input units and K values per pair of them in a tensor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.devices import upload
from ...zoos.networks.layer_table import LayerTable, TensorSpec
from .permutation_groups import SIDES, PermutationGroup, hidden_groups


@dataclass(frozen=True)
class UnitBlock:
    """A tensor as (O, I, K), and the groups of its units.

    Attributes:
        offset: offset of the tensor in the flat vector.
        shape: (O, I, K); O or I is 1 if that side has no group.
        out: index of the group of the output units, or None.
        into: index of the group of the input units, or None.
    """

    offset: int
    shape: tuple[int, int, int]
    out: int | None
    into: int | None

    def view(self, weights: Tensor) -> Tensor:
        """View the tensor in flat rows (B, D) as (B, O, I, K)."""
        outputs, inputs, values = self.shape
        size = outputs * inputs * values
        return weights[:, self.offset : self.offset + size].unflatten(1, self.shape)


class HiddenPermutations:
    """Reorders the hidden units of batches of flat weights.

    The permutations of a batch are a list with one tensor (B, U), int64, per group. Unit u of the
    result is unit `permutation[:, u]` of the weights. Permutations of a group with heads must
    reorder heads as wholes, and the groups of one attention must reorder heads alike; `apply` does
    not check this.

    Attributes:
        layer_table: layer table of the architecture.
        groups: G permutation groups.
        families: indices of groups that are drawn and aligned together: the two groups of an
            attention; every other group alone.
        blocks: tensors in the order of the layer table.

    Example:
        >>> import torch
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import HiddenPermutations
        >>> train = load_zoo(ZOO, split="train")
        >>> hidden = HiddenPermutations.of(train.header.architecture)
        >>> [group.units for group in hidden.groups]
        [2, 4]
        >>> drawn = hidden.random_permutations(torch.Generator().manual_seed(0), len(train))
        >>> hidden.apply(train.weights(), drawn).shape
        torch.Size([6, 71])
    """

    def __init__(self, layer_table: LayerTable, groups: Sequence[PermutationGroup]) -> None:
        """Make the plan; `of` makes it from an architecture.

        Args:
            layer_table: layer table of the architecture.
            groups: units that can be reordered together, with their axes.

        Raises:
            ValueError: if an axis names no tensor, belongs to two groups, or does not fit its
                tensor, or groups of one name differ in heads.
        """
        self.layer_table, self.groups = layer_table, tuple(groups)
        self.families = _families(self.groups)
        self.blocks = _blocks(layer_table, self.groups)

    @classmethod
    def of(cls, architecture: Architecture) -> "HiddenPermutations":
        """Make the function-preserving permutations of an architecture."""
        return cls(architecture.layer_table(), hidden_groups(architecture))

    def random_permutations(self, generator: torch.Generator, models: int) -> list[Tensor]:
        """Draw uniform permutations.

        Args:
            generator: random generator; the permutations are on its device.
            models: B, number of models.

        Returns:
            G permutations, (B, U) each, int64.
        """
        drawn: dict[int, Tensor] = {}
        for family in self.families:
            heads = self.groups[family[0]].heads
            order = _shuffled(generator, models, heads)[..., None]
            for group in family:
                size = self.groups[group].units // heads
                within = _shuffled(generator, models, heads, size)
                drawn[group] = (order * size + within).flatten(1)
        return [drawn[group] for group in range(len(self.groups))]

    def identity(self, models: int, device: torch.device | str = "cpu") -> list[Tensor]:
        """Make permutations that keep the order.

        Args:
            models: B, number of models.
            device: device of the permutations.

        Returns:
            G permutations, (B, U) each, int64.
        """
        return [torch.arange(group.units, device=device).repeat(models, 1) for group in self.groups]

    def apply(self, weights: Tensor, permutations: Sequence[Tensor]) -> Tensor:
        """Reorder hidden units.

        Args:
            weights: flat weights, (B, D).
            permutations: G permutations, (B, U) each, on any device.

        Returns:
            Reordered weights, (B, D), in new memory.

        Raises:
            ValueError: if weights or permutations have another shape.
        """
        wanted = [(len(weights), group.units) for group in self.groups]
        given = [tuple(permutation.shape) for permutation in permutations]
        if weights.ndim != 2 or weights.shape[1] != self.layer_table.width:
            raise ValueError(
                f"weights must have shape (B, {self.layer_table.width}), got {tuple(weights.shape)}"
            )
        if given != wanted:
            raise ValueError(f"permutations must have shapes {wanted}, got {given}")
        return self.apply_some(weights, dict(enumerate(permutations)))

    def apply_some(self, weights: Tensor, permutations: Mapping[int, Tensor]) -> Tensor:
        """Reorder the units of some groups.

        Args:
            weights: flat weights, (B, D).
            permutations: permutations (B, U) by index of the group.

        Returns:
            Reordered weights, (B, D), in new memory.
        """
        moves: dict[int | None, Tensor] = {
            group: upload(order, weights.device) for group, order in permutations.items()
        }
        parts = [self._reordered(block, block.view(weights), moves) for block in self.blocks]
        return torch.cat(parts, dim=1)

    def _reordered(
        self, block: UnitBlock, units: Tensor, moves: Mapping[int | None, Tensor]
    ) -> Tensor:
        """Reorder units (B, O, I, K) with one gather of runs of K values; the result is flat."""
        if block.out not in moves and block.into not in moves:
            return units.flatten(1)
        outputs, inputs, values = block.shape
        out = moves.get(block.out, torch.arange(outputs, device=units.device)[None])
        into = moves.get(block.into, torch.arange(inputs, device=units.device)[None])
        models = torch.arange(len(units), device=units.device)[:, None, None]
        runs = (models * outputs + out[:, :, None]) * inputs + into[:, None]  # (B, O, I)
        return (
            units.reshape(-1, values)
            .index_select(0, runs.flatten())
            .view(len(units), outputs * inputs * values)
        )


def inverse_permutations(permutations: Sequence[Tensor]) -> list[Tensor]:
    """Invert permutations (B, U)."""
    return [permutation.argsort(1) for permutation in permutations]


def _shuffled(generator: torch.Generator, *size: int) -> Tensor:
    """Uniform random orders along the last dimension."""
    return torch.rand(*size, generator=generator, device=generator.device).argsort(-1)


def _families(groups: Sequence[PermutationGroup]) -> tuple[tuple[int, ...], ...]:
    """Join groups with heads by the name of their layer; other groups stay alone."""
    found = dict[object, list[int]]()
    for index, group in enumerate(groups):
        if group.units % group.heads:
            raise ValueError(
                f"{group.heads} heads do not divide the {group.units} units of {group}"
            )
        found.setdefault(group.layer if group.heads > 1 else index, []).append(index)
    for family in found.values():
        if len({groups[index].heads for index in family}) > 1:
            raise ValueError(f"groups of {groups[family[0]].layer!r} differ in their heads")
    return tuple(map(tuple, found.values()))


def _blocks(layer_table: LayerTable, groups: Sequence[PermutationGroup]) -> tuple[UnitBlock, ...]:
    """Tensors with their groups."""
    group_of = dict[tuple[str, str], int]()
    for index, group in enumerate(groups):
        for axis in group.axes:
            if axis.side not in SIDES or (axis.tensor, axis.side) in group_of:
                raise ValueError(f"{axis} is in two groups, or its side is not one of {SIDES}")
            group_of[axis.tensor, axis.side] = index
    if unknown := {name for name, _ in group_of} - {spec.name for spec in layer_table}:
        raise ValueError(
            f"permutation groups name tensors that the layer table lacks: {sorted(unknown)}"
        )
    return tuple(
        _block(spec, groups, group_of.get((spec.name, "out")), group_of.get((spec.name, "in")))
        for spec in layer_table
    )


def _block(
    spec: TensorSpec, groups: Sequence[PermutationGroup], out: int | None, into: int | None
) -> UnitBlock:
    """Lay out a tensor by units; a tensor with output units only may have several values each."""
    rows = spec.shape[0] if spec.shape and (out is not None or into is not None) else 1
    outputs = groups[out].units if out is not None and into is None else rows
    inputs = 1 if into is None else groups[into].units
    fits = out is None or outputs == groups[out].units and rows % outputs == 0
    if not fits or spec.size % (outputs * inputs):
        raise ValueError(f"{spec.name} of shape {spec.shape} does not fit the sizes of its groups")
    return UnitBlock(spec.offset, (outputs, inputs, spec.size // (outputs * inputs)), out, into)
