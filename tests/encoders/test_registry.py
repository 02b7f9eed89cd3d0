import json

import pytest
import torch
from torch import Tensor

from weightzoo.encoders.registry import ENCODERS, encoder_entry
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable

BOUND = [name for name, entry in ENCODERS.items() if not entry.several_architectures]
FREE = [name for name, entry in ENCODERS.items() if entry.several_architectures]


def zoo_weights(table: LayerTable, scale: float, models: int = 4) -> Tensor:
    """Models of different scale, as those of a zoo are."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-1, 1, models)[:, None]
    return scale * sizes * torch.randn(models, table.width, generator=generator)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_remade_from_its_config(name: str, mlp: Architecture) -> None:
    table, entry = mlp.layer_table(), ENCODERS[name]
    encoder = entry.make(table, outputs=2).eval()
    config = json.loads(json.dumps(encoder.config))
    again = type(encoder)(*([table] if entry.needs_layer_table else []), **config).eval()
    assert again.config == encoder.config
    again.load_state_dict(encoder.state_dict())
    weights = zoo_weights(table, 0.1)
    assert encoder(weights, table).shape == (4, 2)
    assert torch.equal(again(weights, table), encoder(weights, table))


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_tells_models_apart_before_training(
    name: str, scale: float, mlp: Architecture
) -> None:
    torch.manual_seed(0)
    table = mlp.layer_table()
    encoder = ENCODERS[name].make(table)
    outputs = encoder(zoo_weights(table, scale, 16), table)
    assert 1e-3 < outputs.std() < 10
    outputs.square().sum().backward()
    for place, parameter in encoder.named_parameters():
        used = parameter.grad is not None and parameter.grad.isfinite().all()
        assert used or place.startswith("input."), place  # kinds of tensors that are not there


@pytest.mark.parametrize("name", ENCODERS)
def test_models_of_a_batch_do_not_see_each_other(name: str, mlp: Architecture) -> None:
    table = mlp.layer_table()
    encoder = ENCODERS[name].make(table).double().eval()
    weights = zoo_weights(table, 0.1).double()
    with torch.no_grad():
        together, alone = encoder(weights, table), encoder(weights[1:2], table)
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_rejects_weights_of_another_length(name: str, mlp: Architecture) -> None:
    table = mlp.layer_table()
    with pytest.raises(ValueError, match=f"D={table.width} of the layer table"):
        ENCODERS[name].make(table)(torch.zeros(2, table.width + 1), table)


@pytest.mark.parametrize("name", BOUND)
def test_bound_encoder_says_who_takes_several(
    name: str, architectures: dict[str, Architecture]
) -> None:
    table, other = architectures["mlp"].layer_table(), architectures["inr"].layer_table()
    encoder = ENCODERS[name].make(table)
    with pytest.raises(ValueError, match="use SNE, DeepSets and NeuralGraph for"):
        encoder(torch.zeros(2, other.width), other)
    with pytest.raises(ValueError, match="pass its layer_table"):
        ENCODERS[name].make()


@pytest.mark.parametrize("name", FREE)
def test_free_encoder_takes_several(name: str, architectures: dict[str, Architecture]) -> None:
    encoder = ENCODERS[name].make()
    for architecture in architectures.values():
        table = architecture.layer_table()
        assert encoder(zoo_weights(table, 0.1), table).shape == (4, 1)


def test_unknown_encoder_lists_the_known() -> None:
    with pytest.raises(ValueError, match="encoder must be one of .*sne.*got 'cnn'"):
        encoder_entry("cnn")
