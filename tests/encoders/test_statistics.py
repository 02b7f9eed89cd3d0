import numpy as np
import pytest
import torch

from weightzoo.encoders.statistics import (
    GROUPS,
    QUANTILES,
    STATISTICS,
    layer_statistics,
    pooled_statistics,
)
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.recipe import load_recipe


def batch_norm_table() -> LayerTable:
    return LayerTable.from_module(
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    )


def numpy_summary(values: np.ndarray) -> np.ndarray:
    variance = values.var(ddof=1) if len(values) > 1 else 0.0
    return np.array([values.mean(), variance, *np.quantile(values, QUANTILES)])


def test_statistics_match_numpy_on_every_tensor() -> None:
    table = load_recipe("digits-cnn").architecture.layer_table()
    weights = torch.randn(3, table.width, generator=torch.Generator().manual_seed(0))
    got = layer_statistics(weights, table)
    assert got.shape == (3, len(STATISTICS) * len(table)) and got.dtype == torch.float32
    for row, model in enumerate(weights.numpy().astype(np.float64)):
        parts = [model[spec.offset : spec.offset + spec.size] for spec in table]
        want = np.concatenate([numpy_summary(part) for part in parts])
        np.testing.assert_allclose(got[row].numpy(), want, rtol=1e-4, atol=1e-6)


def test_pooled_statistics_match_numpy_and_have_one_length_for_all_architectures() -> None:
    for recipe in ("digits-cnn", "digits-mlp"):
        table = load_recipe(recipe).architecture.layer_table()
        weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
        got = pooled_statistics(weights, table)
        assert got.shape == (2, GROUPS * len(STATISTICS)) and got.dtype == torch.float64
        model = weights[1].numpy().astype(np.float64)
        scaled = {
            role: [
                model[spec.offset : spec.offset + spec.size] * spec.fan_in**0.5
                for spec in table
                if spec.role == role
            ]
            for role in ("weight", "bias")
        }
        weight, bias = scaled["weight"], scaled["bias"]
        groups = [weight[:1], weight[-1:], bias[:1], bias[-1:], weight, bias]
        joined = [np.concatenate(group) for group in groups]
        want = [[v.mean(), v.var(), *np.quantile(v, QUANTILES)] for v in joined]
        np.testing.assert_allclose(got[1].numpy(), np.concatenate(want), rtol=1e-6)


def test_pooled_statistics_of_biases_are_zero_without_biases() -> None:
    table = LayerTable.from_module(torch.nn.Linear(4, 2, bias=False))
    got = pooled_statistics(torch.randn(3, table.width), table).unflatten(1, (GROUPS, -1))
    assert got[:, [0, 1, 4]].any(-1).all() and not got[:, [2, 3, 5]].any()


def test_statistics_of_known_values() -> None:
    table = LayerTable.from_module(torch.nn.Linear(4, 1))
    got = layer_statistics(torch.tensor([[4.0, 1.0, 3.0, 2.0, 7.0]]), table)
    weight = [2.5, 5 / 3, 1.0, 1.75, 2.5, 3.25, 4.0]
    bias = [7.0, 0.0, 7.0, 7.0, 7.0, 7.0, 7.0]  # one value has variance 0
    torch.testing.assert_close(got, torch.tensor([weight + bias]))


def test_statistics_ignore_order_inside_a_tensor_only() -> None:
    table = load_recipe("digits-cnn").architecture.layer_table()
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    shuffled = weights.clone()
    spec = table[2]
    part = slice(spec.offset, spec.offset + spec.size)
    shuffled[:, part] = weights[:, part][:, torch.randperm(spec.size)]
    assert not torch.equal(weights, shuffled)
    got, want = layer_statistics(shuffled, table), layer_statistics(weights, table)
    torch.testing.assert_close(got, want)
    mixed = weights.flip(1)  # moves values between tensors
    assert not torch.allclose(layer_statistics(mixed, table), want, atol=1e-3)


def test_statistics_leave_buffers_out() -> None:
    table = batch_norm_table()
    weights = torch.randn(2, table.width)
    parameters = sum(spec.role != "buffer" for spec in table)
    assert layer_statistics(weights, table).shape == (2, 7 * parameters)
    changed = weights.clone()
    for spec in table:
        if spec.role == "buffer":
            changed[:, spec.offset : spec.offset + spec.size] += 5
    assert torch.equal(layer_statistics(changed, table), layer_statistics(weights, table))


def test_statistics_reject_weights_of_another_table() -> None:
    with pytest.raises(ValueError, match=r"D=17.*got \(2, 13\)"):
        layer_statistics(torch.zeros(2, 13), batch_norm_table())


def test_statistics_of_huge_weights_are_finite() -> None:
    """Models that diverged without a loss that says so have such weights."""
    table = LayerTable.from_module(torch.nn.Linear(4, 1))
    got = layer_statistics(torch.tensor([[1e20, -1e20, 3.0, 2.0, 7.0]]), table)
    assert got.isfinite().all()
    assert got[0, STATISTICS.index("variance")] == torch.finfo(torch.float32).max
