"""Layers of many models at once, each model with its own weights; see `convolution` too.

Shape letters: M models, F features in, O out, B images, T tokens, E width of a token, H rows,
C channels, W columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention import fused_attention
from .grouped_convolution import channels_of_models, images_of_models

FEW_TOKENS = 64
MOMENTUM, EPS = 0.1, 1e-5  # torch's defaults, as in the layers of an architecture


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map features, or the features of every token, by each model's own matrix.

    Args:
        x: features (M or 1, F, B), or tokens (M or 1, B, T, F); 1 if all models share them.
        weight: weight matrices, (M, O, F).
        bias: biases, (M, O).

    Returns:
        (M, O, B), or (M, B, T, O).
    """
    models = len(weight)
    if x.dim() == 4:
        rows = x.expand(models, *x.shape[1:]).flatten(1, 2)
        mapped = torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
        return mapped.unflatten(1, x.shape[1:3])
    # No single product over all models of shared features: its sums depend on their number.
    return torch.baddbmm(bias[:, :, None], weight, x.expand(models, -1, -1))


def attend(
    x: Tensor, projections: Sequence[tuple[Tensor, Tensor]], heads: int, causal: bool = False
) -> Tensor:
    """Multi-head self-attention.

    Args:
        x: tokens, (M, B, T, E).
        projections: weight (M, E, E) and bias (M, E) of query, key, value and output.
        heads: number of heads, a divisor of E.
        causal: whether a token sees only itself and the tokens before it.

    Returns:
        (M, B, T, E).
    """
    models, batch = x.shape[:2]
    weights, biases = zip(*projections[:3], strict=True)
    mapped = linear(x, torch.cat(weights, 1), torch.cat(biases, 1))  # one product for all three
    parts = mapped.flatten(0, 1).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = parts.contiguous()
    attended = _attended(query, key, value, causal)  # (M * B, heads, T, E / heads)
    tokens = attended.transpose(1, 2).flatten(2).unflatten(0, (models, batch))
    return linear(tokens, *projections[3])


def _attended(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Attention by two matrix products on a CPU, where torch's fused kernel is slower."""
    if causal or query.is_cuda or query.shape[2] > FEW_TOKENS:
        return fused_attention(query, key, value, causal=causal)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


def look_up(x: Tensor, weight: Tensor) -> Tensor:
    """Replace token numbers by each model's own vectors.

    Args:
        x: token numbers of any type, (M or 1, T, B); 1 if all models share them.
        weight: vectors of the vocabulary, (M, V, E).

    Returns:
        (M, B, T, E).
    """
    models, vocabulary = weight.shape[:2]
    numbers = x.mT.long() + vocabulary * torch.arange(models, device=x.device)[:, None, None]
    return F.embedding(numbers, weight.flatten(0, 1))


def embed_positions(x: Tensor, position: Tensor, class_token: Tensor | None) -> Tensor:
    """Add each model's vector to every token, after its class token if it has one.

    Args:
        x: tokens, (M, B, T, E).
        position: position vectors, (M, T, E), or (M, T + 1, E) with a class token.
        class_token: class tokens, (M, E), or None.

    Returns:
        (M, B, T, E) or (M, B, T + 1, E).
    """
    if class_token is not None:
        first = class_token[:, None, None].expand(-1, x.shape[1], 1, -1)
        x = torch.cat([first, x], dim=2)
    return x + position[:, None]


def pool_tokens(x: Tensor, mode: str) -> Tensor:
    """Pool tokens to features (M, E, B).

    Args:
        x: tokens, (M, B, T, E).
        mode: "mean" of all tokens, or "first" token.
    """
    pooled = x.mean(2) if mode == "mean" else x[:, :, 0]
    return pooled.transpose(1, 2)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: Sequence[Tensor],
    training: bool,
    joint: bool | None = None,
) -> Tensor:
    """Normalise every channel of every model over rows, columns and batch.

    One call for all models starts one kernel on a GPU, where a call per model starts M of them.
    On a CPU it took 1.4 to 2.3 times the processor time (16 x 8, 4 x 64 and 2 x 64 channels).

    Args:
        x: images, (M, H, C, W, B).
        weight: scales, (M, C).
        bias: offsets, (M, C).
        state: running mean (M, C), running variance (M, C) and number of batches (M,).
        training: whether the batch's statistics are used and the state is updated in place, with
            torch's momentum and unbiased variance; otherwise the state's are used.
        joint: whether one call normalises all models; None takes it for true on a GPU alone.

    Returns:
        (M, H, C, W, B).

    Raises:
        ValueError: from torch, in training, if a channel has a single value.
    """
    mean, variance, batches = state
    if training:
        batches += 1
    if x.is_cuda if joint is None else joint:
        return _joint_norm(x, weight, bias, (mean, variance), training)
    rows = x.flatten(3)  # per model torch's (N, C, L), normalised over N and L
    # `.data`: autograd would mistake one model's new statistics for a change of another's.
    normal = [
        F.batch_norm(*model, training, MOMENTUM, EPS)
        for model in zip(rows, _apart(mean), _apart(variance), weight, bias, strict=True)
    ]
    return torch.stack(normal).view(x.shape)


def _joint_norm(
    x: Tensor, weight: Tensor, bias: Tensor, state: Sequence[Tensor], training: bool
) -> Tensor:
    """The channels of all models as channels of one batch norm."""
    mean, variance = (one.flatten().clone() for one in state)
    channels, scale, offset = channels_of_models(x), weight.flatten(), bias.flatten()
    normal = F.batch_norm(channels, mean, variance, scale, offset, training, MOMENTUM, EPS)
    for kept, new in zip(state, (mean, variance), strict=True) if training else ():
        kept.data.copy_(new.view(kept.shape))
    return images_of_models(normal, len(x))


def _apart(state: Tensor) -> list[Tensor]:
    return [model.data for model in state]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise the features, the width of every token, or every row of an image.

    Args:
        x: features (M, F, B), tokens (M, B, T, F) or images (M, H, C, F, B).
        weight: scales, (M, F).
        bias: offsets, (M, F).

    Returns:
        Normalised values, of the shape of `x`.
    """
    axis = {3: 1, 4: 3, 5: 3}[x.dim()]
    last = x.movedim(axis, -1)
    spread = (len(x), *(1,) * (x.dim() - 2), -1)
    normal = F.layer_norm(last, weight.shape[1:], eps=EPS)
    return torch.addcmul(bias.view(spread), normal, weight.view(spread)).movedim(-1, axis)
