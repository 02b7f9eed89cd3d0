"""Barriers of wells, bowls and permuted networks."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.barriers import barriers, line_losses


def wells(weights: Tensor) -> Tensor:
    """Double well with minima 0 at -1 and 1, and height 1 at 0."""
    return (weights.square() - 1).square().sum(1)


def test_barrier_between_two_wells_is_their_height() -> None:
    curve = line_losses(wells, torch.tensor([[-1.0]]), torch.tensor([[1.0]]), 5)
    assert curve[0].tolist() == pytest.approx([0, 0.5625, 1, 0.5625, 0])
    assert barriers(curve).tolist() == [1]


def test_a_convex_loss_has_no_barrier() -> None:
    first, second = torch.tensor([[3.0, -1.0]]), torch.tensor([[-2.0, 4.0]])
    curve = line_losses(lambda w: w.square().sum(1), first, second, 9)
    assert barriers(curve).tolist() == [0]


def test_a_barrier_is_above_the_line_between_unequal_ends() -> None:
    """Ends 0 and 2: the line has 1 in the middle, so a loss of 1.5 is a barrier of 0.5."""
    curves = torch.tensor([[0.0, 1.5, 2.0], [0.0, 0.5, 2.0]])
    assert barriers(curves).tolist() == [0.5, 0]


def test_a_loss_that_is_not_finite_makes_its_barrier_unknown() -> None:
    found = barriers(torch.tensor([[0.0, torch.inf, 2.0], [0.0, 2.0, 2.0]]))
    assert found[0].isnan() and found[1].item() == 1


def test_a_line_of_two_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 points"):
        line_losses(wells, torch.zeros(1, 1), torch.ones(1, 1), 2)
