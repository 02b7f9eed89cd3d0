"""The recipes of published zoos: numbers of models, parameters and states as published.

Sources: Model Zoos (arXiv 2209.14764, its README and generators), the small CNN zoo (arXiv
2002.11448), and those that each recipe names.
"""

import pytest

from weightzoo.zoos.recipe import load_recipe, recipe_names

CNN_ZOOS = {  # Model Zoos: models of the Seed zoo and of each Hyp zoo, parameters
    "mnist-cnn-s": (1000, 2560, 2464),
    "fashion-mnist-cnn-s": (1000, 2560, 2464),
    "svhn-cnn-s": (1000, 4320, 2464),
    "usps-cnn-s": (1000, 2560, 2464),
    "cifar10-cnn-s": (1000, 1280, 2864),
    "cifar10-cnn-l": (1000, 1280, 10853),
    "stl10-cnn-s": (1000, 2560, 2864),
    "stl10-cnn-l": (1000, 2560, 10853),
}
OTHERS = {  # models, parameters, checkpoints
    "cifar10-resnet18-seed": (1000, 11_173_962, 50),
    "cifar100-resnet18-seed": (1000, 11_220_132, 60),
    "tiny-imagenet-resnet18-seed": (1000, 11_271_432, 60),
    "eurosat-cnn-l-hyp": (1200, 10_853, 51),
    "mnist-small-cnn": (30_000, 4_970, 9),
    "fashion-mnist-small-cnn": (30_000, 4_970, 9),
    "cifar10-small-cnn": (30_000, 4_970, 9),
    "svhn-small-cnn": (30_000, 4_970, 9),
    "sine-inr": (1000, 1_153, 1),
    "mnist-inr": (70_000, 1_185, 1),
}


@pytest.mark.parametrize("name", CNN_ZOOS)
def test_cnn_zoo_has_its_published_size(name: str) -> None:
    seeds, combinations, parameters = CNN_ZOOS[name]
    for kind, models in {"seed": seeds, "hyp-rand": combinations, "hyp-fix": combinations}.items():
        recipe = load_recipe(f"{name}-{kind}")
        assert len(recipe.models()) == recipe.size == models
        assert recipe.architecture.layer_table().parameters == parameters
        assert recipe.checkpoints == tuple(range(51))


def test_the_published_totals_come_out() -> None:
    cnns = [load_recipe(f"{name}-{kind}") for name in CNN_ZOOS for kind in KINDS]
    resnets = [load_recipe(name) for name in OTHERS if "resnet18" in name]
    assert sum(recipe.size for recipe in cnns) == 47_360
    assert sum(recipe.size for recipe in cnns + resnets) == 50_360
    states = sum(recipe.size * len(recipe.checkpoints) for recipe in cnns + resnets)
    assert states == 2_585_360


KINDS = ("seed", "hyp-rand", "hyp-fix")


@pytest.mark.parametrize("name", OTHERS)
def test_other_zoo_has_its_published_size(name: str) -> None:
    models, parameters, checkpoints = OTHERS[name]
    recipe = load_recipe(name)
    assert recipe.size == models
    assert recipe.architecture.layer_table().parameters == parameters
    assert len(recipe.checkpoints) == checkpoints


def test_fixed_seeds_are_shared_and_random_ones_are_not() -> None:
    fixed = {model.seed for model in load_recipe("mnist-cnn-s-hyp-fix").models()}
    drawn = {model.seed for model in load_recipe("mnist-cnn-s-hyp-rand").models()}
    assert fixed == set(range(1, 11)) and len(drawn) == 2560


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_expands_to_valid_models(name: str) -> None:
    recipe = load_recipe(name)
    count = min(recipe.size, 40)
    models = recipe.models(count if recipe.size > 40 else None)
    assert len(models) == count
    assert {model.split for model in models} == set(recipe.split)
