"""The rows of a batch that this process computes; the other processes compute the others.

Shape letters: B rows of this process, R rows of all processes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...loaders.batching.device import rank_and_world

Change = Callable[[Tensor, torch.Generator, Tensor | None], Tensor]


@dataclass(frozen=True)
class BatchShare:
    """A run of rows of a batch.

    Random draws are made for the whole batch in every process, which then takes its own rows, so
    that the generators of the processes stay equal.

    Attributes:
        start: first row.
        stop: one past the last row.
        total: R, rows of the batch.
    """

    start: int
    stop: int
    total: int

    @classmethod
    def of(cls, total: int) -> "BatchShare":
        """The run of this process in a batch of all processes."""
        rank, world = rank_and_world()
        return cls(total * rank // world, total * (rank + 1) // world, total)

    def of_rows(self, drawn: Tensor) -> Tensor:
        """The own rows (B, ...) of a tensor (R, ...)."""
        return drawn[self.start : self.stop]

    def of_all(self, loss: Tensor) -> Tensor:
        """A loss over all rows, whose gradient counts as if it were a mean over the own rows."""
        if self.stop - self.start == self.total:
            return loss
        factor = self.total / (self.stop - self.start)
        return loss.detach() + factor * (loss - loss.detach())

    def changed(
        self, change: Change, views: Tensor, generator: torch.Generator, mask: Tensor | None = None
    ) -> Tensor:
        """Change the own rows of two views at random.

        Args:
            change: augmentation of a batch.
            views: first views of the own rows, then second views, (2 B, ...).
            generator: random generator.
            mask: mask of the values that are changed, (2 B, ...); None changes all.
        """
        if self.stop - self.start == self.total:
            return change(views, generator, mask)
        run = torch.arange(self.start, self.stop, device=views.device)
        own = torch.cat([run, run + self.total])
        whole = views.new_zeros(2 * self.total, *views.shape[1:]).index_copy(0, own, views)
        if mask is not None:
            rest = mask.new_zeros(len(whole), *mask.shape[1:])
            mask = rest.index_copy(0, own, mask)
        return change(whole, generator, mask)[own]
