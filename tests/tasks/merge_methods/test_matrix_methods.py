"""Golden tests of merges of matrices."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.merge_methods.matrix_methods import (
    as_matrices,
    iso_c_merge,
    iso_cts_merge,
    regmean_merge,
    tsv_merge,
    wudi_closed_form,
    wudi_objective,
    wudi_steps,
)

SHAPES = [(9, 6), (6, 9), (6, 6)]


def taus(members: int, shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(members)
    return torch.randn(members, *shape, generator=generator, dtype=torch.float64)


def singular_values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix)


@pytest.mark.parametrize("shape", SHAPES)
def test_tsv_of_one_task_is_that_task(shape: tuple[int, int]) -> None:
    assert torch.allclose(tsv_merge(taus(1, shape)), taus(1, shape)[0])


def test_tsv_of_tasks_in_orthogonal_spaces_keeps_the_leading_part_of_each() -> None:
    one, two = torch.zeros(2, 6, 6, dtype=torch.float64)
    one[:3, :3], two[3:, 3:] = taus(2, (3, 3))
    assert torch.allclose(tsv_merge(torch.stack([one, two])), one + two)


@pytest.mark.parametrize("shape", SHAPES)
def test_iso_c_has_equal_singular_values_with_the_mean_of_the_sum(shape: tuple[int, int]) -> None:
    values = singular_values(iso_c_merge(taus(3, shape)))
    wanted = singular_values(taus(3, shape).sum(0)).mean()
    assert torch.allclose(values, wanted.expand_as(values))


@pytest.mark.parametrize("shape", SHAPES)
def test_iso_cts_has_equal_singular_values_of_full_rank(shape: tuple[int, int]) -> None:
    values = singular_values(iso_cts_merge(taus(2, shape), common_share=0.5))
    assert len(values) == 6 and torch.allclose(values, values[0].expand_as(values))


def test_iso_cts_with_common_directions_only_is_iso_c() -> None:
    assert torch.allclose(iso_cts_merge(taus(2, (6, 6)), 1.0), iso_c_merge(taus(2, (6, 6))))


def test_wudi_closed_form_equals_a_numerical_minimiser() -> None:
    members = taus(3, (5, 4))
    tau = members.sum(0).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [tau],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = wudi_objective(tau, members)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(wudi_closed_form(members), tau.detach(), atol=1e-6)


def test_wudi_of_identical_members_is_that_member_even_where_the_minimum_is_not_unique() -> None:
    wide = taus(1, (3, 8)).repeat(2, 1, 1)
    assert torch.allclose(wudi_closed_form(wide), wide[0])


def test_wudi_steps_lower_the_objective_from_the_sum() -> None:
    members = taus(3, (5, 4))
    start, end = members.sum(0), wudi_steps(members, steps=50, lr=1e-2)
    best = wudi_objective(wudi_closed_form(members), members)
    assert best < wudi_objective(end, members) < wudi_objective(start, members)


def test_regmean_is_the_least_squares_solution() -> None:
    weights = taus(2, (3, 4))
    inputs = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    merged = regmean_merge(weights, inputs.mT @ inputs, off_diagonal=1.0)
    wanted = torch.cat([x @ w.T for x, w in zip(inputs, weights, strict=True)])
    solved = torch.linalg.lstsq(torch.cat(list(inputs)), wanted).solution.T
    assert torch.allclose(merged, solved)


def test_regmean_averages_inputs_that_no_example_uses() -> None:
    weights, inputs = taus(2, (3, 4)), torch.randn(2, 50, 4, dtype=torch.float64)
    inputs[:, :, 1] = 0
    merged = regmean_merge(weights, inputs.mT @ inputs)
    assert torch.allclose(merged[:, 1], weights[:, :, 1].mean(0))


def test_kernels_become_matrices_and_back() -> None:
    kernels = torch.randn(2, 4, 3, 5, 5)
    assert as_matrices(kernels).shape == (2, 4, 75)
    assert torch.equal(as_matrices(kernels).view_as(kernels), kernels)
