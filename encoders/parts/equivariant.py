"""All linear maps between weight tensors that commute with reorderings of units.

Source: the NF-layers of NFN (neural functional networks, Zhou et al. 2023, arXiv:2302.14040,
section 2) and the DWS layers of DWSNets (deep weight-space networks, Navon et al. 2023,
arXiv:2301.12780, section 5) are these maps. A tensor has one axis for each set of units that it
joins. A linear map between two tensors that commutes with every reordering has one term for each
subset K of their common axes: average the source over its other axes, mix channels, and repeat the
result along the other axes of the target. A target with axes A therefore sums, over every subset K
of A, one linear layer of the averages of all tensors that have the axes K.

Differs: averages in place of sums, so that wide layers give no large values.

Shape letters: B models, C channels; a tensor is (B, units of axis 1, units of axis 2, ..., C).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """Axes and channels of one tensor in the weight space of a network.

    Attributes:
        axes: numbers of the sets of units along its axes, each at most once.
        channels: C, number of channels of every entry.
    """

    axes: Axes
    channels: int


class EquivariantLinear(nn.Module):
    """One equivariant linear layer with bias between two weight spaces of equal axes."""

    def __init__(self, slots: Sequence[Slot], channels: Sequence[int]) -> None:
        """Make the layer.

        Args:
            slots: slots of the input.
            channels: number of output channels of each slot.
        """
        super().__init__()
        self.slots = tuple(slots)
        self.mixers = nn.ModuleList()
        for slot, out in zip(slots, channels, strict=True):
            mixers = nn.ModuleDict()
            for kept in _subsets(slot.axes):
                width = sum(other.channels for other in self._holders(kept))
                mixers[_key(kept)] = nn.Linear(width, out, bias=not kept)
            self.mixers.append(mixers)

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Map one tensor per slot to one tensor per slot, with the same axes."""
        kept_axes = {kept for slot in self.slots for kept in _subsets(slot.axes)}
        averages = {kept: self._averages(kept, tensors) for kept in kept_axes}
        outputs = []
        for slot, mixers in zip(self.slots, self.mixers, strict=True):
            assert isinstance(mixers, nn.ModuleDict)
            parts = [
                _repeat(mixers[_key(kept)](averages[kept]), kept, slot.axes)
                for kept in _subsets(slot.axes)
            ]
            outputs.append(sum(parts[1:], parts[0]))
        return outputs

    def _averages(self, kept: Axes, tensors: Sequence[Tensor]) -> Tensor:
        """Average all tensors with the axes `kept` over their other axes, and join channels."""
        holders = [
            _average(tensor, slot.axes, kept)
            for slot, tensor in zip(self.slots, tensors, strict=True)
            if set(kept) <= set(slot.axes)
        ]
        return torch.cat(holders, dim=-1)

    def _holders(self, kept: Axes) -> list[Slot]:
        return [slot for slot in self.slots if set(kept) <= set(slot.axes)]


class EquivariantNetwork(nn.Module):
    """Equivariant linear layers with ReLU, and averages of their output."""

    def __init__(self, slots: Sequence[Slot], channels: Sequence[Sequence[int]]) -> None:
        """Make the layers.

        Args:
            slots: slots of the input.
            channels: number of output channels of each slot, for each layer.
        """
        super().__init__()
        self.slots = tuple(slots)
        self.layers = nn.ModuleList()
        for out in channels:
            self.layers.append(EquivariantLinear(slots, out))
            slots = [Slot(slot.axes, width) for slot, width in zip(slots, out, strict=True)]
        self.width = sum(slot.channels for slot in slots)

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Map one tensor per slot to an invariant vector (B, width)."""
        for layer in self.layers:
            tensors = [torch.relu(tensor) for tensor in layer(tensors)]
        return torch.cat(
            [_average(x, slot.axes, ()) for slot, x in zip(self.slots, tensors, strict=True)],
            dim=-1,
        )


def _average(tensor: Tensor, axes: Axes, kept: Axes) -> Tensor:
    """Average (B, *axes, C) over the axes that are not kept; the result has the order of `kept`."""
    dims = [1 + index for index, axis in enumerate(axes) if axis not in kept]
    tensor = tensor.mean(dim=dims) if dims else tensor
    left = [axis for axis in axes if axis in kept]
    return tensor.permute(0, *(1 + left.index(axis) for axis in kept), len(kept) + 1)


def _repeat(tensor: Tensor, kept: Axes, axes: Axes) -> Tensor:
    """Give (B, *kept, C) an axis of length 1 for each of `axes` that was not kept."""
    for index, axis in enumerate(axes):
        if axis not in kept:
            tensor = tensor.unsqueeze(1 + index)
    return tensor


def _subsets(axes: Axes) -> list[Axes]:
    """All subsets, the full set first, so that sums start with the full shape."""
    return [
        kept for size in range(len(axes), -1, -1) for kept in itertools.combinations(axes, size)
    ]


def _key(kept: Axes) -> str:
    return "mean" if not kept else "axes_" + "_".join(map(str, kept))
