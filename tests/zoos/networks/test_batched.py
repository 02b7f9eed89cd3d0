"""The batched forward pass equals its networks run alone, and is differentiable."""

import pytest
import torch
from torch import Tensor

from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.layer_kind import ACTIVATIONS
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import load_recipe

NORMED = {
    "name": "normed",
    "input_shape": [3, 9, 9],
    "layers": [
        {"kind": "conv", "out": 4, "kernel": 3, "padding": 1, "stride": 2, "bias": False},
        {"kind": "batch_norm"},
        {"kind": "activation"},
        {"kind": "residual", "body": [{"kind": "conv", "out": 4, "kernel": 3, "padding": 1}]},
        {"kind": "max_pool", "size": 2},
        {"kind": "flatten"},
        {"kind": "layer_norm"},
        {"kind": "dropout"},
        {"kind": "linear", "out": 5},
    ],
}
ARCHITECTURES = {
    "cnn-s": preset("cnn-s"),
    "small-cnn": preset("small-cnn"),
    "sne-cnn": preset("sne-cnn"),
    "mlp": load_recipe("digits-mlp").architecture,
    "vit": preset("vit", width=24, blocks=2),
    "inr": preset("inr", inputs=2),
    "resnet": preset("resnet18", width=4, side=8),
    "normed": Architecture.from_json(NORMED),
}


def networks_of(architecture: Architecture) -> tuple[NetworkBatch, list[torch.nn.Module]]:
    """A network of every activation function twice, in an order without long runs."""
    torch.manual_seed(0)
    names = [*ACTIVATIONS, *ACTIVATIONS]
    modules = [architecture.module(name, 0.3).eval() for name in names]
    for module in modules:
        for norm in (one for one in module.modules() if isinstance(one, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    table = architecture.layer_table()
    weights = torch.stack([table.flatten(module.state_dict()) for module in modules])
    return NetworkBatch(architecture, tuple(names), weights), modules


def inputs_of(architecture: Architecture) -> Tensor:
    return torch.randn(5, *architecture.input_shape)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batched_outputs_equal_those_of_the_modules(name: str) -> None:
    networks, modules = networks_of(ARCHITECTURES[name])
    inputs = inputs_of(networks.architecture)
    with torch.no_grad():
        wanted = torch.stack([module(inputs) for module in modules])
        rounding = 1e-4 if name == "inr" else 1e-5  # sin(30 x) enlarges it twice
        torch.testing.assert_close(networks.outputs(inputs), wanted, atol=rounding, rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_weights_and_inputs_equal_autograd(name: str) -> None:
    networks, modules = networks_of(ARCHITECTURES[name])
    table, inputs = networks.architecture.layer_table(), inputs_of(networks.architecture)
    alone = inputs.clone().requires_grad_()
    torch.stack([module(alone) for module in modules]).square().sum().backward()
    weights, together = networks.weights.requires_grad_(), inputs.clone().requires_grad_()
    networks.outputs(together).square().sum().backward()
    assert weights.grad is not None and alone.grad is not None and together.grad is not None
    torch.testing.assert_close(together.grad, alone.grad, atol=1e-4, rtol=1e-3)
    found = table.split(weights.grad)
    for row, module in enumerate(modules):
        wanted = {key: parameter.grad for key, parameter in module.named_parameters()}
        largest = max(float(grad.abs().max()) for grad in wanted.values() if grad is not None)
        for key, grad in wanted.items():
            torch.testing.assert_close(found[key][row], grad, atol=1e-5 * largest, rtol=1e-3)


@pytest.mark.parametrize("compiled", [True, False])
def test_gradient_of_inputs_does_not_need_that_of_weights(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr("weightzoo.zoos.networks.convolution_c.library", lambda: None)
    networks, _ = networks_of(ARCHITECTURES["cnn-s"])
    grads = []
    for weights in (networks.weights, networks.weights.clone().requires_grad_()):
        inputs = torch.ones(3, 1, 28, 28).requires_grad_()
        batch = NetworkBatch(networks.architecture, networks.activations, weights)
        batch.outputs(inputs).square().sum().backward()
        grads.append(inputs.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_responses_are_the_hidden_values_of_the_modules() -> None:
    networks, modules = networks_of(ARCHITECTURES["cnn-s"])
    inputs = inputs_of(networks.architecture)
    outputs, hidden = networks.responses(inputs)
    assert [values.shape[-1] for values in hidden] == [8, 6, 4, 20]
    assert torch.equal(outputs, networks.outputs(inputs))
    with torch.no_grad():
        for row, module in enumerate(modules):
            first, last = module[:3](inputs).mean((2, 3)), module[:-2](inputs)
            torch.testing.assert_close(hidden[0][row], first, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(hidden[-1][row], last, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit", "inr"])
def test_responses_of_tokens_and_points_have_one_value_per_unit(name: str) -> None:
    networks, _ = networks_of(ARCHITECTURES[name])
    _, hidden = networks.responses(inputs_of(networks.architecture))
    assert [tuple(values.shape) for values in hidden] == [(12, 5, 48 if name == "vit" else 32)] * 2


def test_batch_rejects_what_does_not_fit() -> None:
    networks, _ = networks_of(ARCHITECTURES["cnn-s"])
    with pytest.raises(ValueError, match=r"\(P, 1, 28, 28\), got \(2, 3, 28, 28\)"):
        networks.outputs(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match="with D=2464 of the layer table"):
        NetworkBatch(networks.architecture, networks.activations, torch.zeros(12, 7))
    with pytest.raises(ValueError, match="got \\['step'\\]"):
        NetworkBatch(networks.architecture, ("step",) * 12, networks.weights)


TRANSFORMER = preset("transformer", tokens=9, vocabulary=11, width=8, blocks=2, heads=2)


def test_language_models_give_logits_at_every_token() -> None:
    networks, modules = networks_of(TRANSFORMER)
    tokens = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = torch.stack([module(tokens) for module in modules])
        found = networks.outputs(tokens)
    assert found.shape == (len(modules), 5, 9, 11)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_token_does_not_see_later_ones() -> None:
    networks, _ = networks_of(TRANSFORMER)
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        before, after = (
            networks.outputs(one)
            for one in (tokens, tokens.clone().index_fill_(1, torch.tensor([6]), 0))
        )
    torch.testing.assert_close(before[:, :, :6], after[:, :, :6], atol=1e-6, rtol=0)
    assert ((before - after)[:, :, 6:].abs().amax((1, 3)) > 1e-4).all()
