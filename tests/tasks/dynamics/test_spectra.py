"""Spectra of matrices with known singular values, and of samples of a known power law."""

import math

import pytest
import torch
from torch import Tensor, nn

from weightzoo.tasks.dynamics.spectra import (
    LEAST_EIGENVALUES,
    effective_rank,
    heavy_tail_exponent,
    pooled_eigenvalues,
    singular_values,
    spectrum_measures,
    stable_rank,
)
from weightzoo.zoos.networks.layer_table import LayerTable


def matrix_of(values: list[float], rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with given singular values, (1, O, I)."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64)).Q
        for n in (rows, columns)
    )
    return (left * torch.tensor(values, dtype=torch.float64) @ right.T)[None]


def test_ranks_of_equal_singular_values_are_their_number() -> None:
    values = singular_values(matrix_of([2.0] * 4, 6, 9))
    assert effective_rank(values[:, :4]).item() == pytest.approx(4)
    assert stable_rank(values).item() == pytest.approx(4)


def test_ranks_of_a_matrix_with_two_singular_values_are_their_formulas() -> None:
    values = singular_values(matrix_of([3.0, 1.0], 5, 4))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(values).item() == pytest.approx(math.exp(entropy))
    assert stable_rank(values).item() == pytest.approx(10 / 9)


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
def test_exponent_of_quantiles_of_a_power_law_is_its_exponent(alpha: float) -> None:
    """Quantiles of p(x) ~ x^-alpha from x_min = 0.5 on."""
    levels = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    values = 0.5 * (1 - levels) ** (-1 / (alpha - 1))
    assert heavy_tail_exponent(values[None]).item() == pytest.approx(alpha, rel=0.01)


def test_exponent_leaves_out_a_bulk_below_the_tail() -> None:
    levels = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tail = 10 * (1 - levels) ** (-1 / 2.0)  # alpha = 3
    bulk = torch.linspace(4, 6, 1500, dtype=torch.float64)
    found = heavy_tail_exponent(torch.cat([bulk, tail])[None]).item()
    assert found == pytest.approx(3, rel=0.02)


def test_exponent_of_few_eigenvalues_is_unknown() -> None:
    values = torch.rand(1, LEAST_EIGENVALUES - 1).sort().values
    assert heavy_tail_exponent(values).isnan().all()
    with_zeros = torch.cat([torch.zeros(1, 5), values], dim=1)
    assert heavy_tail_exponent(with_zeros).isnan().all()


def test_eigenvalues_of_a_convolution_are_those_of_its_slices() -> None:
    kernel = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    found = pooled_eigenvalues(kernel)
    slices = [kernel[1, :, :, i, j].double() for i in range(2) for j in range(2)]
    wanted = torch.cat([torch.linalg.svdvals(one).square() for one in slices]).sort().values
    assert found.shape == (2, 12)
    torch.testing.assert_close(found[1], wanted)
    dense = torch.randn(1, 5, 3)
    torch.testing.assert_close(
        pooled_eigenvalues(dense)[0], torch.linalg.svdvals(dense[0].double()).square().flip(0)
    )


def test_scaling_a_matrix_moves_its_norm_only() -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 11)))
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    once, thrice = spectrum_measures(weights, table), spectrum_measures(3 * weights, table)
    assert {"alpha", "alpha_0", "alpha_2", "effective_rank_0", "stable_rank_2"} <= set(once)
    for name in once:
        moved = math.log10(3) if "norm" in name else 0.0
        torch.testing.assert_close(thrice[name], once[name] + moved)


def test_scaling_single_hidden_units_moves_the_ranks() -> None:
    """Rescaling unit by unit keeps the function of a ReLU network, and these measures move."""
    table = LayerTable.from_module(nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 11)))
    weights = torch.randn(1, table.width, generator=torch.Generator().manual_seed(0))
    factors = torch.linspace(0.2, 4, 12)
    moved = weights.clone()
    tensors = table.split(moved)
    tensors["0.weight"].mul_(factors[:, None])
    before, after = spectrum_measures(weights, table), spectrum_measures(moved, table)
    assert (before["effective_rank_0"] - after["effective_rank_0"]).abs().item() > 0.5


def test_a_model_that_is_not_finite_is_unknown_and_moves_no_other() -> None:
    table = LayerTable.from_module(nn.Linear(16, 12))
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    alone = spectrum_measures(weights[1:], table)
    weights[0, 3] = torch.nan
    together = spectrum_measures(weights, table)
    for name, values in together.items():
        assert values[0].isnan() and values[1] == pytest.approx(alone[name][0].item())
