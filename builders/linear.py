"""Fully connected layers of many models at once.

Shape letters: M models, F features in, O out, B images, T tokens.
"""

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map features, or the features of every token, by each model's own matrix.

    Args:
        x: (M or 1, F, B) features, or (M or 1, B, T, F) tokens; 1 if all models share them.
        weight: (M, O, F).
        bias: (M, O).

    Returns:
        (M, O, B), or (M, B, T, O).
    """
    models = len(weight)
    if x.dim() == 4:
        rows = x.expand(models, *x.shape[1:]).flatten(1, 2)
        mapped = torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
        return mapped.unflatten(1, x.shape[1:3])
    # Not one product for all models of shared features: its sums depend on how many there are.
    return torch.baddbmm(bias[:, :, None], weight, x.expand(models, -1, -1))
