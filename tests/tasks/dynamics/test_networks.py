"""Many networks from flat weights: equal to rebuilt modules, twice differentiable."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.networks import EvaluationSet, Networks
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import load_recipe

ACTIVATIONS = ("tanh", "relu", "gelu", "tanh")


def drawn(architecture: Architecture, models: int = 4) -> Tensor:
    """Random weights, (M, D)."""
    torch.manual_seed(0)
    table = architecture.layer_table()
    states = [architecture.module().state_dict() for _ in range(models)]
    return torch.stack([table.flatten(state) for state in states])


def images(architecture: Architecture, count: int = 5) -> Tensor:
    return torch.randn(count, *architecture.input_shape, generator=torch.Generator().manual_seed(1))


def normed() -> Architecture:
    """A residual network with batch norm."""
    body = [{"kind": "conv", "out": 3, "kernel": 3, "padding": 1}, {"kind": "batch_norm"}]
    layers = [
        {"kind": "conv", "out": 3, "kernel": 3},
        {"kind": "batch_norm"},
        {"kind": "activation"},
        {"kind": "residual", "body": body, "shortcut": []},
        {"kind": "activation"},
        {"kind": "global_avg_pool"},
        {"kind": "linear", "out": 4},
    ]
    return Architecture.from_json({"name": "normed", "input_shape": [2, 7, 7], "layers": layers})


@pytest.mark.parametrize("recipe", ["digits-cnn", "digits-vit", "sine-inr", "normed"])
def test_outputs_are_those_of_rebuilt_modules_on_both_roads(recipe: str) -> None:
    architecture = normed() if recipe == "normed" else load_recipe(recipe).architecture
    weights, inputs = drawn(architecture), images(architecture)
    networks = Networks(architecture, ACTIVATIONS)
    found, fast = networks.outputs(weights, inputs), networks.fast_outputs(weights, inputs)
    for model, activation in enumerate(ACTIVATIONS):
        module = architecture.module(activation)
        module.load_state_dict(architecture.layer_table().state_dict(weights[model]))
        with torch.no_grad():
            wanted = module.eval()(inputs)
        torch.testing.assert_close(found[model], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast[model], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", ["digits-cnn", "digits-vit"])
def test_second_derivatives_are_differences_of_gradients(recipe: str) -> None:
    architecture = load_recipe(recipe).architecture
    weights, inputs = drawn(architecture, 2).double(), images(architecture)
    losses = Networks(architecture, ("tanh", "gelu")).losses(
        EvaluationSet(inputs, torch.arange(len(inputs)))
    )
    gradients = torch.func.grad(lambda w: losses(w).sum())
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(2)).double()
    _, product = torch.func.vjp(gradients, weights)
    step = 1e-8 * direction  # small, because pooled maxima change over
    wanted = (gradients(weights + step) - gradients(weights - step)) / 2e-8
    torch.testing.assert_close(product(direction)[0], wanted, rtol=1e-3, atol=1e-5)


def test_buffers_get_no_gradient() -> None:
    architecture = normed()
    weights = drawn(architecture, 1).requires_grad_()
    inputs = images(architecture, 2)
    losses = Networks(architecture, ("relu",)).losses(EvaluationSet(inputs, torch.tensor([0, 1])))
    (gradient,) = torch.autograd.grad(losses(weights).sum(), weights)
    parts = architecture.layer_table().split(gradient)
    buffers = {spec.name for spec in architecture.layer_table() if spec.role == "buffer"}
    assert len(buffers) == 6 and all(parts[name].abs().sum() == 0 for name in buffers)
    assert parts["conv1.weight"].abs().sum() > 0


def test_losses_are_those_of_torch_for_classes_and_numbers() -> None:
    outputs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    labels, numbers = torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(2, 6, 3)
    classes = EvaluationSet(torch.zeros(6, 1), labels)
    signals = EvaluationSet(torch.zeros(6, 1), numbers)
    for model in range(2):
        wanted = torch.nn.functional.cross_entropy(outputs[model], labels)
        torch.testing.assert_close(classes.losses(outputs)[model], wanted)
        squared = torch.nn.functional.mse_loss(outputs[model], numbers[model])
        torch.testing.assert_close(signals.losses(outputs)[model], squared)
    assert [len(part) for part in signals.batches(4)] == [4, 2]
    assert signals.of_models(slice(1, 2)).targets.shape == (1, 6, 3)
