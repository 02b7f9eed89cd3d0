"""Recipes: the same models everywhere, and every mistake in a recipe named."""

import json
import math
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.format import SPLITS
from weightzoo.zoos.recipe import (
    RECIPE_FOLDER,
    HyperParameters,
    Model,
    Recipe,
    hyper_parameter_columns,
    hyper_parameter_names,
    load_recipe,
    recipe_names,
)

GRID = {"activation": ["relu", "tanh"], "dropout": [0.0, 0.1, 0.2], "lr": 0.01}
DRAWN = {"activation": {"choice": ["tanh", "relu"]}, "lr": {"log_uniform": [3e-4, 3e-2]}}


def data(factors: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A valid recipe of 8 drawn models as data, with these keys replaced."""
    layers = [{"kind": "flatten"}, {"kind": "linear", "out": 10}]
    valid = {
        "name": "mine",
        "description": "one layer",
        "architecture": {"name": "linear", "input_shape": [1, 28, 28], "layers": layers},
        "images": "digits",
        "factors": DRAWN if factors is None else factors,
        "seeds": 8,
        "seed": 0,
        "epochs": 16,
        "checkpoints": [0, 1, 16],
        "split": {"train": 0.6, "val": 0.15, "test": 0.25},
    }
    return valid | changes


def grid(**changes: Any) -> Recipe:
    """A recipe of 2 x 3 combinations with 4 seeds each."""
    return Recipe.from_json(data(GRID, seeds=4, seed_kind="fixed") | changes)


def key(model: Model) -> tuple[int, int, HyperParameters]:
    return model.model_id, model.seed, model.hyper_parameters


# Shipped recipes


def test_recipe_names_lists_the_shipped_ones() -> None:
    assert {"digits-cnn", "digits-mlp"} <= set(recipe_names())


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "digits-hyp", "sine-inr"])
def test_shipped_recipe_expands(name: str) -> None:
    recipe = load_recipe(name)
    models = recipe.models()
    assert recipe.name == name and recipe.description
    assert len(models) == recipe.size >= 200
    assert len({model.seed for model in models}) == len(models)
    assert [model.model_id for model in models] == list(range(len(models)))
    assert {model.split for model in models} == set(SPLITS)


def test_recipe_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes((RECIPE_FOLDER / "digits-mlp.toml").read_bytes())
    assert load_recipe(str(path)) == load_recipe("digits-mlp")


@pytest.mark.parametrize("name", ["cifar", "missing.toml", ""])
def test_load_lists_the_shipped_recipes(name: str) -> None:
    with pytest.raises(RecipeError, match=f"no recipe '{name}': give one of .*'digits-cnn'"):
        load_recipe(name)


def test_json_round_trip() -> None:
    for recipe in (load_recipe("digits-cnn"), grid()):
        again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert again == recipe and again.models() == recipe.models()


def test_checkpoints_may_be_given_by_their_step() -> None:
    assert Recipe.from_json(data(checkpoints={"every": 4})).checkpoints == (0, 4, 8, 12, 16)
    assert Recipe.from_json(data(checkpoints={"every": 7, "from": 1})).checkpoints == (1, 8, 15)


# Expansion


def test_grids_multiply_with_seeds() -> None:
    models = grid().models()
    seen = Counter((m.hyper_parameters.activation, m.hyper_parameters.dropout) for m in models)
    assert len(models) == 24
    assert seen == {(a, d): 4 for a in GRID["activation"] for d in GRID["dropout"]}
    assert {model.hyper_parameters.lr for model in models} == {0.01}


def test_fixed_seeds_count_from_one_in_every_combination() -> None:
    seeds: dict[tuple[str, float], list[int]] = {}
    for model in grid().models():
        values = model.hyper_parameters
        seeds.setdefault((values.activation, values.dropout), []).append(model.seed)
    assert set(map(tuple, seeds.values())) == {(1, 2, 3, 4)}


def test_random_seeds_all_differ() -> None:
    models = grid(seed_kind="random").models()
    assert len({model.seed for model in models}) == 24
    assert all(0 <= model.seed < 2**31 for model in models)


def test_draws_stay_in_range() -> None:
    factors = {
        "activation": {"choice": ["relu", "tanh"]},
        "lr": {"log_uniform": [1e-4, 1e-1]},
        "dropout": {"uniform": [0.2, 0.4]},
        "bias_init": {"uniform": [-2, -1]},
    }
    models = Recipe.from_json(data(factors, seeds=300)).models()
    drawn = [model.hyper_parameters for model in models]
    assert {values.activation for values in drawn} == {"relu", "tanh"}
    assert all(1e-4 <= values.lr <= 1e-1 for values in drawn)
    assert all(0.2 <= values.dropout <= 0.4 for values in drawn)
    assert all(-2 <= values.bias_init <= -1 for values in drawn)
    assert len({values.lr for values in drawn}) == 300


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    models = Recipe.from_json(data({"lr": {"log_uniform": [1e-4, 1e-1]}}, seeds=3000)).models()
    exponents = sorted(math.log10(model.hyper_parameters.lr) for model in models)
    quartiles = [exponents[len(exponents) * i // 4] for i in (1, 2, 3)]
    assert quartiles == pytest.approx([-3.25, -2.5, -1.75], abs=0.1)


def test_same_seed_gives_the_same_models() -> None:
    models = Recipe.from_json(data(seed=3)).models()
    assert Recipe.from_json(data(seed=3)).models() == models
    other = Recipe.from_json(data(seed=4)).models()
    assert all(key(a) != key(b) for a, b in zip(models, other, strict=True))
    assert [model.split for model in other] != [model.split for model in models]


def test_draws_and_splits_are_these() -> None:
    """A literal: another machine or numpy must draw the same population."""
    models = Recipe.from_json(data()).models()
    assert [model.seed for model in models[:3]] == [1081993679, 1973187232, 1149038368]
    assert [model.split for model in models[:4]] == ["train", "train", "test", "train"]
    assert [model.hyper_parameters.activation for model in models[:3]] == ["relu", "tanh", "relu"]
    assert models[0].hyper_parameters.lr == pytest.approx(0.015774301168410797, rel=1e-12)


# Splits


@pytest.mark.parametrize("count", [4, 7, 24, 100, 1000])
def test_split_sizes_are_exact(count: int) -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    models = Recipe.from_json(data({}, seeds=count, split=shares)).models()
    sizes = Counter(model.split for model in models)
    assert sum(sizes.values()) == count
    assert all(abs(sizes[split] - share * count) <= 1 for split, share in shares.items())


def test_split_sizes_are_the_rounded_shares() -> None:
    sizes = Counter(model.split for model in Recipe.from_json(data(seeds=256)).models())
    assert sizes == {"train": 154, "val": 38, "test": 64}


def test_no_number_of_models_leaves_a_split_empty_once_one_fits() -> None:
    recipe = Recipe.from_json(data())
    for count in range(4, 40):
        assert {model.split for model in recipe.models(count)} == set(SPLITS), count


def test_split_may_leave_one_out() -> None:
    models = Recipe.from_json(data(split={"train": 0.5, "test": 0.5})).models()
    assert Counter(model.split for model in models) == {"train": 4, "test": 4}


def test_split_is_not_in_order_of_the_grid() -> None:
    splits = [model.split for model in grid().models()]
    assert splits != sorted(splits, key=SPLITS.index)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_models_for_every_split_are_refused(count: int) -> None:
    with pytest.raises(RecipeError, match=f"{count} models leave split '.*' empty: take more"):
        Recipe.from_json(data()).models(count)


# A number of models


@pytest.mark.parametrize("drawn", [True, False])
def test_smaller_populations_lie_in_larger_ones(drawn: bool) -> None:
    recipe = Recipe.from_json(data(seeds=24)) if drawn else grid()
    populations = [list(map(key, recipe.models(count))) for count in (5, 8, 20, 24, None)]
    assert list(map(len, populations)) == [5, 8, 20, 24, 24]
    for small, large in zip(populations, populations[1:], strict=False):
        assert all(model in large for model in small)
        assert small == sorted(small, key=lambda model: model[0])


def test_count_is_stable() -> None:
    assert grid().models(10) == grid().models(10)
    assert grid().models(24) == grid().models()


def test_drawn_population_can_grow_past_the_recipe() -> None:
    models = Recipe.from_json(data()).models(20)
    assert len(models) == 20 and len({model.seed for model in models}) == 20


def test_grid_cannot_grow() -> None:
    with pytest.raises(RecipeError, match="recipe 'mine' has 24 models, got 25"):
        grid().models(25)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "8"])
def test_count_must_be_a_whole_number(count: Any) -> None:
    for recipe in (grid(), Recipe.from_json(data())):
        with pytest.raises(RecipeError, match=f"models must be a whole number.*got {count!r}"):
            recipe.models(count)


# Columns


def test_columns_hold_one_value_per_model() -> None:
    models = grid().models()
    columns = hyper_parameter_columns(models)
    assert tuple(columns) == hyper_parameter_names()
    assert columns["activation"].tolist() == [model.hyper_parameters.activation for model in models]
    assert all(len(values) == 24 for values in columns.values())


def test_columns_have_one_type_whatever_the_recipe_writes() -> None:
    """`dropout = 0` in one split and 0.3 in another must not give files of unlike columns."""
    models = Recipe.from_json(data({"dropout": [0, 0.3], "lr": 1})).models()
    kinds = {field.name: field.type for field in fields(HyperParameters)}
    for name, values in hyper_parameter_columns(models).items():
        assert {type(value) for value in values.tolist()} == {kinds[name]}, name


# Mistakes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in data().items() if key != name}


INF, NAN = math.inf, math.nan
BAD_RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": (data(epoch=3), r"recipe has unknown keys \['epoch'\], known are \['architec"),
    "unknown factor": (data({"rate": 1}), r"factors has unknown keys \['rate'\], .*'activation'"),
    "unknown split": (data(split={"dev": 1.0}), r"split has unknown keys \['dev'\], .*'train', '"),
    "missing key": (without("images"), r"recipe lacks the keys \['images'\]"),
    "missing network": (without("architecture"), r"lacks the keys \['architecture'\]"),
    "bad layer": (
        data(architecture={"name": "x", "input_shape": [1], "layers": [{"kind": "rnn"}]}),
        r"kind in \['conv', 'max_pool', .*got \{'kind': 'rnn'\}",
    ),
    "name": (data(name=5), "name must be"),
    "description": (data(description=[]), "description must be"),
    "images": (data(images="cifar"), r"image set must be one of \['digits', .*got 'cifar'"),
    "seed kind": (data(seed_kind="any"), r"seed_kind must be one of .*'fixed', 'random'"),
    "no seeds": (data(seeds=0), "seeds must be a whole number from 1, got 0"),
    "negative seed": (data(seed=-1), "seed must be a whole number from 0, got -1"),
    "text as seed": (data(seed="0"), "seed must be a whole number from 0, got '0'"),
    "fraction of epochs": (data(epochs=1.5), "epochs must be a whole number from 1, got 1.5"),
    "true epochs": (data(epochs=True), "epochs must be a whole number from 1, got True"),
    "late checkpoint": (data(checkpoints=[0, 17]), r"rising epochs from 0 to 16, got \[0, 17\]"),
    "falling": (data(checkpoints=[2, 1]), r"rising epochs from 0 to 16, got \[2, 1\]"),
    "twice": (data(checkpoints=[1, 1]), r"rising epochs from 0 to 16, got \[1, 1\]"),
    "no checkpoints": (data(checkpoints=[]), r"rising epochs from 0 to 16, got \[\]"),
    "negative checkpoint": (data(checkpoints=[-1, 2]), "checkpoints must be a whole number from 0"),
    "text checkpoint": (data(checkpoints=["1"]), "checkpoints must be a whole number from 0"),
    "one checkpoint": (data(checkpoints=3), "checkpoints must be a list, or a table .* got 3"),
    "odd checkpoints": (data(checkpoints={"each": 1}), r"unknown keys \['each'\], known are"),
    "checkpoint step": (data(checkpoints={"every": 0}), "every must be a whole number from 1"),
    "checkpoints without a step": (data(checkpoints={"from": 1}), "every must be a whole number"),
    "factors as a list": (data() | {"factors": [1]}, "factors must be a mapping"),
    "split as a text": (data(split="model"), "split must be a mapping, got 'model'"),
    "split sum": (data(split={"train": 0.5, "val": 0.4}), "split shares must sum to 1"),
    "split sign": (data(split={"train": 1.5, "val": -0.5}), "split.train must be a number from 0"),
    "split type": (data(split={"train": "1"}), "split.train must be a number from 0 to 1, got '1'"),
    "no split": (data(split={}), r"split shares must sum to 1, got \{\}"),
    "activation": (data({"activation": "selu"}), r"activation must be one of \['relu', .*'selu'"),
    "init": (data({"init": "zero"}), r"init must be one of \['uniform', .*got 'zero'"),
    "optimizer": (data({"optimizer": "lion"}), r"optimizer must be one of \['sgd', 'adam', "),
    "negative lr": (data({"lr": -0.1}), "lr must be a number from 0 to inf, got -0.1"),
    "lr not a number": (data({"lr": NAN}), "lr must be a number from 0 to inf, got nan"),
    "lr as text": (data({"lr": "1e-3"}), "lr must be a number from 0 to inf, got '1e-3'"),
    "decay": (data({"weight_decay": -1}), "weight_decay must be a number from 0"),
    "momentum": (data({"momentum": 1.1}), "momentum must be a number from 0 to 1, got 1.1"),
    "dropout": (data({"dropout": 1.0}), "dropout must be a number from 0 to 0.999, got 1.0"),
    "fraction": (data({"train_fraction": 1.2}), "train_fraction must be a number from 0 to 1"),
    "batch": (data({"batch_size": 0}), "batch_size must be a whole number from 1, got 0"),
    "empty grid": (data({"lr": []}), "a grid factor needs at least one value"),
    "grid value": (data({"lr": [0.1, "x"]}), "lr must be a number .*got 'x'"),
    "no sampler": (data({"lr": {}}), r"'lr' must have one sampler of \('choice', .*got \{\}"),
    "sampler": (data({"lr": {"normal": [0, 1]}}), r"'lr' must have one sampler of \('choice', 'u"),
    "samplers": (data({"lr": {"choice": [1], "uniform": [0, 1]}}), "'lr' must have one sampler"),
    "empty choice": (data({"lr": {"choice": []}}), r"'lr': choice takes a list, got \[\]"),
    "one bound": (data({"lr": {"uniform": [1]}}), r"uniform takes \[low, high\], got \[1\]"),
    "text bounds": (data({"lr": {"uniform": ["a", "b"]}}), r"uniform takes \[low, high\]"),
    "bounds swapped": (data({"lr": {"uniform": [2, 1]}}), r"'lr': uniform takes .*got \[2, 1\]"),
    "log of zero": (data({"lr": {"log_uniform": [0, 1]}}), r"log_uniform takes .*got \[0, 1\]"),
    "infinite bound": (data({"lr": {"uniform": [0, INF]}}), r"uniform takes .*got \[0, inf\]"),
    "no bound": (data({"lr": {"log_uniform": [NAN, 1]}}), r"log_uniform takes .*got \[nan, 1\]"),
}


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_mistake_is_named(case: str) -> None:
    bad, message = BAD_RECIPES[case]
    with pytest.raises(RecipeError, match=message):
        Recipe.from_json(bad)


def test_mistake_in_a_choice_is_found_before_any_training() -> None:
    with pytest.raises(RecipeError, match="activation must be one of .*got 'selu'"):
        Recipe.from_json(data({"activation": {"choice": ["relu", "selu"]}})).models(50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "Invalid value"),
        ("name = 'x'\nname = 'y'", "Cannot overwrite"),
        ("nmae = 'x'", r"unknown keys \['nmae'\]"),
    ],
)
def test_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"{path}: .*{message}"):
        load_recipe(str(path))


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(RecipeError, match=f"{path}: "):
        load_recipe(str(path))


@pytest.mark.parametrize(
    "name", ["../../x", "/tmp/x", "a/b", "a\\b", "..", ".x", "", "a\0", "x" * 201]
)
def test_recipe_name_never_leaves_the_working_folder(name: str) -> None:
    data = load_recipe("digits-mlp").to_json() | {"name": name}
    with pytest.raises(RecipeError, match="name must be the name of a folder: 1 to 200 printable"):
        Recipe.from_json(data)
