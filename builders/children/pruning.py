"""Magnitude pruning of a population while it is trained.

Weights of convolution and linear layers may be pruned; biases, norm layers, embeddings and
attention may not. Sparsity is the pruned share of those weights, over all layers of a model
together.

Shape letters: M models, D length of the flat vector, P prunable values in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable, TensorSpec
from ...zoos.recipe import Model, Recipe
from ..training.cohort import Cohort
from ..training.objectives import DataSet

PRUNABLE_KINDS = ("conv", "linear")


def prunable_tensors(table: LayerTable) -> list[TensorSpec]:
    """The tensors whose values may be pruned."""
    return [one for one in table if one.kind in PRUNABLE_KINDS and one.role == "weight"]


def prunable_columns(table: LayerTable) -> Tensor:
    """(P,), int64: their columns of the flat vector."""
    tensors = prunable_tensors(table)
    return torch.cat([torch.arange(one.offset, one.offset + one.size) for one in tensors])


class MagnitudePruning(Cohort):
    """Prunes the smallest weights before every epoch, more and more, and trains the others.

    The share follows Zhu and Gupta 2017 (arXiv:1710.01878, equation 1): a cubic from 0 to the final
    share that is steep at first. Before epoch e of E it is final * (1 - (1 - e / E)^3), so the
    last epoch trains with the final share.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[Model],
        data: DataSet,
        device: torch.device | str,
        initial: Tensor,
        sparsity: float,
    ) -> None:
        """Set up a cohort at its initial state.

        Args:
            recipe: recipe with architecture and epochs.
            models: M models of one cohort.
            data: image set or signal set that they are trained on.
            device: training device.
            initial: initial weights, (M, D).
            sparsity: final share of pruned weights, in [0, 1).
        """
        super().__init__(recipe, models, data, device, initial)
        self._sparsity, self._epochs, self._epoch = sparsity, recipe.epochs, 0
        flat = self.population.flat
        self._columns = prunable_columns(recipe.architecture.layer_table()).to(flat.device)
        self._pruned = torch.zeros_like(flat, dtype=torch.bool)

    def epoch(self) -> Iterator[Tensor]:
        """Prune, then train one epoch in which pruned weights stay zero."""
        self._epoch += 1
        self._prune(self._sparsity * (1 - (1 - self._epoch / self._epochs) ** 3))
        for losses in super().epoch():
            self.population.flat.masked_fill_(self._pruned, 0.0)
            yield losses

    @contextmanager
    def as_saved(self) -> Iterator[dict[str, Tensor]]:
        """Yield the sparsity; the weights are already pruned."""
        yield {"sparsity": self._pruned[:, self._columns].float().mean(1)}

    def _prune(self, share: float) -> None:
        """Prune each model to a share of its own weights."""
        magnitudes = self.population.flat[:, self._columns].abs()
        smallest = magnitudes.argsort(dim=1, stable=True)[:, : round(share * len(self._columns))]
        self._pruned.zero_().scatter_(1, self._columns[smallest], True)
        self.population.flat.masked_fill_(self._pruned, 0.0)
