"""Intrinsic dimension of a set of points: PCA, participation ratio and two nearest neighbours.

Scale: none of the three changes when all points are scaled by one factor. Rescaling the layers of
ReLU networks, by another factor for each network, keeps the functions and moves all three.

Shape letters: N points, D length of a vector.
"""

import torch
from torch import Tensor

BLOCK = 1024  # points whose distances to all others are computed at once
SHARES = (0.9, 0.95)
FAR = 10.0  # times the median norm, above which a point is an outlier


def principal_variances(points: Tensor) -> Tensor:
    """Variances along the principal components, falling, (min(N, D),), float64.

    They are the eigenvalues of the centred Gram or covariance matrix, whichever is smaller. Cost:
    O(N D min(N, D)).

    Args:
        points: finite points, (N, D), N at least 2.

    Raises:
        ValueError: if there are fewer than two points, or a value is not finite.
    """
    centred = _checked(points)
    centred = centred - centred.mean(0)
    wide = centred.shape[1] > centred.shape[0]
    matrix = centred @ centred.T if wide else centred.T @ centred
    return torch.linalg.eigvalsh(matrix).flip(0).clamp_min(0) / (len(points) - 1)


def participation_ratio(total: Tensor, squares: Tensor) -> Tensor:
    """(sum of variances)^2 / (sum of squared variances): an effective number of dimensions.

    It is D for equal variances in D dimensions, and 1 for points on a line. Source: Gao et al.
    2017, "A theory of multineuronal dimensionality, dynamics and measurement", bioRxiv 214262.

    Args:
        total: sum of the variances.
        squares: sum of the squared variances.
    """
    return total.square() / squares


def components_for(variances: Tensor, share: float) -> int:
    """Least number of principal components that hold a share of the variance.

    Args:
        variances: variances, falling.
        share: share of their sum, above 0 and at most 1.
    """
    held = variances.cumsum(0) / variances.sum()
    return int((held < share - 1e-12).sum()) + 1


def two_nn(points: Tensor) -> float:
    """Intrinsic dimension from the ratio of the distances to the two nearest neighbours.

    With the ratio m_i of the second to the first distance the estimate is (N - 1) / sum log m_i;
    the density of the points must be about constant between neighbours. Source: Facco et al. 2017,
    "Estimating the intrinsic dimension of datasets by a minimal neighborhood information", Sci.
    Rep. 7:12140. Differs from it: the maximum-likelihood estimate without bias takes the place of
    a line fit to the lower 90 % of the ratios. It saturates for high dimensions: N points tell
    dimensions above about 2 log2 N apart badly. Cost: O(N^2 D).

    Args:
        points: finite points, (N, D), N at least 3; points that coincide count once.

    Raises:
        ValueError: if there are fewer than three different points, or a value is not finite.
    """
    points = _checked(points).unique(dim=0)
    if len(points) < 3:
        raise ValueError(f"two-NN needs 3 different points, got {len(points)}")
    ratios = [_ratios(points, start) for start in range(0, len(points), BLOCK)]
    return float((len(points) - 1) / torch.cat(ratios).log().sum())


def dimension_report(points: Tensor) -> dict[str, float]:
    """All dimensions of one set of points, by name.

    Args:
        points: finite points, (N, D), N at least 3.
    """
    variances = principal_variances(points)
    shares = {
        f"components_{share:.0%}".rstrip("%"): components_for(variances, share) for share in SHARES
    }
    return {
        "participation_ratio": float(
            participation_ratio(variances.sum(), variances.square().sum())
        ),
        **shares,
        "two_nn": two_nn(points),
    }


def typical(points: Tensor, far: float = FAR) -> Tensor:
    """Whether a point is finite and no farther from the origin than `far` median norms, (N,).

    One network whose weights exploded would make every variance its own.

    Args:
        points: points, (N, D).
        far: limit, in units of the median norm of the finite points.
    """
    norms = points.double().norm(dim=1)
    finite = norms.isfinite()
    return finite & (norms <= far * norms[finite].median())


def _ratios(points: Tensor, start: int) -> Tensor:
    """Ratio of the second to the first distance of a block of points."""
    near = torch.cdist(
        points[start : start + BLOCK], points, compute_mode="donot_use_mm_for_euclid_dist"
    )
    near = near.topk(3, dim=1, largest=False).values  # the first is the point itself
    return near[:, 2] / near[:, 1]


def _checked(points: Tensor) -> Tensor:
    if points.dim() != 2 or len(points) < 2 or not points.isfinite().all():
        raise ValueError(
            f"points must be finite and (N, D) with N from 2, got {tuple(points.shape)} with "
            f"{int((~points.isfinite()).sum())} values that are not finite"
        )
    return points.detach().double()
