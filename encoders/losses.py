"""Training losses for encoders of weights: reconstruction, contrast of views, and invariance.

Sources: hyper-representations, Schürholt et al. 2022, arXiv:2209.14733 (reconstruction by layer),
and 2021, arXiv:2110.15288 (contrast of positive pairs alone, or NT-Xent, the normalised
temperature-scaled cross-entropy of Chen et al. 2020, arXiv:2002.05709). Logit invariance: SNE (the
set-based neural network encoder), arXiv:2305.16625, section 3.6, eq. 10 and definition C.1, after
Moskalev et al. 2023, arXiv:2308.03904.

Shape letters: B models in the batch, N tokens, S values per token, L layers, Z latent size, P
projected size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTRASTS = ("nt_xent", "positive")
REDUCTIONS = ("global_mean", "layer_mean")


class ProjectionHead(nn.Sequential):
    """Perceptron that maps latent vectors (B, Z) to the vectors (B, P) that the contrast compares.

    Layer norms, where the published head has batch norms, let a batch have any size.
    """

    def __init__(
        self, latent: int, hidden: int = 128, projected: int = 32, layers: int = 2
    ) -> None:
        """Make the hidden layers and the output layer.

        Args:
            latent: Z, input width.
            hidden: width of the hidden layers.
            projected: P, output width.
            layers: number of hidden layers.
        """
        widths = [latent] + [hidden] * layers
        modules = list[nn.Module]()
        for size, wide in zip(widths, widths[1:], strict=False):
            modules += [nn.Linear(size, wide), nn.LayerNorm(wide), nn.ReLU()]
        super().__init__(*modules, nn.Linear(widths[-1], projected))


def contrast_loss(one: Tensor, other: Tensor, kind: str, temperature: float = 0.1) -> Tensor:
    """Compare two views of every model of a batch.

    Args:
        one: first views, (B, P).
        other: second views, (B, P), models in the same order.
        kind: contrast, one of `CONTRASTS`: "nt_xent" takes the other 2 B - 2 views as negatives;
            "positive" is the squared distance of the pair's cosine similarity to 1.
        temperature: divisor of the similarities; "nt_xent" only.

    Returns:
        Mean loss, a scalar.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind not in CONTRASTS:
        raise ValueError(f"contrast must be one of {CONTRASTS}, got {kind!r}")
    if kind == "positive":
        return (F.cosine_similarity(one, other) - 1).square().mean()
    views = F.normalize(torch.cat([one, other]), dim=1)
    similarity = views @ views.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf
    )
    partner = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity, partner)


def reconstruction_loss(
    errors: Tensor, mask: Tensor, layer: Tensor, reduction: str = "global_mean"
) -> Tensor:
    """Mean squared error of real values.

    For weights that were divided by the deviation of their layer this is the loss of
    arXiv:2209.14733, L = 1 / (M N) sum_i sum_l |w'_i^(l) - w_i^(l)|^2 / sigma_l^2.

    Args:
        errors: reconstructed minus true values, (B, N, S).
        mask: (N, S) or (B, N, S), bool, true on real values.
        layer: layer index of every token, from 0, (N,) or (B, N), int64.
        reduction: "global_mean" over all values, or "layer_mean", the mean over layers of each
            layer's mean.

    Returns:
        A scalar.

    Raises:
        ValueError: if the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    sums, counts = layer_errors(errors, mask, layer)
    if reduction == "global_mean":
        return sums.sum() / counts.sum()
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum()


def layer_errors(errors: Tensor, mask: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the squared errors of each layer.

    Args:
        errors: reconstructed minus true values, (B, N, S).
        mask: (N, S) or (B, N, S), bool, true on real values.
        layer: layer index of every token, from 0, (N,) or (B, N), int64.

    Returns:
        Sum of squares and number of real values per layer, each (L,).
    """
    real = mask.expand_as(errors)
    squares = torch.where(real, errors, 0).square().sum(-1)
    layers = layer.expand_as(squares).flatten()
    zeros = errors.new_zeros(int(layer.max()) + 1)
    sums = zeros.index_add(0, layers, squares.flatten())
    return sums, zeros.index_add(0, layers, real.sum(-1).to(errors.dtype).flatten())


def half_squared_distance(outputs: Tensor, others: Tensor) -> Tensor:
    """Mean over models of 1/2 ||f(x) - f(gx)||^2, the logit-invariance regulariser (def. C.1).

    The caller must pass outputs for function-preserving permutations g.

    Args:
        outputs: outputs f(x) of an encoder for weights x, (B, ...): its predictions, which is our
            reading of the source's "logit", or its embeddings.
        others: outputs f(gx) for the same networks with their hidden units in another order,
            (B, ...). Both should come from one batch, so that a batch norm treats them alike.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> from weightzoo.encoders import half_squared_distance
        >>> half_squared_distance(torch.ones(4, 1), torch.zeros(4, 1)).item()
        0.5
    """
    return 0.5 * (outputs - others).square().flatten(1).sum(dim=1).mean()
