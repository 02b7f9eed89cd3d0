"""Sets of unequal size, arranged in few rectangles with little padding.

A rectangle is as wide as its largest set. Sets of equal size make a rectangle without padding and
without mask. Sizes share a rectangle where that adds at most `WORTH` elements, because each further
rectangle costs a pass of small operations. All padding together is less than the elements.

Shape letters: B models, R rows, M sets of a rectangle, S elements of its largest set, H width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

WORTH = 64  # elements that take about as long as the operations of one more rectangle

# Maps the sets (B * M, S, H) of a rectangle, their mask (B * M, S) or None, and the rectangle to
# vectors (B * M, H).
SetFunction = Callable[[Tensor, Tensor | None, "Rectangle"], Tensor]


@dataclass(frozen=True)
class Rectangle:
    """Sets of similar size.

    Attributes:
        sets: numbers of the sets, (M,).
        members: row numbers of the elements, (M, S); padding repeats a row.
        mask: mask of elements, (M, S), bool; None without padding.
    """

    sets: Tensor
    members: Tensor
    mask: Tensor | None

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gather rows (B, R, H) as sets (B * M, S, H) with their mask (B * M, S)."""
        sets, size = self.members.shape
        gathered = rows.index_select(1, self.members.flatten())
        mask = self.mask
        if mask is not None:
            mask = mask.expand(len(rows), sets, size).flatten(0, 1)
        return gathered.reshape(len(rows) * sets, size, rows.shape[-1]), mask


@dataclass(frozen=True)
class Ragged:
    """Grouping of a flat axis of rows into sets.

    Attributes:
        rectangles: rectangles that hold every set once.
        order: index of each set among the sets of all rectangles in succession.
    """

    rectangles: tuple[Rectangle, ...]
    order: Tensor

    @classmethod
    def of(cls, starts: Tensor, sizes: Tensor, device: torch.device) -> "Ragged":
        """Group consecutive rows into sets.

        Args:
            starts: first row of each set.
            sizes: number of rows of each set.
            device: device of the tensors.
        """
        rectangles = [
            _rectangle(
                torch.isin(sizes, torch.tensor(group)).nonzero()[:, 0], starts, sizes, device
            )
            for group in _groups(sizes)
        ]
        order = torch.cat([rectangle.sets for rectangle in rectangles]).argsort()
        return cls(tuple(rectangles), order)

    def map(self, rows: Tensor, function: SetFunction) -> Tensor:
        """Map every set to a vector.

        Args:
            rows: rows, (B, R, H).
            function: function of the sets of a rectangle.

        Returns:
            Vectors of the sets, (B, sets, H).
        """
        parts = []
        for rectangle in self.rectangles:
            sets, mask = rectangle.gather(rows)
            parts.append(function(sets, mask, rectangle).unflatten(0, (len(rows), -1)))
        return torch.cat(parts, dim=1).index_select(1, self.order)

    @property
    def padded_size(self) -> int:
        """Number of elements including padding, which determines memory and time."""
        return sum(rectangle.members.numel() for rectangle in self.rectangles)


def _groups(sizes: Tensor) -> list[list[int]]:
    """Distinct sizes, largest first, in the groups that share a rectangle."""
    distinct, counts = (found.flip(0).tolist() for found in sizes.unique(return_counts=True))
    groups, sets = [[size] for size in distinct], list(counts)
    room = int(sizes.sum()) - 1
    while len(groups) > 1:
        paddings = [
            sets[index + 1] * (groups[index][0] - groups[index + 1][0])
            for index in range(len(groups) - 1)
        ]
        least = min(range(len(paddings)), key=paddings.__getitem__)
        if paddings[least] > min(WORTH, room):
            break
        room -= paddings[least]
        groups[least] += groups.pop(least + 1)
        sets[least] += sets.pop(least + 1)
    return groups


def _rectangle(sets: Tensor, starts: Tensor, sizes: Tensor, device: torch.device) -> Rectangle:
    index = torch.arange(int(sizes[sets].max()))
    mask = index < sizes[sets, None]
    members = starts[sets, None] + index.where(mask, 0)
    return Rectangle(
        sets=sets.to(device),
        members=members.to(device),
        mask=None if bool(mask.all()) else mask.to(device),
    )
