"""The logit-invariance regulariser: equal outputs for networks that compute the same.

Source: SNE, arXiv:2305.16625, section 3.6, eq. 10 and definition C.1, after Moskalev et al. 2023,
arXiv:2308.03904. Which reordered weights compute the same is the caller's to know.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.layer_table import LayerTable
from .parameters import check_weights

PLACES = ("prediction", "embedding")


def logit_invariance(
    encoder: nn.Module,
    weights: Tensor,
    permuted: Tensor,
    layer_table: LayerTable,
    on: str = "prediction",
) -> Tensor:
    """How much an encoder's outputs differ between weights and their reordered selves.

    Both go through the encoder in one batch, so that a batch norm treats them alike.

    Args:
        encoder: with `forward` and, for `on="embedding"`, `embed`.
        weights: (B, D), flat.
        permuted: (B, D), the same networks with their hidden units in another order.
        layer_table: of the architecture.
        on: one of `PLACES`; the source's "logit" reads as the prediction.

    Returns:
        A scalar, the mean over models of half the squared distance.

    Raises:
        ValueError: if shapes differ, `on` is unknown, or the encoder has no embedding.
    """
    check_weights(weights, layer_table)
    if permuted.shape != weights.shape:
        raise ValueError(
            f"permuted must have the shape of weights, {tuple(weights.shape)}, "
            f"got {tuple(permuted.shape)}"
        )
    if on not in PLACES:
        raise ValueError(f"on must be one of {PLACES}, got {on!r}")
    if on == "embedding" and not hasattr(encoder, "embed"):
        raise ValueError(f"{type(encoder).__name__} has no embedding: use on='prediction'")
    encode: Any = encoder if on == "prediction" else encoder.embed
    outputs, others = encode(torch.cat([weights, permuted]), layer_table).chunk(2)
    return half_squared_distance(outputs, others)


def half_squared_distance(outputs: Tensor, others: Tensor) -> Tensor:
    """Mean over models of 1/2 ||f(x) - f(gx)||^2, for outputs (B, ...) at hand (def. C.1)."""
    return 0.5 * (outputs - others).square().flatten(1).sum(dim=1).mean()
