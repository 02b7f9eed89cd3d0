"""Alignment: reorder the hidden units of models to lie as close to a reference as possible.

Source: weight matching of Git Re-Basin, Ainsworth et al. 2022, arXiv 2209.04836, algorithm 1:
coordinate descent over permutation groups, each step a linear assignment. It finds a local
optimum, which depends on the order of the groups and with it on the seed.

Shape letters: B models in the batch, D length of the flat vector, U units of a group.
"""

import torch
from torch import Tensor

from .permutations import HiddenPermutations

MAX_PASSES = 100
LEAST_GAIN = 1e-12  # of the largest inner product there can be; less is rounding


def align(
    weights: Tensor,
    reference: Tensor,
    permutations: HiddenPermutations,
    seed: int = 0,
    max_passes: int = MAX_PASSES,
) -> tuple[Tensor, list[Tensor]]:
    """Reorder hidden units such that each model comes close to the reference.

    A model's result depends on the seed, not on the models beside it. To align a trajectory, align
    its last checkpoint and apply the permutations to all, as SANE does (arXiv 2406.09997).

    Args:
        weights: (B, D), flat.
        reference: (D,), on the same device.
        permutations: of the architecture.
        seed: for the order in which groups are visited.
        max_passes: most passes over all groups; it ends sooner once none improves.

    Returns:
        The reordered weights (B, D), no farther from the reference than before, and their
        permutations, which `HiddenPermutations.apply` takes.

    Raises:
        ValueError: if shapes do not fit, or a value is not finite.
    """
    _check(weights, reference, permutations)
    generator = torch.Generator().manual_seed(seed)
    orders = permutations.identity(len(weights), weights.device)
    current, wanted = weights.detach().double(), reference.detach().double()
    active = torch.arange(len(weights), device=weights.device)
    for _ in range(max_passes):
        improved = torch.zeros(len(active), dtype=torch.bool, device=weights.device)
        for group in torch.randperm(len(orders), generator=generator).tolist():
            step, better = _match(current, wanted, permutations, group)
            current = permutations.apply_some(current, {group: step})
            orders[group][active] = orders[group][active].gather(1, step)
            improved |= better
        active, current = active[improved], current[improved]
        if len(active) == 0:
            break
    return permutations.apply(weights, orders), orders


def _match(
    current: Tensor, reference: Tensor, permutations: HiddenPermutations, group: int
) -> tuple[Tensor, Tensor]:
    """The best order (B, U) of one group's units, the others fixed, and where it is better (B,)."""
    similarity = _similarity(current, reference, permutations, group)  # (B, U, U)
    units = similarity.shape[1]
    step = _assign(similarity)
    gain = similarity.gather(2, step[..., None]).sum((1, 2)) - similarity.diagonal(0, 1, 2).sum(1)
    better = gain > LEAST_GAIN * current.norm(dim=1) * reference.norm()
    return torch.where(better[:, None], step, torch.arange(units, device=step.device)), better


def _similarity(
    current: Tensor, reference: Tensor, permutations: HiddenPermutations, group: int
) -> Tensor:
    """(B, U, U): inner products of the reference's units with each model's, over all axes."""
    units = permutations.groups[group].units
    total = current.new_zeros(len(current), units, units)
    for block in permutations.blocks:
        mine, theirs = block.view(current), block.view(reference[None])
        if block.out == group:
            total += theirs.flatten(2) @ mine.flatten(2).mT
        if block.into == group:
            total += _by_input(theirs) @ _by_input(mine).mT
    return total


def _by_input(units: Tensor) -> Tensor:
    """(B, O, I, K) as (B, I, O * K)."""
    return units.transpose(1, 2).flatten(2)


def _assign(similarity: Tensor) -> Tensor:
    """For each model the order of its units with the largest sum of similarities, (B, U)."""
    from scipy.optimize import linear_sum_assignment

    orders = torch.empty(similarity.shape[:2], dtype=torch.int64)
    for place, matrix in enumerate(similarity.cpu().numpy()):
        orders[place] = torch.from_numpy(linear_sum_assignment(matrix, maximize=True)[1])
    return orders.to(similarity.device)


def _check(weights: Tensor, reference: Tensor, permutations: HiddenPermutations) -> None:
    width = permutations.layer_table.width
    if weights.ndim != 2 or weights.shape[1] != width or reference.shape != (width,):
        raise ValueError(
            f"weights and reference must have shapes (B, {width}) and ({width},), "
            f"got {tuple(weights.shape)} and {tuple(reference.shape)}"
        )
    if not (weights.isfinite().all() and reference.isfinite().all()):
        raise ValueError("weights to align must be finite: filter diverged models out first")
