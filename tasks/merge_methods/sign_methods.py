"""Merges of task vectors that look at single values: TIES, DARE, EMR.

A task vector is a member minus the base. All work block by block; what they need of the whole
tensor, the magnitude from which values are kept, is found beforehand.

Shape letters: M members, n values.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

GATHERED_VALUES = 2**26  # 256 MB: an embedding of 32,000 tokens by 2,048
_HIGH, _LOW = 2**15, 2**16  # bins: upper bits of a float32 without its sign, lower 16 bits


def magnitude_threshold(blocks: Callable[[], Iterable[Tensor]], size: int, keep: int) -> float:
    """The `keep`-th largest magnitude of a tensor that comes in blocks, exactly.

    A tensor of ordinary size is gathered and partitioned. Of a larger one two histograms find the
    value without holding it: the bits of a positive float32 are ordered like its value.

    Args:
        blocks: gives the values, float32; it may be called twice.
        size: number of values.
        keep: number of values, from 1 to `size`.
    """
    if size > GATHERED_VALUES:
        return _threshold_by_bits(blocks, keep)
    values, start = np.empty(size, np.float32), 0
    for block in blocks():
        np.abs(block.numpy(), out=values[start : start + len(block)])
        start += len(block)
    values.partition(size - keep)
    return float(values[size - keep])


def _threshold_by_bits(blocks: Callable[[], Iterable[Tensor]], keep: int) -> float:
    high = torch.zeros(_HIGH, dtype=torch.int64)
    for block in blocks():
        high += torch.bincount(_bits(block) >> 16, minlength=_HIGH)
    bin_, above = _bin_of(high, keep)
    low = torch.zeros(_LOW, dtype=torch.int64)
    for block in blocks():
        bits = _bits(block)
        low += torch.bincount(bits[bits >> 16 == bin_] & (_LOW - 1), minlength=_LOW)
    last, _ = _bin_of(low, keep - above)
    return float(torch.tensor(bin_ << 16 | last, dtype=torch.int32).view(torch.float32))


def trimmed(taus_Mn: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Task vectors without the values below their threshold; ties are all kept.

    Args:
        taus_Mn: task vectors of the members, flattened.
        thresholds: least absolute value that is kept, by member.
    """
    below = torch.tensor(thresholds, dtype=taus_Mn.dtype).nextafter(
        torch.zeros((), dtype=taus_Mn.dtype)
    )
    return torch.stack(
        [
            F.hardshrink(tau, float(limit)) if limit > 0 else tau
            for tau, limit in zip(taus_Mn, below, strict=True)
        ]
    )


def elected_merge(taus_Mn: Tensor, weights: Sequence[float], normalize: bool = True) -> Tensor:
    """Sum or mean of the task vectors that agree with the elected sign: the last steps of TIES.

    Source: Yadav et al. 2023, arXiv:2306.01708. Weights multiply before the vote. Both signs are
    summed, and the larger sum is taken: comparing every value would cost three times as much.

    Args:
        taus_Mn: trimmed task vectors.
        weights: M numbers.
        normalize: divide by the sum of the weights of those that agree.
    """
    up, down, up_weight, down_weight = torch.zeros(4, taus_Mn.shape[1], dtype=taus_Mn.dtype)
    for tau, weight in zip(taus_Mn, weights, strict=True):
        weighted = tau * weight
        up += weighted.clamp_min(0)
        down += weighted.clamp_max(0)
        if normalize:
            sign = weighted.sign_()
            up_weight.add_(sign.clamp_min(0), alpha=weight)
            down_weight.sub_(sign.clamp_max(0), alpha=weight)
    elected = up + down >= 0
    total = torch.where(elected, up, down)
    if not normalize:
        return total
    divisor = torch.where(elected, up_weight, down_weight)
    return total / divisor.where(divisor != 0, 1)


def dare_mask(size: int, density: float, seed: int) -> Tensor:
    """(size,), True with probability `density`; the same for the same seed and size.

    Args:
        size: number of values.
        density: share of values that is kept, in (0, 1].
        seed: random seed.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator) < density


def dropped(taus_Mn: Tensor, masks_Mn: Tensor, density: float) -> Tensor:
    """Task vectors with random values dropped and the others scaled up: DARE.

    Source: Yu et al. 2023, arXiv:2311.03099. The mean over masks is the task vector itself.

    Args:
        taus_Mn: task vectors of the members, flattened.
        masks_Mn: values that are kept, bool.
        density: share of values that is kept, in (0, 1].
    """
    return taus_Mn * masks_Mn / density


@dataclass(frozen=True)
class EmrMerge:
    """One task vector for all members, and what turns it into each member's own.

    Attributes:
        unified: (n,).
        masks: (M, n), where a member's task vector has the unified one's sign.
        scales: (M,), so that the mean magnitude is the member's.
    """

    unified: Tensor
    masks: Tensor
    scales: Tensor

    def task_vector(self, member: int) -> Tensor:
        """(n,), approximately the member's task vector."""
        return self.unified * self.masks[member] * self.scales[member]


def emr_merge(taus_Mn: Tensor) -> EmrMerge:
    """Elect, mask and rescale.

    Source: Huang et al. 2024, arXiv:2405.17461: the largest magnitude among the members that
    agree with the sign of the sum.
    """
    unified = emr_unified(taus_Mn)
    masks = taus_Mn * unified > 0
    kept = (unified.abs() * masks).sum(1)
    scales = taus_Mn.abs().sum(1) / kept.where(kept > 0, 1)
    return EmrMerge(unified, masks, scales)


def emr_unified(taus_Mn: Tensor) -> Tensor:
    """The unified task vector (n,) alone."""
    sign = torch.where(taus_Mn.sum(0) >= 0, 1, -1)
    return sign * (taus_Mn * sign).clamp_min(0).amax(0)


def _bits(block: Tensor) -> Tensor:
    return block.abs().view(torch.int32)


def _bin_of(counts: Tensor, keep: int) -> tuple[int, int]:
    """The bin of the `keep`-th largest value, and how many values lie above that bin."""
    above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, keep))
    return len(counts) - 1 - place, int(above[place - 1]) if place else 0
