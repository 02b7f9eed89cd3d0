"""A population equals its models run alone."""

import pytest
import torch

from weightzoo.builders.population.population import Population
from weightzoo.builders.training.initialization import initial_weights, stream
from weightzoo.zoos.networks.layer_kind import ACTIVATIONS
from weightzoo.zoos.recipe import load_recipe


def _flat(recipe_name: str, models: int) -> torch.Tensor:
    recipe = load_recipe(recipe_name)
    return initial_weights(recipe.architecture, recipe.models()[:models])


@pytest.mark.parametrize("recipe_name", ["digits-cnn", "digits-mlp"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_population_logits_equal_rebuilt_modules(recipe_name: str, activation: str) -> None:
    architecture = load_recipe(recipe_name).architecture
    table, flat = architecture.layer_table(), _flat(recipe_name, 4)
    images = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    ours = Population(architecture, flat, [activation] * 4).outputs(
        images.permute(2, 1, 3, 0)[None]
    )
    for weights, logits in zip(flat, ours, strict=True):
        module = architecture.module(activation, 0.3).eval()
        module.load_state_dict(table.state_dict(weights))
        tolerance = 1e-5 * max(
            1.0, float(logits.detach().abs().max())
        )  # sums over 784 inputs round
        torch.testing.assert_close(logits.T, module(images), atol=tolerance, rtol=0)


def test_population_takes_mixed_activations() -> None:
    architecture, flat = load_recipe("digits-cnn").architecture, _flat("digits-cnn", 3)
    x = torch.randn(1, 28, 1, 28, 5)
    mixed = Population(architecture, flat.clone(), ["relu", "relu", "tanh"]).outputs(x)
    relu = Population(architecture, flat.clone(), ["relu"] * 3).outputs(x)
    tanh = Population(architecture, flat.clone(), ["tanh"] * 3).outputs(x)
    assert torch.equal(mixed[:2], relu[:2])
    assert torch.equal(mixed[2], tanh[2])
    assert not torch.allclose(mixed[2], relu[2])


def test_population_backward_equals_autograd_of_each_model() -> None:
    architecture, flat = load_recipe("digits-cnn").architecture, _flat("digits-cnn", 2)
    population = Population(architecture, flat, ["tanh", "tanh"])
    images = torch.randn(2, 28, 1, 28, 4)
    population.backward(population.outputs(images).square().sum())
    for model in range(2):
        module = architecture.module("tanh")
        module.load_state_dict(architecture.layer_table().state_dict(flat[model]))
        loss = module(images[model].permute(3, 1, 0, 2)).square().sum()
        grads = torch.autograd.grad(loss, list(module.parameters()))
        want = torch.cat([grad.flatten() for grad in grads])
        torch.testing.assert_close(population.gradient[model], want, atol=1e-4, rtol=1e-4)


def test_population_dropout_keeps_the_given_share_and_scales() -> None:
    architecture, flat = load_recipe("digits-mlp").architecture, _flat("digits-mlp", 2)
    population = Population(architecture, flat, ["relu"] * 2, [0.2, 0.6])
    masks = population.masks(torch.empty(2, 400, 50), [stream(1, "dropout"), stream(2, "dropout")])
    for mask, rate in zip(masks, (0.2, 0.6), strict=True):
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
        assert float((mask == 0).float().mean()) == pytest.approx(rate, abs=0.02)


def test_population_dropout_masks_are_those_of_each_model_alone() -> None:
    architecture, flat = load_recipe("digits-mlp").architecture, _flat("digits-mlp", 2)
    population = Population(architecture, flat, ["relu"] * 2, [0.2, 0.6])
    masks = population.masks(torch.empty(2, 40, 5), [stream(1, "dropout"), stream(2, "dropout")])
    for mask, seed, rate in zip(masks, (1, 2), (0.2, 0.6), strict=True):
        keep = 1 - torch.tensor(rate)
        drawn = torch.rand(40, 5, generator=stream(seed, "dropout"))
        assert torch.equal(mask, (drawn + keep).floor() / keep)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_population_on_a_gpu_draws_masks_there() -> None:
    architecture, flat = load_recipe("digits-mlp").architecture, _flat("digits-mlp", 2).cuda()
    population = Population(architecture, flat, ["relu"] * 2, [0.2, 0.6])
    x, streams = (
        torch.empty(2, 400, 50, device="cuda"),
        [stream(s, "dropout", "cuda") for s in (1, 2)],
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        masks = population.masks(x, streams)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    shares = (masks == 0).float().mean((1, 2)).tolist()
    assert shares == pytest.approx([0.2, 0.6], abs=0.02)


def test_population_dropout_depends_on_the_models_own_generator() -> None:
    architecture, flat = load_recipe("digits-mlp").architecture, _flat("digits-mlp", 1)
    x = torch.randn(1, 28, 1, 28, 3)
    population = Population(architecture, flat, ["relu"], [0.5])
    first, again, other = (population.outputs(x, dropout=[stream(s, "dropout")]) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
