"""Alignment: reorder the hidden units of models to be as close to a reference as possible.

Source: weight matching of Git Re-Basin, Ainsworth et al. 2022, arXiv:2209.04836, algorithm 1. It is
coordinate descent over permutation groups; each step solves a linear assignment problem. The result
is a local optimum, which depends on the order of the groups and therefore on the seed.

Shape letters: B models in the batch, D length of the flat vector, U units of a group.
"""

import torch
from torch import Tensor

from .permutations import HiddenPermutations

MAX_PASSES = 100
LEAST_GAIN = 1e-12  # share of the largest possible inner product; smaller gains are rounding errors


def align(
    weights: Tensor,
    reference: Tensor,
    permutations: HiddenPermutations,
    seed: int = 0,
    max_passes: int = MAX_PASSES,
) -> tuple[Tensor, list[Tensor]]:
    """Reorder hidden units such that each model comes close to the reference.

    The result of a model depends on the seed, not on other models. To align a trajectory, align its
    last checkpoint and apply the permutations to all checkpoints, as SANE (sequential autoencoder
    for neural embeddings, arXiv:2406.09997) does.

    Args:
        weights: flat weights, (B, D).
        reference: flat weights of the reference, (D,), on the same device.
        permutations: permutations of the architecture.
        seed: random seed of the order in which groups are visited.
        max_passes: largest number of passes over all groups; it ends when no group improves.

    Returns:
        Reordered weights, (B, D), no farther from the reference than before, and their
        permutations, as `HiddenPermutations.apply` takes them.

    Raises:
        ValueError: if shapes do not fit, or a value is not finite.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import HiddenPermutations, align
        >>> train = load_zoo(ZOO, split="train")
        >>> permutations = HiddenPermutations.of(train.header.architecture)
        >>> aligned, _ = align(train.weights(), train.weights([0])[0], permutations)
        >>> aligned.shape
        torch.Size([6, 71])
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
    """Best orders (B, U) of the groups of a family, the models, and whether each improved.

    Other groups stay fixed. If both sides of a tensor belong to one group the best step is unknown.
    The step then optimises one side, and is taken only if the model comes closer.
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

    The best order of units is found for every pair of heads, then the best order of heads.
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
    """Inner products of units of the reference and of each model, over all axes, (B, U, U)."""
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
    """Order of the columns with the largest trace, (..., U), of each matrix (..., U, U)."""
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
        raise ValueError(
            "weights to align must be finite: remove diverged models with `dataset.filter` first"
        )
