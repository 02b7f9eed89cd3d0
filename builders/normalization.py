"""Batch and layer normalisation of many models at once.

Shape letters: M models, H rows, C channels, W columns, B images, F features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MOMENTUM, EPS = 0.1, 1e-5  # torch's defaults, as the layers of an architecture have them


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, state: Sequence[Tensor], training: bool
) -> Tensor:
    """Normalise every channel of every model over rows, columns and batch.

    Args:
        x: (M, H, C, W, B).
        weight: (M, C).
        bias: (M, C).
        state: running mean (M, C), running variance (M, C) and number of batches (M,).
        training: take the batch's statistics and update the state in place, with torch's
            momentum and unbiased variance; otherwise take the state's.

    Returns:
        (M, H, C, W, B).

    Raises:
        ValueError: from torch, in training, if a channel has a single value.
    """
    mean, variance, batches = state
    if training:
        batches += 1
    rows = x.flatten(3)  # per model torch's (N, C, L), normalised over N and L
    # `.data`: autograd may not take one model's new statistics for a change of another's.
    normal = [
        F.batch_norm(*model, training, MOMENTUM, EPS)
        for model in zip(rows, _apart(mean), _apart(variance), weight, bias, strict=True)
    ]
    return torch.stack(normal).view(x.shape)


def _apart(state: Tensor) -> list[Tensor]:
    return [model.data for model in state]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise the features, the width of every token, or every row of an image.

    Args:
        x: (M, F, B) features, (M, B, T, F) tokens or (M, H, C, F, B) images.
        weight: (M, F).
        bias: (M, F).

    Returns:
        As x.
    """
    axis = {3: 1, 4: 3, 5: 3}[x.dim()]
    last = x.movedim(axis, -1)
    spread = (len(x), *(1,) * (x.dim() - 2), -1)
    normal = F.layer_norm(last, weight.shape[1:], eps=EPS)
    return torch.addcmul(bias.view(spread), normal, weight.view(spread)).movedim(-1, axis)
