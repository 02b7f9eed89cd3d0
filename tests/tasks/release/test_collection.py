"""The plan of a collection: what it promises, what it rejects, and its commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_release import write_small_plan

from weightzoo.cli.main import _parser
from weightzoo.tasks.release.collection import Collection, load_collection, read_collection
from weightzoo.tasks.release.estimates import estimate_collection, estimates_text
from weightzoo.zoos.errors import RecipeError

OWN = load_collection()
POPULATIONS = OWN.populations()


@pytest.fixture
def small(tmp_path: Path) -> Collection:
    return load_collection(write_small_plan(tmp_path))


def test_own_collection_holds_every_kind_of_member_within_2_gb() -> None:
    recipes = {one.recipe.images for one in POPULATIONS.values()}
    assert {"digits", "sine"} <= recipes
    assert len({name for name in recipes if name.startswith("glyphs-")}) >= 3
    assert {"digits-cnn", "digits-mlp", "digits-vit"} <= set(OWN.names)
    assert {one.command for one in OWN.members} == {
        *("build", "finetune", "sparsify", "glue", "finetune-matrix")
    }
    assert sum(one.rows * one.width * 4 for one in POPULATIONS.values()) < 2e9


def test_seeds_of_own_zoos_differ_where_architectures_are_equal() -> None:
    """Models of equal seed and architecture would start from equal weights."""
    built = [one for one in OWN.members if one.command == "build"]
    recipes = [POPULATIONS[one.name].recipe for one in built]
    keys = [(recipe.architecture.layers, recipe.seed) for recipe in recipes]
    assert len({str(key) for key in keys}) == len(keys)


def test_commands_parse_as_the_command_line_and_say_what_the_plan_says() -> None:
    for member in OWN.members:
        options = vars(_parser().parse_args(member.arguments()))
        for key in ("recipe", "images", "epochs", "sparsity", "budget", "seeds", "shots"):
            if hasattr(member, key):
                assert options[key] == getattr(member, key), (member.name, key)
        if hasattr(member, "checkpoints"):
            assert tuple(options["checkpoints"]) == member.checkpoints
            assert options["where"] == f"model_id < {member.models}"
        given = options.get("zoo") or options.get("zoos") or options.get("pool") or []
        assert (given if isinstance(given, list) else [given]) == list(member.parents)
        assert str(options["out"]).removesuffix(".h5") == member.name


def test_only_takes_the_parents_along(small: Collection) -> None:
    assert small.only(["merged"]).names == ["families", "merged"]
    assert small.only([]).names == small.names
    with pytest.raises(RecipeError, match=r"no member \['merges'\].*did you mean 'merged'"):
        small.only(["merges"])


def _drop_licence(plan: dict[str, Any]) -> None:
    del plan["licence"]


def _rename(plan: dict[str, Any]) -> None:
    plan["members"][0]["name"] = "a/b"


def _twice(plan: dict[str, Any]) -> None:
    plan["members"][1]["name"] = "mlps"


def _late_parent(plan: dict[str, Any]) -> None:
    plan["members"].reverse()


def _unknown_key(plan: dict[str, Any]) -> None:
    plan["members"][0]["epoch"] = 3


def _unknown_command(plan: dict[str, Any]) -> None:
    plan["members"][0]["command"] = "rm"


def _text_for_number(plan: dict[str, Any]) -> None:
    plan["members"][0]["models"] = "10"


def _text_for_list(plan: dict[str, Any]) -> None:
    plan["members"][1]["parents"] = "mlps"


def _matrix_as_parent(plan: dict[str, Any]) -> None:
    child = plan["members"][1] | {"name": "late", "parents": ["matrix"]}
    plan["members"].append(child)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_licence, "has the keys .*'licence'"),
        (_rename, "letters, digits.* got 'a/b'"),
        (_twice, "two members have the name 'mlps'"),
        (_late_parent, "must be an earlier zoo of the plan"),
        (_matrix_as_parent, "must be an earlier zoo of the plan"),
        (_unknown_key, r"has .*'models'.*: unknown \['epoch'\]"),
        (_unknown_command, "a command of .*'build'"),
        (_text_for_number, "models of 'mlps' must be int, got '10'"),
        (_text_for_list, "parents of 'tuned' must be a list, got 'mlps'"),
    ],
)
def test_plan_rejects(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    import tomllib

    plan = tomllib.loads(write_small_plan(tmp_path).read_text())
    read_collection(plan)
    change(plan)
    with pytest.raises(RecipeError, match=message):
        read_collection(plan)


def test_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no.toml"):
        load_collection(tmp_path / "no.toml")


@pytest.mark.slow
def test_estimates_name_every_member_with_hours_and_bytes(small: Collection) -> None:
    found = estimate_collection(small, workers=1)
    assert [one.name for one in found] == small.names
    assert all(one.seconds is not None and one.seconds > 0 for one in found)
    by_name = {one.name: one for one in found}
    assert by_name["mlps"].size_bytes == 10 * 3 * 9550 * 4
    assert by_name["matrix"].rows == 10 * 2
    assert "hours" in estimates_text(found).splitlines()[-1]
