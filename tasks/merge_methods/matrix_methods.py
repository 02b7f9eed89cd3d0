"""Merges of task vectors as matrices: TSV-M, Iso-C, Iso-CTS, WUDI, RegMean.

They take one weight of all members, (M, O, I). `as_matrices` makes it of a convolution's kernels;
biases and norms are no matrices and are averaged by the caller.

Shape letters: M members, O outputs, I inputs, R singular directions.
"""

import torch
from torch import Tensor

COMMON_SHARE = 0.8  # of Iso-CTS's directions that come from the sum


def as_matrices(tensors: Tensor) -> Tensor:
    """Stacked tensors (M, O, ...) as (M, O, I): a kernel's inputs and places become one side."""
    return tensors.flatten(2)


def tsv_merge(taus_MOI: Tensor) -> Tensor:
    """Join the leading singular directions of the members, made orthogonal.

    Source: Gargiulo et al. 2024, arXiv:2412.00081 (TSV-M).
    """
    members, rank = len(taus_MOI), min(taus_MOI.shape[1:])
    kept = max(1, rank // members)
    u, s, vh = torch.linalg.svd(taus_MOI, full_matrices=False)
    left = torch.cat(list(u[:, :, :kept]), 1)
    right = torch.cat(list(vh[:, :kept]), 0)
    return _polar(left) @ (s[:, :kept].reshape(-1, 1) * _polar(right))


def iso_c_merge(taus_MOI: Tensor) -> Tensor:
    """The sum of the task vectors with all singular values replaced by their mean.

    Source: Marczak et al. 2025, arXiv:2502.04959 (Iso-C).
    """
    u, s, vh = torch.linalg.svd(taus_MOI.sum(0), full_matrices=False)
    return s.mean() * (u @ vh)


def iso_cts_merge(taus_MOI: Tensor, common_share: float = COMMON_SHARE) -> Tensor:
    """Directions of the sum and of each member apart from it, with equal singular values.

    Source: Marczak et al. 2025, arXiv:2502.04959 (Iso-CTS).

    Args:
        taus_MOI: task vectors.
        common_share: share of the directions that come from the sum.
    """
    members, rank = len(taus_MOI), min(taus_MOI.shape[1:])
    own = int(rank * (1 - common_share)) // members
    common = rank - own * members
    u, s, vh = torch.linalg.svd(taus_MOI.sum(0), full_matrices=False)
    left, values, right = [u[:, :common]], [s[:common]], [vh[:common]]
    rest = taus_MOI - left[0] @ (left[0].mT @ taus_MOI)
    for tau in rest if own else []:
        u, s, vh = torch.linalg.svd(tau, full_matrices=False)
        left.append(u[:, :own])
        values.append(s[:own])
        right.append(vh[:own])
    return torch.cat(values).mean() * (_polar(torch.cat(left, 1)) @ _polar(torch.cat(right, 0)))


def wudi_closed_form(taus_MOI: Tensor) -> Tensor:
    """The task vector of least interference, solved exactly.

    WUDI (Cheng et al. 2025, arXiv:2503.08099) minimises the sum over members of
    |(tau - tau_i) tau_i^T|^2 / |tau_i|^2 by gradient steps. The objective is a convex quadratic,
    whose minimum of least norm is taken here.
    """
    gram_MII = taus_MOI.mT @ taus_MOI / _squares(taus_MOI)
    return (taus_MOI @ gram_MII).sum(0) @ torch.linalg.pinv(gram_MII.sum(0), hermitian=True)


def wudi_steps(taus_MOI: Tensor, steps: int = 300, lr: float = 1e-5) -> Tensor:
    """As published: some steps of Adam from the sum, which stop early.

    Args:
        taus_MOI: task vectors.
        steps: number of steps.
        lr: step size, in units of the weights: the published one fits CLIP's.
    """
    tau = taus_MOI.sum(0).clone().requires_grad_()
    optimizer = torch.optim.Adam([tau], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.enable_grad():
            wudi_objective(tau, taus_MOI).backward()
        optimizer.step()
    return tau.detach()


def wudi_objective(tau_OI: Tensor, taus_MOI: Tensor) -> Tensor:
    """Interference of a merged task vector with those of the members.

    Args:
        tau_OI: merged task vector as a matrix.
        taus_MOI: task vectors of the members as matrices.
    """
    overlap = (tau_OI - taus_MOI) @ taus_MOI.mT
    return (overlap.square().sum((1, 2), keepdim=True) / _squares(taus_MOI)).sum()


def regmean_merge(weights_MOI: Tensor, grams_MII: Tensor, off_diagonal: float = 0.9) -> Tensor:
    """The weight whose outputs are closest to those of each member on its own inputs.

    Source: Jin et al. 2022, arXiv:2212.09849.

    Args:
        weights_MOI: weights of the members, or their task vectors.
        grams_MII: sum of x x^T over each member's inputs.
        off_diagonal: what the off-diagonal entries of the Gram matrices are multiplied with.
    """
    eye = torch.eye(grams_MII.shape[-1], dtype=torch.bool)
    grams = grams_MII.where(eye, grams_MII * off_diagonal)
    total, wanted = grams.sum(0), (weights_MOI @ grams).sum(0)
    silent = total.diagonal() <= 0  # inputs that no example uses: the plain mean is kept
    total = total + torch.diag(silent.to(total.dtype))
    wanted[:, silent] += weights_MOI.mean(0)[:, silent]
    return torch.linalg.solve(total, wanted, left=False)


def _polar(matrix: Tensor) -> Tensor:
    """The closest matrix with orthonormal rows or columns."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def _squares(taus_MOI: Tensor) -> Tensor:
    """(M, 1, 1): squared norms; 1 for a member that is the base."""
    squares = taus_MOI.square().sum((1, 2), keepdim=True)
    return squares.where(squares > 0, 1)
