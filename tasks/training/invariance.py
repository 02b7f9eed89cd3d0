"""Reorderings of weights for the logit-invariance penalty, and how invariant an encoder is.

The penalty is in `encoders.losses` (SNE, arXiv:2305.16625, section 3.6): half the squared
distance between the outputs for weights x and for g x, the same network with its hidden units
reordered, fresh g for every model and step.

Shape letters: B models in the batch, K outputs or H values of the embedding.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...encoders.losses import half_squared_distance
from ...loaders import HiddenPermutations, ZooDataset
from ...loaders.transforms.permutation_groups import PermutationGroup, hidden_groups
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable

GROUPS = ("hidden", "uncoupled")


class Reorderings:
    """Draws permutations for batches of several architectures.

    "hidden" keeps the function of every network. "uncoupled" is the control: each axis of each
    tensor gets a permutation of its own, so that the result is another function.
    """

    def __init__(self, zoos: Sequence[ZooDataset], group: str, seed: int) -> None:
        """Plan for the architectures of some zoos.

        Raises:
            ValueError: if the group is unknown, or a zoo does not tell its architecture, or has
                one whose permutations are not known.
        """
        if group not in GROUPS:
            raise ValueError(f"permutations must be one of {GROUPS}, got {group!r}")
        self.generator = torch.Generator().manual_seed(seed)
        self._plans = {zoo.layer_table: _plan(zoo, group) for zoo in zoos}

    def __call__(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Reorder every model of a batch (B, D) at random."""
        plan = self._plans[layer_table]
        return plan.apply(weights, plan.random_permutations(self.generator, len(weights)))


def uncoupled(groups: Sequence[PermutationGroup]) -> list[PermutationGroup]:
    """The groups with every axis on its own: the wrong permutations."""
    return [replace(group, axes=(axis,)) for group in groups for axis in group.axes]


def invariance_errors(
    module: nn.Module,
    weights: Tensor,
    layer_table: LayerTable,
    reorderings: Reorderings,
    draws: int,
) -> tuple[float, float]:
    """How far reordering moves the outputs of an encoder.

    Args:
        module: maps (weights, layer table) to (B, K); in eval mode.
        weights: (B, D), as the module takes them.
        layer_table: their layer table.
        reorderings: what to apply.
        draws: permutations per model (the paper's E.3 has 5).

    Returns:
        The mean of half the squared distance; and the same in units of the outputs' variance
        over the models, without which a small number says nothing.
    """
    with torch.no_grad():
        outputs = module(weights, layer_table)
        moved = [module(reorderings(weights, layer_table), layer_table) for _ in range(draws)]
    error = float(torch.stack([half_squared_distance(outputs, other) for other in moved]).mean())
    variance = float(outputs.var(dim=0, correction=0).sum())
    return error, error / variance if variance > 0 else float("nan")


def _plan(zoo: ZooDataset, group: str) -> HiddenPermutations:
    architecture = zoo.header.architecture
    if architecture is None or architecture.layer_table() != zoo.layer_table:
        raise UnsuitableError(
            f"zoo {zoo.name!r} does not tell its whole architecture, so the permutations of its "
            "hidden units are not known: train with invariance=0"
        )
    groups = hidden_groups(architecture)
    chosen = groups if group == "hidden" else uncoupled(groups)
    return HiddenPermutations(zoo.layer_table, chosen)
