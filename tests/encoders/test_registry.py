import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.registry import (
    ENCODERS,
    encoder_entry,
    encoder_names,
    register_encoder,
    unregister_encoder,
)
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.layer_table import LayerTable

BOUND = [name for name, entry in ENCODERS.items() if not entry.several_architectures]
FREE = [name for name, entry in ENCODERS.items() if entry.several_architectures]


def zoo_weights(table: LayerTable, scale: float, models: int = 4) -> Tensor:
    """Models of different scale, as those of a zoo are."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-1, 1, models)[:, None]
    return scale * sizes * torch.randn(models, table.width, generator=generator)


def given(
    encoder: nn.Module, weights: Tensor, architecture: Architecture, names: tuple[str, ...] = ()
) -> Tensor | NetworkBatch:
    """The weights, or the networks (tanh unless named) for an encoder that takes networks."""
    if getattr(encoder, "reads", "flat") != "networks":
        return weights
    return NetworkBatch(architecture, names or ("tanh",) * len(weights), weights)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_remade_from_its_config(name: str, mlp: Architecture) -> None:
    table, entry = mlp.layer_table(), ENCODERS[name]
    encoder = entry.make(table, outputs=2).eval()
    config = json.loads(json.dumps(encoder.config))
    again = type(encoder)(*([table] if entry.needs_layer_table else []), **config).eval()
    assert again.config == encoder.config
    again.load_state_dict(encoder.state_dict())
    models = given(encoder, zoo_weights(table, 0.1), mlp)
    assert encoder(models, table).shape == (4, 2)
    assert torch.equal(again(models, table), encoder(models, table))


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_tells_models_apart_before_training(
    name: str, scale: float, mlp: Architecture
) -> None:
    torch.manual_seed(0)
    table = mlp.layer_table()
    encoder, functions = ENCODERS[name].make(table), ("tanh", "relu") * 8
    outputs = encoder(given(encoder, zoo_weights(table, scale, 16), mlp, functions), table)
    assert 1e-3 < outputs.std() < 10
    outputs.square().sum().backward()
    for place, parameter in encoder.named_parameters():
        used = parameter.grad is not None and parameter.grad.isfinite().all()
        # kinds of tensors that are not there, and a number that a softmax ignores
        assert used or place.startswith("input.") or place.endswith("key.bias"), place


@pytest.mark.parametrize("name", ENCODERS)
def test_models_of_a_batch_do_not_see_each_other(name: str, mlp: Architecture) -> None:
    table = mlp.layer_table()
    encoder = ENCODERS[name].make(table).double().eval()
    weights = zoo_weights(table, 0.1).double()
    with torch.no_grad():
        together = encoder(given(encoder, weights, mlp), table)
        alone = encoder(given(encoder, weights[1:2], mlp), table)
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_rejects_weights_of_another_length(name: str, mlp: Architecture) -> None:
    table = mlp.layer_table()
    with pytest.raises(ValueError, match=f"D={table.width} of the layer table"):
        encoder = ENCODERS[name].make(table)
        encoder(given(encoder, torch.zeros(2, table.width + 1), mlp), table)


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
        models = given(encoder, zoo_weights(table, 0.1), architecture)
        assert encoder(models, table).shape == (4, 1)


def test_unknown_encoder_lists_the_known() -> None:
    with pytest.raises(ValueError, match="encoder must be one of .*sne.*got 'cnn'"):
        encoder_entry("cnn")


class Own(torch.nn.Module):
    """The least that an encoder needs."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs


def test_registered_encoder_is_found_by_name() -> None:
    assert register_encoder("own", Own) is Own
    try:
        assert encoder_entry("own").make(outputs=3).config == {"outputs": 3}
        assert "own" in encoder_names()
        with pytest.raises(ValueError, match=r"got 'owm'; did you mean 'own'\?"):
            encoder_entry("owm")
    finally:
        unregister_encoder("own")
    assert "own" not in encoder_names()


@pytest.mark.parametrize(
    ("name", "encoder", "message"),
    [
        ("sne", Own, "is one of weightzoo's encoders"),
        ("a:b", Own, "without ':' and '/', got 'a:b'"),
        (" ", Own, "got ' '"),
        ("own", Own(), "must be a subclass of torch.nn.Module"),
        ("own", LayerTable, "must be a subclass of torch.nn.Module, got LayerTable"),
        ("own", torch.nn.ReLU, r"takes \['inplace'\], and must take 'outputs'"),
    ],
)
def test_register_refuses_what_is_no_encoder(name: str, encoder: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_encoder(name, encoder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:Own", "write 'mine:Own'"),
        ("no_such_module:Own", "cannot import 'no_such_module': .* in the folder that holds"),
        ("mine:Other", r"module 'mine' has no 'Other', it has \['Own'"),
        ("mine:", "named as 'package.module:Class', got 'mine:'"),
    ],
)
def test_class_of_the_working_folder_is_imported_or_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import torch\n\nclass Own(torch.nn.Module):\n    def __init__(self, outputs=1):\n"
    (tmp_path / "mine.py").write_text(f"{text}        super().__init__()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert encoder_entry("mine:Own").make(outputs=2).config == {"outputs": 2}
    with pytest.raises(ValueError, match=message):
        encoder_entry(name)
    del sys.modules["mine"]
