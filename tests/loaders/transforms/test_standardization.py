"""Standardisation: measured on the train split, layer by layer, and undone again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.loaders.transforms import standardization as module
from weightzoo.loaders.transforms.standardization import LayerStandardization, standardized_parts
from weightzoo.zoos.networks.layer_table import LayerTable


def layer_values(table: LayerTable, weights: Tensor, layer: str) -> Tensor:
    """(B, values of the layer's weight and bias)."""
    views = table.split(weights)
    return torch.cat([views[s.name].flatten(1) for s in table if s.layer == layer], dim=1)


def test_every_layer_of_the_train_split_has_mean_zero_and_variance_one(train: ZooDataset) -> None:
    standardized = LayerStandardization.fit(train).apply(train.weights())
    assert list(standardized_parts(train.layer_table)) == ["conv1", "linear1", "linear2"]
    for layer in standardized_parts(train.layer_table):
        values = layer_values(train.layer_table, standardized.double(), layer)
        assert values.mean().abs() < 1e-6
        assert (values.var(1, correction=0).mean() - 1).abs() < 1e-5


def test_numbers_are_the_means_over_models_of_their_moments(train: ZooDataset) -> None:
    fitted = LayerStandardization.fit(train)
    values = layer_values(train.layer_table, train.weights().double(), "linear1")
    assert fitted.mean[1] == pytest.approx(float(values.mean(1).mean()), rel=1e-12)
    variance = ((values - values.mean(1, keepdim=True)) ** 2).mean(1)
    assert fitted.deviation[1] == pytest.approx(float(variance.mean().sqrt()), rel=1e-12)


def test_blocks_of_any_size_give_the_same(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LayerStandardization.fit(train)
    monkeypatch.setattr(module, "BLOCK_BYTES", 5 * 8 * train.layer_table.width)
    blocks = LayerStandardization.fit(train)
    assert blocks.mean == pytest.approx(whole.mean, rel=1e-12)
    assert blocks.deviation == pytest.approx(whole.deviation, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_gives_back_the_weights(train: ZooDataset, dtype: torch.dtype) -> None:
    fitted, weights = LayerStandardization.fit(train), train.weights().to(dtype)
    standardized = fitted.apply(weights)
    assert standardized.dtype == dtype
    torch.testing.assert_close(fitted.inverse(standardized), weights)


def test_other_splits_are_refused_even_if_the_column_was_not_loaded(sharded_zoo: Path) -> None:
    for columns in (None, ["epoch"]):
        zoo = load_zoo(sharded_zoo, split="val", columns=columns)
        with pytest.raises(ValueError, match=r"train split alone, got rows of \['val'\]"):
            LayerStandardization.fit(zoo)
    with pytest.raises(ValueError, match="no rows to fit the standardization to"):
        LayerStandardization.fit(load_zoo(sharded_zoo, split="train").select([]))


def test_diverged_models_are_refused(train: ZooDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = train.weights()
    weights[3, 7] = float("inf")
    monkeypatch.setattr(ZooDataset, "weights", lambda self, index: weights[index])
    with pytest.raises(ValueError, match="status == 'ok'"):
        LayerStandardization.fit(train)


def test_json_keeps_every_digit_and_knows_its_architecture(train: ZooDataset) -> None:
    fitted = LayerStandardization.fit(train)
    text = json.dumps(fitted.to_json())
    assert LayerStandardization.from_json(train.layer_table, json.loads(text)) == fitted
    other = LayerTable.from_module(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"expected \['0'\]: it was fitted to another"):
        LayerStandardization.from_json(other, json.loads(text))
    with pytest.raises(ValueError, match="list of entries with the keys"):
        LayerStandardization.from_json(train.layer_table, [{"part": "conv1"}])
    broken = json.loads(text)
    broken[0]["deviation"] = 0
    with pytest.raises(ValueError, match="deviations must be finite and above zero"):
        LayerStandardization.from_json(train.layer_table, broken)


def test_constant_layers_and_buffers_do_not_divide_by_zero(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3)))
    weights = torch.randn(len(train), table.width)
    constant = {"1.weight": 0.1, "1.bias": 0.1, "1.num_batches_tracked": 123_457.0}
    for spec in table:
        if spec.name in constant:
            weights[:, spec.offset : spec.offset + spec.size] = constant[spec.name]
    monkeypatch.setattr(ZooDataset, "layer_table", table)
    monkeypatch.setattr(ZooDataset, "weights", lambda self, index: weights[index])
    fitted = LayerStandardization.fit(replace(train))
    assert list(standardized_parts(table)) == [
        "0", "1", "1.running_mean", "1.running_var", "1.num_batches_tracked"
    ]  # fmt: skip
    assert fitted.deviation[1] == fitted.deviation[4] == 1
    standardized = fitted.apply(weights)
    assert standardized.isfinite().all()
    assert standardized[:, -1].abs().max() < 1e-2 and standardized[:, 15:21].abs().max() < 1e-6


def test_standardization_rejects_other_widths(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match=r"weights must have shape \(B, 71\), got \(2, 5\)"):
        LayerStandardization.fit(train).apply(torch.zeros(2, 5))
