"""Sets of unequal size, laid out in few rectangles so that little is padded.

Sets of similar size share a rectangle, whose largest set decides its width: sizes from one power
of two to the next. So padding less than doubles the elements, whatever the network, and a
rectangle of equal sets needs no mask.

Shape letters: B models, R rows, M sets of a rectangle, S elements of its largest set, H width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Sets (B * M, S, H) and their mask (B * M, S) or None, of a rectangle, to vectors (B * M, H).
SetFunction = Callable[[Tensor, Tensor | None, "Rectangle"], Tensor]


@dataclass(frozen=True)
class Rectangle:
    """Sets of similar size.

    Attributes:
        sets: (M,), which sets of all they are.
        members: (M, S), the row that stands in each place; a padded place repeats one.
        mask: (M, S), bool, True for an element and False for padding; None without padding.
    """

    sets: Tensor
    members: Tensor
    mask: Tensor | None

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows (B, R, H) as sets (B * M, S, H) with their mask (B * M, S)."""
        sets, size = self.members.shape
        gathered = rows.index_select(1, self.members.flatten())
        mask = self.mask
        if mask is not None:
            mask = mask.expand(len(rows), sets, size).flatten(0, 1)
        return gathered.reshape(len(rows) * sets, size, rows.shape[-1]), mask


@dataclass(frozen=True)
class Ragged:
    """How a flat axis of rows falls into sets.

    Attributes:
        rectangles: every set once.
        order: place of each set among the sets of all rectangles, one after the other.
    """

    rectangles: tuple[Rectangle, ...]
    order: Tensor

    @classmethod
    def of(cls, starts: Tensor, sizes: Tensor, device: torch.device) -> "Ragged":
        """Lay out sets of consecutive rows, by their first row and their size."""
        power = torch.log2(sizes.double()).ceil()
        rectangles = [
            _rectangle((power == one).nonzero()[:, 0], starts, sizes, device)
            for one in power.unique().flip(0)
        ]
        order = torch.cat([rectangle.sets for rectangle in rectangles]).argsort()
        return cls(tuple(rectangles), order)

    def map(self, rows: Tensor, function: SetFunction) -> Tensor:
        """Map every set of rows (B, R, H) to a vector: (B, sets, H)."""
        parts = []
        for rectangle in self.rectangles:
            sets, mask = rectangle.gather(rows)
            parts.append(function(sets, mask, rectangle).unflatten(0, (len(rows), -1)))
        return torch.cat(parts, dim=1).index_select(1, self.order)

    @property
    def padded_size(self) -> int:
        """Number of places, padded ones included: what memory and time go by."""
        return sum(rectangle.members.numel() for rectangle in self.rectangles)


def _rectangle(sets: Tensor, starts: Tensor, sizes: Tensor, device: torch.device) -> Rectangle:
    index = torch.arange(int(sizes[sets].max()))
    mask = index < sizes[sets, None]
    members = starts[sets, None] + index.where(mask, 0)
    return Rectangle(
        sets=sets.to(device),
        members=members.to(device),
        mask=None if bool(mask.all()) else mask.to(device),
    )
