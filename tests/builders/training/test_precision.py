"""Training in bfloat16: the passes are, weights and what is measured are not."""

from dataclasses import replace

import pytest
import torch

from weightzoo.builders.training.cohort import Cohort, train_cohort
from weightzoo.builders.training.objectives import load_data
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import Images
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import PRECISIONS, Recipe, load_recipe


def recipe(precision: str, epochs: int = 3) -> Recipe:
    """CNN-s on digits, one setting that learns quickly."""
    factors = {"activation": "relu", "lr": 3e-3, "batch_size": 32}
    whole = load_recipe("digits-cnn")
    checkpoints = (epochs,)
    return replace(
        whole, factors=factors, epochs=epochs, checkpoints=checkpoints, precision=precision
    )


@pytest.mark.slow
def test_bfloat16_learns_what_float32_learns() -> None:
    results = {}
    for precision in ("float32", "bfloat16"):
        one = recipe(precision)
        results[precision] = train_cohort(one, one.models(8), load_data("digits"))
    means = {name: float(r.metrics["test_accuracy"].mean()) for name, r in results.items()}
    assert means["float32"] > 0.8 and abs(means["bfloat16"] - means["float32"]) < 0.05
    assert results["bfloat16"].weights.dtype == torch.float32
    assert not torch.equal(results["bfloat16"].weights, results["float32"].weights)


@pytest.mark.parametrize("name", ["cnn-s", "resnet18", "vit"])
def test_every_layer_runs_in_bfloat16(name: str) -> None:
    sizes = {"resnet18": {"width": 4}, "vit": {"blocks": 1}}.get(name, {})
    architecture = preset(name, **sizes)
    images = "glyphs-color" if architecture.input_shape[0] == 3 else "digits"
    losses = {}
    for precision in ("float32", "bfloat16"):
        one = replace(recipe(precision), architecture=architecture, images=images)
        factors = {"dropout": 0.1, "activation": "gelu", "init": "xavier_uniform"}
        models = replace(one, factors=factors, seeds=8).models()[:2]
        losses[precision] = next(Cohort(one, models, load_data(images)).epoch())
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0.05, atol=0.05)
    assert losses["bfloat16"].dtype == torch.float32


@pytest.mark.parametrize("name", ["digits-mlp", "cnn-s", "resnet18", "vit"])
def test_one_by_one_trains_in_bfloat16_too(name: str) -> None:
    """Near the population's losses; for matrix products alone, whose sums round alike, nearer
    than either is to float32."""
    sizes = {"resnet18": {"width": 4}, "vit": {"blocks": 1}}.get(name, {})
    architecture = load_recipe(name).architecture if name == "digits-mlp" else preset(name, **sizes)
    images = "glyphs-color" if architecture.input_shape[0] == 3 else "digits"
    whole = load_data(images)
    few = replace(whole, train=Images(whole.train.pixels[:64], whole.train.labels[:64]))
    one = replace(recipe("bfloat16", 1), architecture=architecture, images=images, seeds=8)
    one = replace(one, factors={"init": "xavier_uniform", "batch_size": 32, "optimizer": "sgd"})
    model = one.models()[0]
    (module, losses), (_, plain) = (
        train_one(replace(one, precision=precision), model, few) for precision in PRECISIONS[::-1]
    )
    want = torch.stack([loss[0] for loss in Cohort(one, [model], few).epoch()])
    torch.testing.assert_close(losses, want, rtol=0.01, atol=0.0)
    assert not torch.equal(losses, plain)
    assert all(value.dtype == torch.float32 for value in module.parameters())
    if name in ("digits-mlp", "vit"):
        assert (losses - want).abs().max() < 0.5 * (plain - want).abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bfloat16_learns_on_a_gpu() -> None:
    one = recipe("bfloat16")
    result = train_cohort(one, one.models(8), load_data("digits"), "cuda")
    assert float(result.metrics["test_accuracy"].mean()) > 0.8


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"precision must be one of \['float32', 'bfloat16'\]"):
        recipe("float16")
