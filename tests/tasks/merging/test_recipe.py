"""Recipe files: TOML of ours, YAML of mergekit."""

from pathlib import Path
from typing import Any

import pytest

from weightzoo.tasks.merging.mergekit import read_mergekit
from weightzoo.tasks.merging.recipe import read_merge_recipe
from weightzoo.tasks.merging.recipe_file import load_merge_recipe
from weightzoo.zoos.errors import MergeError

TIES = """
method = "ties"
members = ["math", "code"]
base = "llama"
[settings]
density = 0.3
weights = [1.0, 0.5]
[[tensors]]
match = "*.mlp.*"
density = 0.6
"""


def test_recipe_is_read_with_settings_by_tensor(tmp_path: Path) -> None:
    (tmp_path / "math").mkdir()
    (tmp_path / "a.toml").write_text(TIES)
    recipe = load_merge_recipe(tmp_path / "a.toml")
    assert recipe.members == (str(tmp_path / "math"), "code") and recipe.base == "llama"
    assert recipe.settings_of("layers.0.mlp.up.weight").density == 0.6
    assert recipe.settings_of("layers.0.mlp.up.weight").weights == (1.0, 0.5)
    assert recipe.settings_of("norm.weight").density == 0.3


def test_fingerprint_follows_recipe_and_inputs() -> None:
    data = {"method": "ties", "members": ["a", "b"], "base": "c"}
    one, two = read_merge_recipe(data), read_merge_recipe(data | {"settings": {"scale": 0.5}})
    prints = {one.fingerprint(["x"]), one.fingerprint(["y"]), two.fingerprint(["x"])}
    assert len(prints) == 3 and one.fingerprint(["x"]) in prints


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"method": "mean", "member": ["a"]}, r"got \['member'\]"),
        ({"method": "mean"}, "either by 'members' or by 'zoo'"),
        ({"method": "mean", "members": ["a"], "zoo": {"path": "z"}}, "either by"),
        ({"method": "mean", "members": "a"}, "list of texts"),
        ({"method": "mean", "members": ["a"], "dtype": "int8"}, "dtype must be one of"),
        ({"method": "mean", "zoo": {"path": "z", "rows": "1"}}, "'zoo' has the keys"),
        ({"method": "ties", "members": ["a"], "tensors": [{"density": 0.1}]}, "a text 'match'"),
        ({"method": "ties", "members": ["a"], "settings": {"lambda": 1}}, "takes the settings"),
    ],
)
def test_wrong_recipe_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        read_merge_recipe(data)


def test_number_of_members_and_base_are_checked() -> None:
    slerp = read_merge_recipe({"method": "slerp", "members": ["a"]})
    with pytest.raises(MergeError, match="takes 2 members, got 3"):
        slerp.check_members(3, False)
    ties = read_merge_recipe({"method": "ties", "members": ["a"], "settings": {"weights": [1, 2]}})
    with pytest.raises(MergeError, match="needs the base"):
        ties.check_members(2, False)
    with pytest.raises(MergeError, match="2 weights for 3 members"):
        ties.check_members(3, True)
    with pytest.raises(MergeError, match="needs the setting 'weights'"):
        read_merge_recipe({"method": "weighted", "members": ["a"]}).check_members(1, False)


def test_mergekit_recipe_is_translated() -> None:
    recipe = read_mergekit("""
merge_method: ties
base_model: llama
models:
  - model: llama
  - model: math
    parameters: {weight: 0.5, density: 0.4}
  - model: code
    parameters:
      density: 0.4
      weight: [{filter: mlp, value: 2.0}, {value: 1.0}]
parameters: {normalize: false, int8_mask: true, lambda: 0.7}
dtype: bfloat16
""")
    assert recipe.method == "ties" and recipe.members == ("math", "code")
    assert (recipe.base, recipe.dtype) == ("llama", "bfloat16")
    settings = recipe.settings_of("norm.weight")
    assert (settings.density, settings.scale, settings.normalize) == (0.4, 0.7, False)
    assert settings.weights == (0.5, 1.0)
    assert recipe.settings_of("layers.3.mlp.up").weights == (0.5, 2.0)


def test_linear_of_mergekit_divides_by_the_sum_of_weights() -> None:
    text = "{merge_method: linear, models: [{model: a, parameters: {weight: 1}}, {model: b}]}"
    assert read_mergekit(text).settings.normalize is True


def test_base_of_slerp_is_the_first_of_the_two() -> None:
    models = "models: [{model: a}, {model: b}], parameters: {t: 0.2}"
    recipe = read_mergekit(f"{{merge_method: slerp, base_model: b, {models}}}")
    assert recipe.members == ("b", "a") and recipe.settings.fraction == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{merge_method: passthrough, slices: []}", "no slices"),
        ("{merge_method: breadcrumbs, models: [{model: a}]}", "methods these are read"),
        ("{merge_method: linear, models: [{model: a}], tokenizer_source: union}", "keys these"),
        ("{merge_method: slerp, models: [{model: a}], parameters: {t: [0, 0.5]}}", "gradients"),
        ("{merge_method: ties, models: [{model: a, parameters: {gamma: 1}}]}", "'gamma' is not"),
        ("{merge_method: [", "no YAML"),
        ("!!python/object/apply:os.system [true]", "no YAML"),
    ],
)
def test_what_mergekit_computes_otherwise_is_refused(text: str, message: str) -> None:
    with pytest.raises(MergeError, match=message):
        read_mergekit(text)
