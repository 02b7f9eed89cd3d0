"""Losses along straight lines between networks, and their barriers.

Sources: Goodfellow, Vinyals and Saxe 2015, arXiv:1412.6544 (lines from start to end of a run);
Frankle et al. 2020, arXiv:1912.05671 (barriers between runs); Entezari et al. 2022,
arXiv:2110.06296, and Ainsworth, Hayase and Srinivasa 2023, arXiv:2209.04836 (barriers after the
hidden units are aligned). Batch-norm statistics are interpolated like weights; Jordan et al. 2023,
arXiv:2211.08403, recompute them, which gives lower barriers.

Scale: rescaling the layers of a ReLU network keeps its function and moves the barriers to others,
because the line runs through other networks; permutations do not undo a rescaling. Barriers along
a path stay when all its checkpoints are rescaled alike.

Shape letters: M pairs of networks, D length of the flat vector, P points on a line.
"""

from collections.abc import Callable

import torch
from torch import Tensor

POINTS = 9


def line_losses(
    losses: Callable[[Tensor], Tensor], first: Tensor, second: Tensor, points: int = POINTS
) -> Tensor:
    """Losses at evenly spaced points of the lines between pairs of networks.

    Cost: P forward passes per pair.

    Args:
        losses: function from flat weights (M, D) to losses (M,).
        first: flat weights of the starts, (M, D).
        second: flat weights of the ends, (M, D).
        points: number of points, both ends included, at least 3.

    Returns:
        (M, P), float64, from start to end.

    Raises:
        ValueError: if there are fewer than three points.

    Example:
        >>> import torch
        >>> from weightzoo.tasks.dynamics.barriers import barriers, line_losses
        >>> wells = lambda w: (w.square() - 1).square().sum(1)
        >>> curve = line_losses(wells, torch.tensor([[-1.0]]), torch.tensor([[1.0]]), 3)
        >>> curve.tolist(), barriers(curve).tolist()
        ([[0.0, 1.0, 0.0]], [1.0])
    """
    if points < 3:
        raise ValueError(f"a line needs at least 3 points, both ends included, got {points!r}")
    with torch.no_grad():
        found = [
            losses(torch.lerp(first, second, share)).double()
            for share in torch.linspace(0, 1, points).tolist()
        ]
    return torch.stack(found, dim=1)


def barriers(curves: Tensor) -> Tensor:
    """Largest height of each curve above the straight line between its ends; at least 0.

    Args:
        curves: losses at evenly spaced points, (M, P).

    Returns:
        (M,); NaN where a loss is not finite.
    """
    share = torch.linspace(0, 1, curves.shape[1], dtype=curves.dtype, device=curves.device)
    chord = curves[:, :1] + share * (curves[:, -1:] - curves[:, :1])
    heights = (curves - chord).amax(1).clamp_min(0)
    return heights.masked_fill(~curves.isfinite().all(dim=1), torch.nan)
