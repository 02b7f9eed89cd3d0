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
        for family in torch.randperm(len(permutations.families), generator=generator).tolist():
            steps, current, better = _match(current, wanted, permutations, family)
            for group, step in steps.items():
                orders[group][active] = orders[group][active].gather(1, step)
            improved |= better
        active, current = active[improved], current[improved]
        if len(active) == 0:
            break
    return permutations.apply(weights, orders), orders


def _match(
    current: Tensor, reference: Tensor, permutations: HiddenPermutations, family: int
) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """The best orders (B, U) of a family's groups, the others fixed; the models; which improved.

    Where both sides of a tensor are of one group the best step is unknown: taken is the best for
    one side at a time, and only if the model does come closer.
    """
    groups = permutations.families[family]
    steps = dict(zip(groups, _best_orders(current, reference, permutations, groups), strict=True))
    moved = permutations.apply_some(current, steps)
    gain = ((moved - current) * reference).sum(1)
    better = gain > LEAST_GAIN * current.norm(dim=1) * reference.norm()
    stay = permutations.identity(len(current), current.device)
    steps = {group: step.where(better[:, None], stay[group]) for group, step in steps.items()}
    return steps, moved.where(better[:, None], current), better


def _best_orders(
    current: Tensor, reference: Tensor, permutations: HiddenPermutations, groups: tuple[int, ...]
) -> list[Tensor]:
    """Orders (B, U) of the groups of a family with the largest sum of similarities.

    For every pair of heads the best order within is found, then the best order of the heads.
    """
    heads = permutations.groups[groups[0]].heads
    total, within = current.new_zeros(len(current), heads, heads), []
    for group in groups:
        similarity = _similarity(current, reference, permutations, group)
        pairs = similarity.unflatten(2, (heads, -1)).unflatten(1, (heads, -1)).transpose(2, 3)
        order = _assign(pairs)  # (B, heads, heads, units)
        total = total + pairs.gather(4, order[..., None]).sum((3, 4))
        within.append(order)
    chosen = _assign(total)[..., None, None]  # (B, heads, 1, 1)
    return [
        (chosen[..., 0] * order.shape[3] + order.take_along_dim(chosen, 2).squeeze(2)).flatten(1)
        for order in within
    ]


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
    """For each matrix (..., U, U) the order of its columns with the largest trace, (..., U)."""
    from scipy.optimize import linear_sum_assignment

    matrices = similarity.flatten(0, -3).cpu().numpy()
    orders = torch.empty(matrices.shape[:2], dtype=torch.int64)
    for index, matrix in enumerate(matrices):
        orders[index] = torch.from_numpy(linear_sum_assignment(matrix, maximize=True)[1])
    return orders.view(similarity.shape[:-1]).to(similarity.device)


def _check(weights: Tensor, reference: Tensor, permutations: HiddenPermutations) -> None:
    width = permutations.layer_table.width
    if weights.ndim != 2 or weights.shape[1] != width or reference.shape != (width,):
        raise ValueError(
            f"weights and reference must have shapes (B, {width}) and ({width},), "
            f"got {tuple(weights.shape)} and {tuple(reference.shape)}"
        )
    if not (weights.isfinite().all() and reference.isfinite().all()):
        raise ValueError("weights to align must be finite: filter diverged models out first")
