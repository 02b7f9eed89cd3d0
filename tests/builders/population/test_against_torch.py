"""Every layer, optimizer, schedule and init in a population against torch modules, one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from weightzoo.builders.training.cohort import Cohort
from weightzoo.builders.training.initialization import initial_weights
from weightzoo.builders.training.objectives import DataSet, load_data
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.image_set import Images, ImageSet
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import HyperParameters, Model, Recipe, load_recipe

Row = dict[str, Any]
CONV: Row = {"kind": "conv", "out": 5, "kernel": 3, "stride": 3}
PADDED: Row = {"kind": "conv", "out": 5, "kernel": 3, "padding": 1, "bias": False}
ACT: Row = {"kind": "activation"}
NORM: Row = {"kind": "batch_norm"}
FLAT: Row = {"kind": "flatten"}
HEAD: Row = {"kind": "linear", "out": 10}
TOKENS: list[Row] = [{"kind": "conv", "out": 8, "kernel": 7, "stride": 7}, {"kind": "tokens"}]
CLASS_TOKEN: Row = {"kind": "position_embedding", "class_token": True}
FIRST: Row = {"kind": "token_pool", "mode": "first"}
MEAN: Row = {"kind": "token_pool", "mode": "mean"}
LAYER_NORM: Row = {"kind": "layer_norm"}
ATTENTION: Row = {"kind": "attention", "heads": 2}

LAYERS: dict[str, list[Row]] = {
    "stride and no bias": [PADDED | {"stride": 2}, ACT, FLAT, HEAD],
    "pool after activation": [CONV, ACT, {"kind": "max_pool", "size": 2}, FLAT, HEAD],
    "pool after pool": [PADDED, *[{"kind": "max_pool", "size": 2}] * 2, FLAT, HEAD],
    "batch norm": [CONV, NORM, ACT, PADDED, NORM, FLAT, HEAD],
    "batch norm first": [NORM, CONV, ACT, FLAT, HEAD],
    "global average pool": [CONV, ACT, {"kind": "global_avg_pool"}, HEAD],
    "layer norm of features": [FLAT, HEAD, LAYER_NORM, ACT, HEAD],
    "layer norm of rows": [CONV, LAYER_NORM, FLAT, HEAD],
    "sine and offset": [
        FLAT,
        HEAD,
        {"kind": "sine", "omega": 0.5},
        HEAD,
        {"kind": "offset", "value": 0.5},
    ],
    "activation first": [ACT, FLAT, HEAD],
    "residual": [CONV, {"kind": "residual", "body": [NORM, ACT, PADDED]}, ACT, FLAT, HEAD],
    "residual with shortcut": [
        CONV,
        {
            "kind": "residual",
            "body": [PADDED | {"stride": 2}, NORM, ACT, PADDED, NORM],
            "shortcut": [{"kind": "conv", "out": 5, "kernel": 1, "stride": 2, "bias": False}, NORM],
        },
        {"kind": "global_avg_pool"},
        HEAD,
    ],
    "tokens": [*TOKENS, {"kind": "linear", "out": 6}, ACT, FLAT, HEAD],
    "mean of tokens": [*TOKENS, {"kind": "position_embedding"}, MEAN, HEAD],
    "class token": [*TOKENS, CLASS_TOKEN, ATTENTION, LAYER_NORM, FIRST, HEAD],
    "attention": [*TOKENS, {"kind": "residual", "body": [LAYER_NORM, ATTENTION]}, MEAN, HEAD],
}


@pytest.fixture(scope="module")
def few_digits() -> ImageSet:
    digits = load_images("digits")
    parts = [Images(part.pixels[:50], part.labels[:50]) for part in (digits.train, digits.val)]
    return replace(digits, train=parts[0], val=parts[1], test=parts[1])


def _recipe(layers: list[Row] | None = None) -> Recipe:
    recipe = replace(load_recipe("digits-cnn"), epochs=2, checkpoints=(2,))
    if layers is None:
        return recipe
    spec = {"name": "net", "input_shape": [1, 28, 28], "layers": layers}
    return replace(recipe, architecture=Architecture.from_json(spec))


def _models(**values: Any) -> list[Model]:
    common: Row = {"activation": "tanh", "init": "xavier_uniform", "lr": 3e-3, "batch_size": 16}
    return [
        Model(
            model_id=index,
            seed=7 + index,
            split="train",
            hyper_parameters=HyperParameters(**common | values | {"weight_decay": decay}),
        )
        for index, decay in enumerate((0.0, 0.1))
    ]


def _compare(recipe: Recipe, models: list[Model], data: DataSet) -> None:
    """Equal losses at every step, equal weights and buffers and equal evaluation at the end."""
    cohort = Cohort(recipe, models, data)
    losses = torch.stack([step for _ in range(recipe.epochs) for step in cohort.epoch()], dim=1)
    table = recipe.architecture.layer_table()
    for index, model in enumerate(models):
        module, want = train_one(recipe, model, data)
        torch.testing.assert_close(losses[index], want, atol=1e-4, rtol=1e-3)
        weights = table.flatten(module.state_dict())
        torch.testing.assert_close(cohort.population.flat[index], weights, atol=1e-3, rtol=1e-2)
        if isinstance(data, ImageSet):
            logits = module(data.val.pixels)
            loss = torch.nn.functional.cross_entropy(logits, data.val.labels)
            torch.testing.assert_close(cohort.evaluate()[2, index], loss, atol=1e-3, rtol=1e-2)
    assert losses[:, -1].isfinite().all()
    assert (losses[:, 0] != losses[:, -1]).all()


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_layers_train_as_torch_modules(layers: list[Row], few_digits: ImageSet) -> None:
    # Not Adam: it makes whole steps of the rounding of gradients that are zero by symmetry.
    _compare(_recipe(layers), _models(optimizer="sgd", lr=0.01), few_digits)


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_optimizers_and_schedules_step_as_torch(
    optimizer: str, schedule: str, few_digits: ImageSet
) -> None:
    # With buffers, which no optimizer may touch, and no bias that batch norm makes void.
    layers = [CONV | {"bias": False}, NORM, ACT, FLAT, HEAD]
    _compare(_recipe(layers), _models(optimizer=optimizer, schedule=schedule), few_digits)


@pytest.mark.parametrize("augmentation", ["crop_flip", "flip_rotate"])
def test_augmented_images_are_those_of_one_by_one(augmentation: str, few_digits: ImageSet) -> None:
    _compare(_recipe([FLAT, HEAD]), _models(augmentation=augmentation), few_digits)


@pytest.mark.parametrize("batch_size", [1000, 300])
def test_sine_signals_are_fitted_as_by_torch(batch_size: int) -> None:
    recipe = replace(load_recipe("sine-inr"), epochs=3, checkpoints=(3,))
    models = _models(init="siren", batch_size=batch_size, lr=1e-3)
    data = load_data("sine")
    _compare(recipe, models, data)
    scores = Cohort(recipe, models, data).evaluate()
    assert scores[0::2].isfinite().all() and scores[1::2].isnan().all()


def test_image_signals_are_fitted_as_by_torch() -> None:
    recipe = replace(load_recipe("digits-inr"), epochs=3, checkpoints=(3,))
    _compare(recipe, _models(init="siren", batch_size=784, lr=1e-3), load_data("digits-inr"))


@pytest.mark.parametrize("init", ["uniform", "normal", "truncated_normal", "orthogonal"])
def test_initial_weights_follow_the_law_of_their_init(init: str) -> None:
    recipe = _recipe([FLAT, {"kind": "linear", "out": 200}])
    (model,) = _models(init=init, init_std=0.5)[:1]
    table = recipe.architecture.layer_table()
    weight = table.split(initial_weights(recipe.architecture, [model])[0])["linear1.weight"]
    match init:
        case "uniform":
            assert weight.min() >= 0 and weight.max() <= 1
            assert float(weight.mean()) == pytest.approx(0.5, abs=0.01)
        case "normal":
            assert float(weight.std()) == pytest.approx(0.5, abs=0.01)
            assert weight.abs().max() > 1.5
        case "truncated_normal":  # 0.880: deviation of a normal cut at two deviations
            assert float(weight.std()) == pytest.approx(0.5 * 0.880, abs=0.01)
            assert weight.abs().max() <= 1
        case "orthogonal":
            torch.testing.assert_close(weight @ weight.T, torch.eye(200), atol=1e-4, rtol=0)


def test_siren_init_has_its_bounds_for_weights_and_biases() -> None:
    architecture = load_recipe("sine-inr").architecture
    (model,) = _models(init="siren")[:1]
    tensors = architecture.layer_table().split(initial_weights(architecture, [model])[0])
    for name, bound in {"linear1": 1.0, "linear2": (6 / 32) ** 0.5 / 30}.items():
        for part in ("weight", "bias"):
            values = tensors[f"{name}.{part}"].abs()
            assert 0.7 * bound < values.max() <= bound


@pytest.mark.parametrize("init", ["uniform", "kaiming_normal", "siren"])
def test_norm_and_embedding_start_the_same_whatever_the_init(init: str) -> None:
    recipe = _recipe([CONV, NORM, {"kind": "tokens"}, CLASS_TOKEN, MEAN, LAYER_NORM, HEAD])
    (model,) = _models(init=init)[:1]
    table = recipe.architecture.layer_table()
    tensors = table.split(initial_weights(recipe.architecture, [model])[0])
    for name, value in {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}.items():
        assert (tensors[f"batch_norm1.{name}"] == value).all()
    assert (tensors["layer_norm1.weight"] == 1).all()
    assert float(tensors["position_embedding1.position"].std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_layers_train_on_a_gpu_as_on_a_cpu(layers: list[Row], few_digits: ImageSet) -> None:
    recipe, models = _recipe(layers), _models(optimizer="sgd", lr=0.01)
    cpu, gpu = (Cohort(recipe, models, few_digits, device) for device in ("cpu", "cuda"))
    for ours, theirs in zip(gpu.epoch(), cpu.epoch(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(gpu.evaluate().cpu(), cpu.evaluate(), atol=1e-2, rtol=1e-2)
