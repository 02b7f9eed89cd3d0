"""Fused attention over any number of sets.

torch's CUDA kernels start one block of threads per set in a grid dimension that holds at most
65,535 of them; a larger batch ends in "invalid configuration argument", which is no lack of memory
and which no smaller cohort mends.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_SETS = 2**15  # sets per call, half of what a grid dimension holds


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """Scaled dot-product attention, in several calls if there are many sets.

    Shape letters: S sets, H heads, Q queries, K keys, C width of a head.

    Args:
        query: queries, (S, H, Q, C).
        key: keys, (S, H, K, C).
        value: values, (S, H, K, C).
        mask: whether a key takes part, (S, 1, 1, K); None lets all keys take part.
        scale: factor of the scores; None takes 1 / sqrt(C).
        causal: whether a query sees only the keys up to its own place, without `mask`.

    Returns:
        (S, H, Q, C).

    Example:
        >>> import torch
        >>> from weightzoo.zoos.networks.attention import fused_attention
        >>> x = torch.randn(3, 2, 5, 4)
        >>> fused_attention(x, x, x).shape
        torch.Size([3, 2, 5, 4])
    """
    if len(query) <= MOST_SETS:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scale
        )
    found = []
    for start in range(0, len(query), MOST_SETS):
        part = slice(start, start + MOST_SETS)
        masked = None if mask is None else mask[part]
        found.append(fused_attention(query[part], key[part], value[part], masked, scale, causal))
    return torch.cat(found)
