"""Random permutations for the logit-invariance penalty, and the invariance error of an encoder.

The penalty is in `encoders.losses` (set-based neural network encoding, SNE, arXiv:2305.16625,
section 3.6). It is half the squared distance between the outputs for weights x and for permuted
weights g x. The permutation g of the hidden units is drawn anew for every model and step.

Shape letters: B models in the batch, K outputs or H values of the embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...encoders.losses import half_squared_distance
from ...loaders import HiddenPermutations, ZooDataset
from ...loaders.transforms.permutation_groups import PermutationGroup, hidden_groups
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable

GROUPS = ("hidden", "uncoupled")


class RandomPermutations:
    """Draws permutations for batches of several architectures.

    "hidden" permutations preserve the function of every network. "uncoupled" is the negative
    control: each axis of each tensor gets a permutation of its own, which changes the function.
    """

    def __init__(self, zoos: Sequence[ZooDataset], group: str, seed: int) -> None:
        """Find the permutation groups of the zoos' architectures.

        Args:
            zoos: zoos with known architectures.
            group: one of `GROUPS`.
            seed: seed of the permutations.

        Raises:
            ValueError: if the group is unknown, or a zoo has no architecture or one without known
                permutations.
        """
        if group not in GROUPS:
            raise ValueError(f"permutations must be one of {GROUPS}, got {group!r}")
        self.generator = torch.Generator().manual_seed(seed)
        self._plans = {zoo.layer_table: _plan(zoo, group) for zoo in zoos}

    def __call__(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Permute every model of a batch (B, D) at random."""
        plan = self._plans[layer_table]
        return plan.apply(weights, plan.random_permutations(self.generator, len(weights)))


def uncoupled(groups: Sequence[PermutationGroup]) -> list[PermutationGroup]:
    """The groups with every axis permuted on its own, which changes the function."""
    return [replace(group, axes=(axis,)) for group in groups for axis in group.axes]


def invariance_errors(
    outputs_of: Callable[[Tensor], Tensor],
    weights: Tensor,
    layer_table: LayerTable,
    permutations: RandomPermutations,
    draws: int,
) -> tuple[float, float]:
    """Invariance error of an encoder: the distance of its outputs under permutations.

    Args:
        outputs_of: function from scaled weights (B, D) to the outputs of an encoder (B, K), in
            eval mode.
        weights: scaled weights, (B, D).
        layer_table: layer table of the weights.
        permutations: permutations to draw from.
        draws: number of permutations per model (5 in appendix E.3 of the paper).

    Returns:
        The mean of half the squared distance, and the same divided by the variance of the outputs
        over the models. Only the second number is comparable between encoders.
    """
    with torch.no_grad():
        outputs = outputs_of(weights)
        permuted = [outputs_of(permutations(weights, layer_table)) for _ in range(draws)]
    error = float(torch.stack([half_squared_distance(outputs, other) for other in permuted]).mean())
    variance = float(outputs.var(dim=0, correction=0).sum())
    return error, error / variance if variance > 0 else float("nan")


def _plan(zoo: ZooDataset, group: str) -> HiddenPermutations:
    architecture = zoo.header.architecture
    if architecture is None or architecture.layer_table() != zoo.layer_table:
        raise UnsuitableError(
            f"zoo {zoo.name!r} does not hold its complete architecture, so the permutations of "
            "its hidden units are unknown"
        )
    groups = hidden_groups(architecture)
    chosen = groups if group == "hidden" else uncoupled(groups)
    return HiddenPermutations(zoo.layer_table, chosen)
