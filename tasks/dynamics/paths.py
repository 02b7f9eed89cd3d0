"""Geometry of training trajectories: length, straightness, speed, angles and curvature.

A trajectory is the sequence of a model's checkpoints in weight space. Every value at a checkpoint
uses that checkpoint and earlier ones only, so that it can predict what follows. The checkpoints
sample the path of the optimiser; a sparser sample gives shorter and straighter paths, so compare
models with the same checkpoints.

Scale: rescaling a pair of layers of a ReLU network keeps its function and moves every measure
here, because distances in weight space change. The angles of a path that is rescaled as a whole by
one factor stay.

Shape letters: M models, K checkpoints, D length of the flat vector.
"""

import torch
from torch import Tensor

from .dimensions import participation_ratio

PATH_MEASURES = (
    "weight_norm",
    "step_norm",
    "path_speed",
    "step_cosine",
    "path_length",
    "path_distance",
    "path_straightness",
    "path_curvature",
    "path_turning",
    "path_dimension",
)


def path_measures(weights: Tensor, epochs: Tensor) -> dict[str, Tensor]:
    """Measure the trajectories of many models, checkpoint by checkpoint.

    With steps s_k = w_k - w_{k-1}:

    - weight_norm: |w_k|.
    - step_norm: |s_k|; path_speed: |s_k| per epoch.
    - step_cosine: cosine between s_k and s_{k-1}.
    - path_length: sum of |s_j| up to k; path_distance: |w_k - w_0|.
    - path_straightness: distance divided by length, 1 on a straight line.
    - path_curvature: Menger curvature of the last three checkpoints, 1 / R of the circle through
      them, see `menger_curvature`.
    - path_turning: sum of the angles between neighbouring steps up to k, in radians.
    - path_dimension: participation ratio of the checkpoints up to k, see `dimensions`.

    Sources: Frankle, Schwab and Morcos 2020, arXiv:2002.10365 (distances and cosines early in
    training); Goodfellow, Vinyals and Saxe 2015, arXiv:1412.6544 (straight paths). Cost: O(K D)
    operations per model, and O(K^2 D) for the dimension; no forward pass.

    Args:
        weights: flat weights, (M, K, D), in order of epoch.
        epochs: epoch of every checkpoint, (K,) or (M, K), rising.

    Returns:
        (M, K), float64, by name. A value that needs earlier checkpoints is NaN where there are too
        few; a value at or after a checkpoint that is not finite is NaN.

    Raises:
        ValueError: if the shapes do not fit, or the epochs do not rise.

    Example:
        >>> import torch
        >>> from weightzoo.tasks.dynamics.paths import path_measures
        >>> line = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]])
        >>> found = path_measures(line, torch.tensor([0, 1, 2]))
        >>> found["path_length"].tolist(), found["path_straightness"][0, 2].item()
        ([[0.0, 5.0, 10.0]], 1.0)
    """
    epochs = _checked(weights, epochs)
    path = weights.detach().double()
    steps = path.diff(dim=1)
    norms = steps.norm(dim=2)
    length = torch.cat([norms.new_zeros(len(path), 1), norms.cumsum(1)], dim=1)
    distance = (path - path[:, :1]).norm(dim=2)
    cosines = (steps[:, 1:] * steps[:, :-1]).sum(2) / (norms[:, 1:] * norms[:, :-1])
    angles = cosines.clamp(-1, 1).arccos()
    found = {
        "weight_norm": path.norm(dim=2),
        "step_norm": norms,
        "path_speed": norms / epochs.diff(dim=1),
        "step_cosine": cosines,
        "path_length": length,
        "path_distance": distance,
        "path_straightness": (distance / length)[:, 1:],
        "path_curvature": menger_curvature(path),
        "path_turning": angles.cumsum(1),
        "path_dimension": path_dimensions(path),
    }
    broken = ~path.isfinite().all(dim=2)
    unknown = broken.cumsum(1) > 0
    aligned = {name: _at_last_point(values, path.shape[1]) for name, values in found.items()}
    return {name: values.masked_fill(unknown, torch.nan) for name, values in aligned.items()}


def menger_curvature(path: Tensor) -> Tensor:
    """Inverse radius of the circle through each three neighbouring checkpoints.

    The formula is 2 sin(a) / |w_{k+1} - w_{k-1}|, with the angle a at w_k; it is 0 on a straight
    line. Source: Menger 1930, "Untersuchungen über allgemeine Metrik", Math. Ann. 103. Unit: one
    over the unit of the weights.

    Args:
        path: points, (M, K, D).

    Returns:
        (M, K - 2); NaN where two of three points coincide.
    """
    steps = path.diff(dim=1)
    before, after = steps[:, :-1], steps[:, 1:]
    norms = before.norm(dim=2) * after.norm(dim=2)
    cosines = ((before * after).sum(2) / norms).clamp(-1, 1)
    chord = (path[:, 2:] - path[:, :-2]).norm(dim=2)
    return 2 * (1 - cosines.square()).sqrt() / chord


def path_dimensions(path: Tensor) -> Tensor:
    """Participation ratio of the checkpoints up to each one, (M, K); NaN for the first.

    Only inner products enter: the variances of k points are the eigenvalues of their centred
    Gram matrix. One dimension is a straight line, two a circle.
    """
    moved = path - path[:, :1]
    gram = moved @ moved.mT  # (M, K, K)
    found = [gram.new_full((len(path),), torch.nan)]
    for count in range(2, path.shape[1] + 1):
        part = gram[:, :count, :count]
        rows = part.mean(2, keepdim=True)
        centred = part - rows - rows.mT + rows.mean(1, keepdim=True)
        trace = centred.diagonal(dim1=1, dim2=2).sum(1)
        found.append(participation_ratio(trace, centred.square().sum((1, 2))))
    return torch.stack(found, dim=1)


def _checked(weights: Tensor, epochs: Tensor) -> Tensor:
    """The epochs as (M or 1, K), float64."""
    epochs = torch.as_tensor(epochs, dtype=torch.float64)
    epochs = epochs[None] if epochs.dim() == 1 else epochs
    if weights.dim() != 3 or epochs.shape[1:] != weights.shape[1:2]:
        raise ValueError(
            f"weights must be (M, K, D) and epochs (K,) or (M, K), got {tuple(weights.shape)} and "
            f"{tuple(epochs.shape)}"
        )
    if (epochs.diff(dim=1) <= 0).any():
        raise ValueError("epochs must rise from checkpoint to checkpoint: sort the checkpoints")
    return epochs


def _at_last_point(values: Tensor, checkpoints: int) -> Tensor:
    """Values of the last n checkpoints as (M, K), with NaN for the first K - n."""
    missing = checkpoints - values.shape[1]
    start = values.new_full((len(values), missing), torch.nan)
    return torch.cat([start, values], dim=1)
