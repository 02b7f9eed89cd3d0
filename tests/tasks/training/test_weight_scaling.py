import json
from pathlib import Path

import pytest
import torch

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.training.weight_scaling import WeightScaler
from weightzoo.zoos.networks.layer_table import LayerTable


@pytest.fixture
def train(tiny_zoo: Path) -> ZooDataset:
    return load_zoo(tiny_zoo, split="train")


def test_tensor_scaling_brings_every_tensor_to_a_usual_size_of_one(train: ZooDataset) -> None:
    scaler = WeightScaler.measure("tensor", [train])
    scaled = scaler(train.weights(), train.layer_table).sinh() / 2
    for spec in train.layer_table:
        values = scaled[:, spec.offset : spec.offset + spec.size]
        assert values.square().mean(dim=1).sqrt().log().mean().abs() < 1e-4


def test_fan_in_scaling_has_one_size_for_weights_and_one_for_biases(train: ZooDataset) -> None:
    scaler = WeightScaler.measure("fan_in", [train])
    assert set(scaler.sizes) == {"weight", "bias"}
    ones = scaler(torch.ones(1, train.layer_table.width), train.layer_table).sinh()[0] / 2
    for spec in train.layer_table:
        expected = spec.fan_in**0.5 / scaler.sizes[spec.role]
        torch.testing.assert_close(ones[spec.offset], torch.tensor(expected))


def test_scaler_leaves_a_tensor_of_zeros_alone(train: ZooDataset) -> None:
    class Zeros:
        layer_table = train.layer_table

        def __len__(self) -> int:
            return 4

        def weight_blocks(self) -> list[torch.Tensor]:
            return [torch.zeros(4, self.layer_table.width)]

    scaler = WeightScaler.measure("tensor", [Zeros()])  # type: ignore[list-item]
    scaled = scaler(torch.ones(1, train.layer_table.width), train.layer_table)
    assert torch.equal(scaled, torch.full_like(scaled, 2.0).asinh())


@pytest.mark.parametrize("scaling", ["tensor", "fan_in", "none"])
def test_scaler_survives_json(train: ZooDataset, scaling: str) -> None:
    scaler = WeightScaler.measure(scaling, [train])
    again = WeightScaler.from_json(json.loads(json.dumps(scaler.to_json())))
    weights = train.weights()
    assert torch.equal(again(weights, train.layer_table), scaler(weights, train.layer_table))


def test_scaler_keeps_the_scales_of_alternating_architectures(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler, made = WeightScaler.measure("fan_in", [train]), list[LayerTable]()
    plain = WeightScaler._scale
    monkeypatch.setattr(WeightScaler, "_scale", lambda s, t: made.append(t) or plain(s, t))
    tables = [train.layer_table, LayerTable(train.layer_table.tensors[:1])]
    for table in tables * 3:
        scaler(torch.ones(2, table.width), table)
    assert made == tables
