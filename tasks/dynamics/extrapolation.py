"""Extrapolation of series of checkpoints: last value, line, power law, and learned steps.

A series is an accuracy, or every weight of a network (nowcasting). Learned steps predict the move
of a weight from its last moves, with coefficients that all weights of a tensor share. They are a
linear form of Introspection (Sinha et al. 2017, arXiv:1704.04959) and of the weight nowcaster
network (Jang, Han and Kim 2023), which read the last values of a weight by a small network; NiNo
(Knyazev et al. 2025, arXiv:2409.04434) adds the neurons that weights connect.

Shape letters: M models, K known checkpoints, V values of a series set (1 for an accuracy, D for
weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable

LINE_POINTS = 3
EXPONENTS = (0.25, 0.5, 1.0, 2.0, 4.0)
RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def last_value(series: Tensor) -> Tensor:
    """The last known value, (M, V), of series (M, K, V)."""
    return series[:, -1]


def line(series: Tensor, epochs: Tensor, target: float, points: int = LINE_POINTS) -> Tensor:
    """The least-squares line through the last points, at another epoch.

    Args:
        series: known values, (M, K, V).
        epochs: their epochs, (K,).
        target: epoch to predict.
        points: number of last points of the fit, at least 2.

    Returns:
        (M, V).

    Example:
        >>> import torch
        >>> from weightzoo.tasks.dynamics.extrapolation import line
        >>> line(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([0, 1, 2]), 10).tolist()
        [[11.0]]
    """
    return _fitted(series[:, -points:], epochs[-points:].double(), float(target))


def power_law(series: Tensor, epochs: Tensor, target: float, exponent: float) -> Tensor:
    """The least-squares curve a + b (epoch + 1)^-exponent, at another epoch.

    Args:
        series: known values, (M, K, V), K at least 2.
        epochs: their epochs, (K,).
        target: epoch to predict.
        exponent: exponent above 0.

    Returns:
        (M, V).
    """
    return _fitted(series, (epochs.double() + 1) ** -exponent, (float(target) + 1) ** -exponent)


@dataclass(frozen=True)
class LearnedSteps:
    """Moves of weights from their last moves, one linear map per tensor of the network.

    Attributes:
        table: layer table of the networks.
        coefficients: coefficients of each tensor, (features,).
    """

    table: LayerTable
    coefficients: tuple[Tensor, ...]

    @classmethod
    def fit(
        cls, table: LayerTable, series: Tensor, target: Tensor, ridge: float = 0.0
    ) -> "LearnedSteps":
        """Least squares over all weights of all models; closed form.

        Every model counts equally: its moves are divided by the size of its last step.

        Args:
            table: layer table of the networks.
            series: known weights, (M, K, D), K at least 2.
            target: later weights, (M, D).
            ridge: penalty, as a share of the mean square of the features.
        """
        features, moves = _moves(series), (target - series[:, -1]).double()
        scale = _scale(series)
        features, moves = features / scale[..., None], moves / scale
        found = []
        for spec in table:
            part = slice(spec.offset, spec.offset + spec.size)
            x, y = features[:, part].flatten(0, 1), moves[:, part].flatten()
            gram = x.T @ x
            penalty = ridge * gram.diagonal().mean() + torch.finfo(torch.float64).tiny
            eye = torch.eye(len(gram), dtype=torch.float64)
            found.append(
                torch.linalg.lstsq(gram + penalty * eye, (x.T @ y)[:, None]).solution[:, 0]
            )
        return cls(table, tuple(found))

    def predict(self, series: Tensor) -> Tensor:
        """Later weights, (M, D), from known weights (M, K, D)."""
        features, moved = _moves(series), series[:, -1].double().clone()
        for spec, own in zip(self.table, self.coefficients, strict=True):
            part = slice(spec.offset, spec.offset + spec.size)
            moved[:, part] += features[:, part] @ own
        return moved.to(series.dtype)


def relative_errors(predicted: Tensor, last: Tensor, target: Tensor) -> Tensor:
    """Squared distance to the later weights, divided by that of the last known ones, (M,).

    Args:
        predicted: predicted weights, (M, D).
        last: last known weights, (M, D).
        target: later weights, (M, D).
    """
    wrong = (predicted.double() - target).square().sum(1)
    return wrong / (last.double() - target).square().sum(1)


def best_exponent(
    series: Tensor,
    epochs: Tensor,
    target: Tensor,
    at: float,
    exponents: Sequence[float] = EXPONENTS,
) -> float:
    """The exponent of `power_law` with the least mean squared error.

    Args:
        series: known values, (M, K, V).
        epochs: their epochs, (K,).
        target: true later values, (M, V).
        at: epoch of the later values.
        exponents: exponents to try.
    """
    errors = [
        float((power_law(series, epochs, at, one) - target).square().mean()) for one in exponents
    ]
    return exponents[errors.index(min(errors))]


def _fitted(series: Tensor, x: Tensor, at: float) -> Tensor:
    """Value of the least-squares line of series over x at another x, (M, V)."""
    values = series.double()
    centred = x - x.mean()
    slope = (values * centred[:, None]).sum(1) / centred.square().sum()
    return (values.mean(1) + slope * (at - x.mean())).to(series.dtype)


def _moves(series: Tensor) -> Tensor:
    """Features of every weight, (M, D, K): its moves between checkpoints, and its last value."""
    series = series.double()
    return torch.cat([series.diff(dim=1), series[:, -1:]], dim=1).transpose(1, 2)


def _scale(series: Tensor) -> Tensor:
    """Root mean square of the last step of each model, (M, 1)."""
    step = (series[:, -1] - series[:, -2]).double()
    return step.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
