"""What autoencoders of weights are trained for: reconstruction by layer, and contrast of views.

Sources: hyper-representations, arXiv 2110.15288 (NT-Xent after Chen et al. 2020, arXiv 2002.05709,
and the contrast of positive pairs alone) and 2209.14733 (loss by layer).

Shape letters: B models in the batch, N tokens, S values per token, L layers, Z latent size, P
projected size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTRASTS = ("nt_xent", "positive")
REDUCTIONS = ("global_mean", "layer_mean")


class ProjectionHead(nn.Sequential):
    """Latent vectors (B, Z) to those that the contrast compares, (B, P).

    Layer norms, where the published head has batch norms, let a batch have any size.
    """

    def __init__(
        self, latent: int, hidden: int = 128, projected: int = 32, layers: int = 2
    ) -> None:
        """Make `layers` layers of width `hidden` and one to `projected`."""
        widths = [latent] + [hidden] * layers
        modules = list[nn.Module]()
        for size, wide in zip(widths, widths[1:], strict=False):
            modules += [nn.Linear(size, wide), nn.LayerNorm(wide), nn.ReLU()]
        super().__init__(*modules, nn.Linear(widths[-1], projected))


def contrast_loss(one: Tensor, other: Tensor, kind: str, temperature: float = 0.1) -> Tensor:
    """Compare two views of every model of a batch.

    Args:
        one: (B, P).
        other: (B, P), in the same order.
        kind: "nt_xent", where the other 2 B - 2 views are negatives, or "positive", the squared
            distance of the pair's cosine to 1.
        temperature: of nt_xent.

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

    Of weights that were divided by the deviation of their layer it is the loss of arXiv 2209.14733,
    L = 1 / (M N) sum_i sum_l |w'_i^(l) - w_i^(l)|^2 / sigma_l^2.

    Args:
        errors: (B, N, S), reconstructed minus true.
        mask: (N, S) or (B, N, S), bool, true on real values.
        layer: (N,) or (B, N), int64, a number from 0 for the layer of every token.
        reduction: "global_mean" over all values, or "layer_mean", the mean over layers of each
            layer's mean.

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
    """Sum of squares and number of real values of every layer, each (L,); as above."""
    real = mask.expand_as(errors)
    squares = torch.where(real, errors, 0).square().sum(-1)
    places = layer.expand_as(squares).flatten()
    zeros = errors.new_zeros(int(layer.max()) + 1)
    sums = zeros.index_add(0, places, squares.flatten())
    return sums, zeros.index_add(0, places, real.sum(-1).to(errors.dtype).flatten())
