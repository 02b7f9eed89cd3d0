"""Spectra of weight matrices: effective rank, stable rank, spectral norm and heavy-tail exponent.

A convolution (O, I, k, k) is read in two ways. Ranks and norms take it as the matrix (O, I k k)
that maps a patch to channels. The exponent pools the singular values of its k k slices (O, I), as
WeightWatcher does by default.

Scale: ranks and the exponent of a matrix do not change when the matrix is scaled by one factor,
so they are the same after rescaling the layers of a ReLU network as wholes. Rescaling single
hidden units by different factors keeps the function and moves them. The spectral norm of a layer
moves in both cases; the mean of the logarithms stays in the first, where the factors cancel.

Shape letters: M models, O and I output and input units, k kernel side, S singular values of a
matrix, E eigenvalues, rising.
"""

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable, TensorSpec

LEAST_EIGENVALUES = 10  # of a layer; an exponent of fewer means nothing, as in WeightWatcher
LARGEST_RATIO = 1e-12  # eigenvalues below this share of the largest are rounding errors
SPECTRUM_MEASURES = ("effective_rank", "stable_rank", "log_spectral_norm", "alpha")


def spectrum_measures(weights: Tensor, table: LayerTable) -> dict[str, Tensor]:
    """Measure the weight matrices of many models, layer by layer.

    Cost: one singular value decomposition per layer and model, O(O I k k min(O, I k k)), and
    O(E^2) for the exponent; no forward pass, so any architecture with a layer table works.

    Args:
        weights: flat weights, (M, D); a model with values that are not finite gets NaN.
        table: layer table of the models.

    Returns:
        (M,), float64, under "MEASURE_LAYER" for every matrix, and under "MEASURE" for the mean over
        the matrices.
    """
    finite = weights.isfinite().all(dim=1)
    safe = torch.where(finite[:, None], weights, torch.zeros_like(weights)).double()
    found: dict[str, list[Tensor]] = {}
    columns: dict[str, Tensor] = {}
    for spec in matrices(table):
        matrix = safe[:, spec.offset : spec.offset + spec.size].unflatten(1, spec.shape)
        for name, values in _layer_measures(matrix).items():
            values = values.masked_fill(~finite, torch.nan)
            columns[f"{name}_{column_word(spec.layer)}"] = values
            found.setdefault(name, []).append(values)
    return {name: _mean_known(torch.stack(values)) for name, values in found.items()} | columns


def matrices(table: LayerTable) -> list[TensorSpec]:
    """Weights of linear layers, convolutions and attentions with at least two rows and columns."""
    return [
        spec
        for spec in table
        if spec.role == "weight" and len(spec.shape) >= 2 and spec.shape[0] > 1 and spec.fan_in > 1
    ]


def column_word(layer: str) -> str:
    """The name of a layer as part of a column's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in layer)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of weights (M, O, I, ...) as matrices (O, I ...), falling, (M, S)."""
    return torch.linalg.svdvals(matrix.flatten(2).double())


def effective_rank(values: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values divided by their sum, (...,).

    It is S for equal singular values and 1 for one. Source: Roy and Vetterli 2007, "The effective
    rank: a measure of effective dimensionality", EUSIPCO.

    Args:
        values: singular values, (..., S).
    """
    shares = values / values.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def stable_rank(values: Tensor) -> Tensor:
    """Sum of squared singular values divided by the largest squared one, (...,).

    Source: Rudelson and Vershynin 2007, arXiv:math/0503442.

    Args:
        values: singular values, falling, (..., S).
    """
    return values.square().sum(-1) / values[..., 0].square()


def pooled_eigenvalues(matrix: Tensor) -> Tensor:
    """Squared singular values of weights (M, O, I), or of all slices of (M, O, I, k, k), rising.

    Returns:
        (M, E), E = min(O, I) times the number of slices.
    """
    slices = matrix.flatten(3) if matrix.dim() > 3 else matrix[..., None]  # (M, O, I, slices)
    values = torch.linalg.svdvals(slices.permute(0, 3, 1, 2).double())
    return values.square().flatten(1).sort(dim=1).values


def heavy_tail_exponent(eigenvalues: Tensor) -> Tensor:
    """Exponent alpha of a power law p(x) ~ x^-alpha fitted to the tail of each spectrum.

    For every start x_min of the tail alpha is the maximum-likelihood estimate 1 + n / sum log(x /
    x_min) over the n values from x_min on; the start with the smallest Kolmogorov-Smirnov distance
    is chosen. Sources: Clauset, Shalizi and Newman 2009, arXiv:0706.1062; Martin and Mahoney 2021,
    arXiv:1810.01075, who fit squared singular values, and their package WeightWatcher, which
    compares with the empirical distribution (0, 1, ..., n - 1) / n, as done here.

    Args:
        eigenvalues: rising, (M, E); values that are tiny against the largest are left out.

    Returns:
        (M,), float64; NaN where fewer than `LEAST_EIGENVALUES` are left.
    """
    found = [_exponent(row) for row in eigenvalues.double()]
    return torch.stack(found) if found else eigenvalues.new_empty(0).double()


def _exponent(eigenvalues: Tensor) -> Tensor:
    """The exponent of one spectrum; all starts of the tail at once."""
    values = eigenvalues[eigenvalues > LARGEST_RATIO * eigenvalues[-1]]
    count = len(values)
    if count < LEAST_EIGENVALUES:
        return values.new_tensor(torch.nan)
    logs = values.log()
    sizes = torch.arange(count, 1, -1, dtype=torch.float64, device=values.device)  # n of each start
    tails = logs.flip(0).cumsum(0).flip(0)[:-1]
    alphas = 1 + sizes / (tails - sizes * logs[:-1])
    exceeded = (logs[None] - logs[:-1, None]) * (1 - alphas)[:, None]  # log of (x / x_min)^(1 - a)
    ranks = torch.arange(count, device=values.device)[None] - torch.arange(
        count - 1, device=values.device
    ).unsqueeze(1)
    distances = (1 - exceeded.exp() - ranks / sizes[:, None]).abs()
    distances = distances.masked_fill(ranks < 0, 0).amax(1).masked_fill(~alphas.isfinite(), 1)
    return alphas[distances.argmin()]


def _layer_measures(matrix: Tensor) -> dict[str, Tensor]:
    values = singular_values(matrix)
    return {
        "effective_rank": effective_rank(values),
        "stable_rank": stable_rank(values),
        "log_spectral_norm": values[:, 0].log10(),
        "alpha": heavy_tail_exponent(pooled_eigenvalues(matrix)),
    }


def _mean_known(values: Tensor) -> Tensor:
    """Mean over layers (L, M) of the values that are known; NaN where none is."""
    return values.nanmean(0)
