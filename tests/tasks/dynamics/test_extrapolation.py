"""Extrapolation of lines and power laws, and learned steps of a known linear law."""

import pytest
import torch
from torch import nn

from weightzoo.tasks.dynamics.extrapolation import (
    LearnedSteps,
    best_exponent,
    last_value,
    line,
    power_law,
    relative_errors,
)
from weightzoo.zoos.networks.layer_table import LayerTable

EPOCHS = torch.tensor([0, 1, 2, 4])


def test_a_line_continues_a_line() -> None:
    series = (2 - 3 * EPOCHS.double())[None, :, None].expand(2, 4, 5)
    torch.testing.assert_close(line(series, EPOCHS, 12), torch.full((2, 5), -34.0).double())
    assert last_value(series)[0, 0] == -10


def test_a_line_uses_the_last_points_only() -> None:
    series = torch.tensor([50.0, 1.0, 2.0, 4.0])[None, :, None]
    assert line(series, EPOCHS, 10).item() == pytest.approx(10)


@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_a_power_law_continues_its_curve_and_its_exponent_is_found(exponent: float) -> None:
    scale = torch.tensor([[1.0, -2.0]]).double()[:, None]
    curve = 3 + scale * (EPOCHS.double()[None, :, None] + 1) ** -exponent
    wanted = 3 + scale[:, 0] * 13**-exponent
    torch.testing.assert_close(power_law(curve, EPOCHS, 12, exponent), wanted)
    assert best_exponent(curve, EPOCHS, wanted, 12) == exponent


def test_learned_steps_find_the_law_of_each_tensor() -> None:
    table = LayerTable.from_module(nn.Linear(7, 3))
    series = torch.randn(20, 3, table.width, generator=torch.Generator().manual_seed(0)).double()
    step = series[:, 2] - series[:, 1]
    factors = torch.where(torch.arange(table.width) < 21, 2.0, -0.5)  # weight and bias
    target = series[:, 2] + factors * step
    learned = LearnedSteps.fit(table, series[:10], target[:10])
    torch.testing.assert_close(learned.predict(series), target)
    assert relative_errors(learned.predict(series), series[:, 2], target).max() < 1e-9


def test_relative_error_of_the_last_value_is_one() -> None:
    last, target = torch.zeros(2, 3), torch.ones(2, 3)
    assert relative_errors(last, last, target).tolist() == [1, 1]
    assert relative_errors(target, last, target).tolist() == [0, 0]
