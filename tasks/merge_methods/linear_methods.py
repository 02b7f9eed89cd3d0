"""Merges that are one weighted sum per tensor: mean, task arithmetic, SLERP, Model Stock, Fisher.

Of SLERP and Model Stock only the coefficients depend on the weights, and these follow from the
inner products of the members, so a tensor of any size is merged block by block.

Shape letters: M members, P members and the base, n values.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...zoos.errors import MergeError

PARALLEL = 0.9995  # cosine from which SLERP is a plain interpolation
FISHER_FLOOR = 1e-6


def weighted_sum(models_Mn: Tensor, weights: Sequence[float]) -> Tensor:
    """Sum of the members times their weights, which are applied as given.

    Args:
        models_Mn: members, float32 or float64.
        weights: M numbers.
    """
    return torch.tensor(weights, dtype=models_Mn.dtype) @ models_Mn


def mean_weights(members: int) -> list[float]:
    """Equal weights that sum to 1."""
    return [1 / members] * members


def normalized(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum.

    Raises:
        MergeError: if they sum to nothing.
    """
    total = math.fsum(weights)
    if abs(total) < 1e-12:
        raise MergeError(f"weights {list(weights)} sum to {total}: they cannot be normalised")
    return [weight / total for weight in weights]


def task_arithmetic_weights(weights: Sequence[float], scale: float) -> list[float]:
    """Weights (P,) of base + scale * sum of weight * (member - base), the base last.

    Source: Ilharco et al. 2022, arXiv:2212.04089.

    Args:
        weights: weights of the members, (P,).
        scale: factor on the sum of task vectors.
    """
    applied = [scale * weight for weight in weights]
    return [*applied, 1 - math.fsum(applied)]


def slerp_weights(gram: Tensor, fraction: float) -> list[float]:
    """Weights of spherical interpolation between two members.

    Source: Shoemake 1985, for directions; as mergekit does, the directions' weights are applied
    to the members themselves.

    Args:
        gram: (2, 2), inner products of the members, float64.
        fraction: 0 for the first member, 1 for the second.
    """
    norms = gram.diagonal().sqrt()
    cosine = float((gram[0, 1] / (norms[0] * norms[1]).clamp_min(1e-16)).clamp(-1, 1))
    if abs(cosine) > PARALLEL:
        return [1 - fraction, fraction]
    angle = math.acos(cosine)
    return [
        math.sin((1 - fraction) * angle) / math.sin(angle),
        math.sin(fraction * angle) / math.sin(angle),
    ]


def model_stock_weights(gram: Tensor) -> list[float]:
    """Weights (P,) of Model Stock, the base last.

    Source: Jang et al. 2024, arXiv:2403.19522: with the mean cosine c between the changes of k
    members, the merge lies at t = k c / ((k - 1) c + 1) from the base to their mean.

    Args:
        gram: (M, M), inner products of member - base, float64.
    """
    members = len(gram)
    norms = gram.diagonal().sqrt()
    cosines = gram / torch.outer(norms, norms).clamp_min(1e-300)
    pairs = torch.triu(torch.ones_like(gram, dtype=torch.bool), 1)
    cosine = float(cosines[pairs].mean()) if members > 1 else 1.0
    divisor = (members - 1) * cosine + 1
    share = members * cosine / divisor if abs(divisor) > 1e-6 else 0.0  # opposed: the base
    return [*[share / members] * members, 1 - share]


def fisher_merge(models_Mn: Tensor, fishers_Mn: Tensor) -> Tensor:
    """Mean of the members weighted by their diagonal Fisher information.

    Source: Matena and Raffel 2022, arXiv:2111.09832, with a floor so that weights that no member
    uses are averaged plainly.

    Args:
        models_Mn: members.
        fishers_Mn: diagonal Fisher information of each, not negative.
    """
    shares = fishers_Mn + FISHER_FLOOR
    return (shares * models_Mn).sum(0) / shares.sum(0)
