"""The dataset card: its metadata finds every file, its text counts them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from weightzoo.zoos.cards.card import write_card
from weightzoo.zoos.cards.metadata import CARD_NAME
from weightzoo.zoos.format import ZooHeader, open_zoo_file
from weightzoo.zoos.index import FILE_SPLITS, ZooIndex
from weightzoo.zoos.recipe import load_recipe


def parts(folder: Path) -> tuple[dict[str, Any], str]:
    """The card's metadata and its text."""
    empty, metadata, body = (folder / CARD_NAME).read_text().split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(metadata), body


def header(folder: Path) -> ZooHeader:
    return open_zoo_file(next(folder.glob("*.h5"))).header


@pytest.mark.parametrize("zoo", ["tiny_zoo", "sharded_zoo"])
def test_metadata_names_each_file_under_its_split(zoo: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(zoo)
    (config,) = parts(folder)[0]["configs"]
    listed = {(part["split"], name) for part in config["data_files"] for name in part["path"]}
    index = ZooIndex.read(folder)
    assert listed == {(FILE_SPLITS[shard.split], shard.path) for shard in index.shards}
    assert {name for _, name in listed} == {path.name for path in folder.glob("*.h5")}


def test_metadata_has_what_the_hub_shows(tiny_zoo: Path) -> None:
    metadata, _ = parts(tiny_zoo)
    assert (metadata["license"], metadata["pretty_name"]) == ("cc-by-4.0", "tiny")
    assert (metadata["configs"][0]["config_name"], metadata["configs"][0]["default"]) == (
        "tiny",
        True,
    )


def test_metadata_leaves_out_a_split_without_files(tiny_zoo: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    write_card(tiny_zoo, replace(index, shards=index.shards[:1]), header(tiny_zoo))
    (config,) = parts(tiny_zoo)[0]["configs"]
    assert [part["split"] for part in config["data_files"]] == ["train"]


@pytest.mark.parametrize("name", ["yes", "1.0", "a: b", "#x", "größe", "- x"])
def test_metadata_survives_awkward_names(tiny_zoo: Path, name: str) -> None:
    write_card(tiny_zoo, replace(ZooIndex.read(tiny_zoo), name=name), header(tiny_zoo))
    metadata, _ = parts(tiny_zoo)
    assert metadata["pretty_name"] == metadata["configs"][0]["config_name"] == name


@pytest.mark.parametrize(
    ("seed_kind", "lr", "shared"),
    [("fixed", [0.1, 0.2], True), ("random", [0.1, 0.2], False), ("fixed", 0.1, False)],
)
def test_card_says_that_splits_share_initial_weights(
    tiny_zoo: Path, seed_kind: str, lr: object, shared: bool
) -> None:
    recipe = replace(load_recipe("digits-cnn"), seed_kind=seed_kind, seeds=4, factors={"lr": lr})
    seeds = {s: {m.seed for m in recipe.models() if m.split == s} for s in ("train", "test")}
    assert seed_kind == "random" or bool(seeds["train"] & seeds["test"]) == shared
    index, of_recipe = ZooIndex.read(tiny_zoo), replace(header(tiny_zoo), recipe=recipe.to_json())
    write_card(tiny_zoo, index, of_recipe)
    assert ("start from the\nsame random draws" in parts(tiny_zoo)[1]) == shared


def test_body_counts_models_and_checkpoints(sharded_zoo: Path) -> None:
    _, body = parts(sharded_zoo)
    assert "6 models, 18 checkpoints, 71 parameters each (rows of 71 values" in body
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["| train | 4 | 12 |", "| val | 1 | 3 |", "| test | 1 | 3 |"]


def test_body_says_how_the_zoo_was_built(tiny_zoo: Path) -> None:
    _, body = parts(tiny_zoo)
    block = body.split("```json\n")[1].split("```")[0]
    expected = header(tiny_zoo)
    assert json.loads(block) == {"recipe": expected.recipe, "provenance": expected.provenance}


def test_stock_datasets_finds_the_splits_by_the_card(tiny_zoo: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    splits = load_dataset(str(tiny_zoo), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 6,
        "validation": 3,
        "test": 3,
    }


def test_card_of_a_child_of_an_imported_zoo_claims_no_licence(tiny_zoo: Path) -> None:
    parent = {"name": "theirs", "sha256": "0" * 64, "imported": "smallcnn"}
    changed = replace(header(tiny_zoo), provenance={"parent": parent})
    write_card(tiny_zoo, ZooIndex.read(tiny_zoo), changed)
    metadata, body = parts(tiny_zoo)
    assert metadata["license"] == "unknown"
    assert "Made from an imported zoo" in body and "Built with weightzoo" in body


def test_card_of_an_imported_zoo_claims_no_licence(tiny_zoo: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    header = index.open(tiny_zoo)[0].header
    write_card(tiny_zoo, index, replace(header, provenance={"imported": "smallcnn"}))
    text = (tiny_zoo / "README.md").read_text()
    assert "license: unknown" in text and "cc-by" not in text and "Built with" not in text
