"""Layers over tokens, of many models at once.

Shape letters: M models, B images, T tokens, E width of a token.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import linear

FEW_TOKENS = 64


def attend(x: Tensor, projections: Sequence[tuple[Tensor, Tensor]], heads: int) -> Tensor:
    """Multi-head self-attention.

    Args:
        x: (M, B, T, E).
        projections: weight (M, E, E) and bias (M, E) of query, key, value and output.
        heads: a divisor of E.

    Returns:
        (M, B, T, E).
    """
    models, batch = x.shape[:2]
    weights, biases = zip(*projections[:3], strict=True)
    mapped = linear(x, torch.cat(weights, 1), torch.cat(biases, 1))  # one product for all three
    parts = mapped.flatten(0, 1).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = parts.contiguous()
    attended = _attended(query, key, value)  # (M * B, heads, T, E / heads)
    tokens = attended.transpose(1, 2).flatten(2).unflatten(0, (models, batch))
    return linear(tokens, *projections[3])


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """By two plain products on a CPU: for few tokens faster than torch's fused kernel there."""
    if query.is_cuda or query.shape[2] > FEW_TOKENS:
        return F.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


def embed_positions(x: Tensor, position: Tensor, class_token: Tensor | None) -> Tensor:
    """Add each model's vector to every token, after its class token if it has one.

    Args:
        x: (M, B, T, E).
        position: (M, T, E), or (M, T + 1, E) with a class token.
        class_token: (M, E) or None.

    Returns:
        (M, B, T, E) or (M, B, T + 1, E).
    """
    if class_token is not None:
        first = class_token[:, None, None].expand(-1, x.shape[1], 1, -1)
        x = torch.cat([first, x], dim=2)
    return x + position[:, None]


def pool_tokens(x: Tensor, mode: str) -> Tensor:
    """The mean of all tokens, or the first: (M, B, T, E) to features (M, E, B)."""
    pooled = x.mean(2) if mode == "mean" else x[:, :, 0]
    return pooled.transpose(1, 2)
