"""Curvature of quadratic bowls and linear networks, whose Hessian is known."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.sharpness import (
    HessianProducts,
    Losses,
    extreme_eigenvalues,
    hessian_trace,
    m_sharpness,
    random_signs,
    random_start,
)


def bowl(hessian: Tensor) -> Losses:
    """Losses w H w / 2."""
    return lambda weights: (weights @ hessian * weights).sum(1) / 2


def symmetric(values: Tensor, seed: int = 0) -> Tensor:
    """A full matrix with given eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q
    return rotation @ values.diag() @ rotation.T


def draw(models: int, width: int, seed: int = 1) -> Tensor:
    """Random weights, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(models, width, generator=generator, dtype=torch.float64)


def test_products_are_those_of_the_hessian() -> None:
    hessian = symmetric(torch.linspace(-1, 4, 6, dtype=torch.float64))
    products = HessianProducts(bowl(hessian), draw(3, 6))
    vectors = draw(3, 6, seed=2)
    torch.testing.assert_close(products(vectors), vectors @ hessian)
    torch.testing.assert_close(products.gradient, draw(3, 6) @ hessian)


def test_a_linear_loss_has_no_curvature() -> None:
    products = HessianProducts(lambda weights: 3 * weights.sum(1), draw(2, 4))
    assert products(draw(2, 4)).abs().sum() == 0


def test_eigenvalues_are_the_ends_of_a_known_spectrum() -> None:
    values = torch.cat([torch.linspace(-0.5, 1, 58, dtype=torch.float64), torch.tensor([3, 9.0])])
    weights = draw(2, 60)
    products = HessianProducts(bowl(symmetric(values)), weights)
    largest, smallest = extreme_eigenvalues(products, random_start(weights, 0), 25)
    assert largest.tolist() == pytest.approx([9, 9])
    assert smallest.tolist() == pytest.approx([-0.5, -0.5], rel=1e-3)


def test_ritz_values_never_leave_the_spectrum() -> None:
    values = torch.linspace(0.1, 5, 40, dtype=torch.float64)
    weights = draw(1, 40)
    products = HessianProducts(bowl(symmetric(values)), weights)
    found = [extreme_eigenvalues(products, random_start(weights, 0), steps)[0] for steps in (2, 6)]
    assert found[0].item() <= found[1].item() <= 5 + 1e-9


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_exhausted_space_adds_no_eigenvalue(sign: float) -> None:
    """Three dimensions and twelve steps: a spurious 0 would be the largest of negative values."""
    values = sign * torch.tensor([2.0, 5.0, 7.0], dtype=torch.float64)
    weights = draw(2, 3)
    products = HessianProducts(bowl(symmetric(values)), weights)
    largest, smallest = extreme_eigenvalues(products, random_start(weights, 3), 12)
    assert largest.tolist() == pytest.approx([values.max().item()] * 2)
    assert smallest.tolist() == pytest.approx([values.min().item()] * 2)


def test_trace_of_a_diagonal_hessian_is_exact_with_one_probe() -> None:
    diagonal = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=torch.float64)
    products = HessianProducts(bowl(diagonal.diag()), draw(2, 4))
    assert hessian_trace(products, random_signs(1, draw(2, 4), 0)).tolist() == [4.5, 4.5]


def test_trace_of_a_full_hessian_comes_close_with_many_probes() -> None:
    values = torch.linspace(0, 4, 30, dtype=torch.float64)
    products = HessianProducts(bowl(symmetric(values)), draw(1, 30))
    found = hessian_trace(products, random_signs(2000, draw(1, 30), 0)).item()
    assert found == pytest.approx(60, rel=0.02)


def test_curvature_of_a_linear_network_is_its_closed_form() -> None:
    """Loss (a b - 1)^2 / 2 of weights (a, b): at a b = 1 the only curvature is a^2 + b^2."""
    weights = torch.tensor([[2.0, 0.5], [1.0, 1.0]], dtype=torch.float64)
    products = HessianProducts(lambda w: (w.prod(1) - 1).square() / 2, weights)
    largest, smallest = extreme_eigenvalues(products, random_start(weights, 0), 4)
    assert largest.tolist() == pytest.approx([4.25, 2])
    assert smallest.tolist() == pytest.approx([0, 0], abs=1e-9)
    trace = hessian_trace(products, random_signs(500, weights, 0))
    assert trace[1].item() == pytest.approx(2, abs=0.2)


def test_sharpness_of_a_round_bowl_is_its_closed_form() -> None:
    """h |w + r w / |w||^2 / 2 - h |w|^2 / 2 = h (r |w| + r^2 / 2)."""
    weights = draw(3, 5)
    rise = m_sharpness([bowl(3 * torch.eye(5, dtype=torch.float64))] * 2, weights, 0.1)
    assert rise.tolist() == pytest.approx((3 * (0.1 * weights.norm(dim=1) + 0.005)).tolist())


def test_adaptive_sharpness_of_a_bowl_moves_each_element_by_its_size() -> None:
    weights = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    rise = m_sharpness([bowl(torch.eye(2, dtype=torch.float64))], weights, 0.1, adaptive=True)
    step = 0.1 * torch.tensor([8.0, 1.0]) / 17**0.5  # w^2 g / |w g| with g = w
    wanted = ((weights + step).square().sum() - 5) / 2
    assert rise.item() == pytest.approx(wanted.item())


def test_a_model_is_measured_as_if_it_were_alone() -> None:
    hessian, weights = symmetric(torch.linspace(-1, 4, 9, dtype=torch.float64)), draw(3, 9)
    quartic: Losses = lambda w: (w @ hessian * w).sum(1) + w.pow(4).sum(1)  # noqa: E731
    found = []
    for part in (weights, weights[2:]):
        products = HessianProducts(quartic, part)
        largest, _ = extreme_eigenvalues(products, random_start(part, 0), 5)
        trace = hessian_trace(products, random_signs(3, part, 0))
        found.append((largest[-1].item(), trace[-1].item()))
    assert found[0] == pytest.approx(found[1])


def test_a_loss_that_is_not_finite_is_unknown_and_moves_no_other() -> None:
    weights = draw(2, 4)
    weights[0] = torch.nan
    products = HessianProducts(lambda w: w.pow(4).sum(1), weights)
    largest, smallest = extreme_eigenvalues(products, random_start(weights, 0), 4)
    assert largest[0].isnan() and smallest[0].isnan()
    assert largest[1].item() == pytest.approx(12 * weights[1].square().max().item())
