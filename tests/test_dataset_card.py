"""The card of our own zoos: its snippets run, its numbers are the plan's, its table is whole.

Then what `repo_card` and `write_card` say beyond that, as stock `datasets` understands it.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from make_tiny_zoo import make_tiny_zoo

from weightzoo.tasks.release.card import PLACEHOLDER, citation_text, licence_text, release_card
from weightzoo.tasks.release.collection import load_collection
from weightzoo.tasks.release.members import RankingMatrix
from weightzoo.zoos.cards.card import repo_card
from weightzoo.zoos.cards.card_zoo import read_card_zoo
from weightzoo.zoos.cards.metadata import CARD_NAME
from weightzoo.zoos.format import open_zoo_file
from weightzoo.zoos.index import ZooIndex

CARD = Path(__file__).parents[1] / "DATASET_CARD.md"
REPO = PLACEHOLDER
TEXT = CARD.read_text()
PLAN = load_collection()
POPULATIONS = PLAN.populations()
ZOOS = [one.name for one in PLAN.members if not isinstance(one, RankingMatrix)]
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SNIPPETS = [block for block in BLOCKS if REPO in block]


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tiny zoos with the names of ours, and with our card, as the repo has it."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    zoos = []
    for name in ZOOS[:2]:
        folder = make_tiny_zoo(tmp_path / "zoos" / name)
        zoos.append(read_card_zoo(folder, ZooIndex.read(folder), name))
        (folder / CARD_NAME).unlink()
    (tmp_path / "zoos" / CARD_NAME).write_text(repo_card(REPO, zoos, TEXT))
    return tmp_path / "zoos"


def metadata(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(number: int, collection: Path) -> None:
    """With the repo's name replaced by the folder, and nothing else."""
    code = SNIPPETS[number].replace(REPO, str(collection))
    scope: dict[str, Any] = {}
    exec(compile(code, f"{CARD.name}, snippet {number}", "exec"), scope)
    found = {name: scope[name] for name in ("weights", "batch", "row") if name in scope}
    assert found, "a snippet must show the weights"
    for value in found.values():
        weights = value["weights"] if isinstance(value, dict) else value
        assert weights.shape[-1] == 71 and str(weights.dtype).endswith("float32")


def test_card_has_several_snippets() -> None:
    assert len(SNIPPETS) == 4 and len(BLOCKS) == 5


def test_snippet_of_the_digest_runs(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of the collection."""
    monkeypatch.chdir(collection)
    *lines, last = BLOCKS[-1].strip().splitlines()
    scope: dict[str, Any] = {}
    exec("\n".join([*lines, f"digest = {last}"]), scope)
    assert re.fullmatch("[0-9a-f]{64}", scope["digest"])


def test_card_is_that_of_the_plan() -> None:
    assert release_card(PLAN) == TEXT, "run `python docs/generate.py`"
    assert release_card(PLAN, "org/other").count("org/other") == TEXT.count(REPO) > 4


def test_configs_are_the_members_of_the_plan() -> None:
    configs = metadata(TEXT)["configs"]
    assert [config["config_name"] for config in configs] == PLAN.names
    assert [config.get("default", False) for config in configs].count(True) == 1
    assert metadata(TEXT)["license"] == PLAN.licence == "cc-by-4.0"


def test_licence_and_citation_name_the_licence() -> None:
    assert "licensed under CC BY 4.0" in licence_text(PLAN)
    citation = yaml.safe_load(citation_text(PLAN, "org/zoos"))
    assert (citation["license"], citation["type"]) == ("CC-BY-4.0", "dataset")
    assert citation["url"].endswith("/datasets/org/zoos")


@pytest.mark.parametrize("name", ["digits-cnn", "digits-vit", "sine-inr", "digits-cnn-sparse"])
def test_numbers_are_those_of_the_plan(name: str) -> None:
    own = POPULATIONS[name]
    models, width = own.models, own.recipe.architecture.layer_table().width
    rows = len(models) * len(own.recipe.checkpoints)
    size = f"{rows * width * 4 / 1e6:.1f} MB"
    sizes = [f"{len(models):,}", len(own.recipe.checkpoints), f"{rows:,}", f"{width:,}", size]
    about = next(member.about for member in PLAN.members if member.name == name)
    assert f"| `{name}` | {about} | {' | '.join(map(str, sizes))} |" in TEXT
    splits = [model.split for model in models]
    counts = [str(splits.count(split)) for split in ("train", "val", "test")]
    assert f"| `{name}` | {' | '.join(counts)} |" in TEXT


def test_table_lists_every_column_with_its_type(collection: Path) -> None:
    table = TEXT.split("## Columns")[1].split("## Splits")[0]
    listed = {
        column: kind
        for names, kind in re.findall(r"^\| (`.*?) \| (\w+) \(N", table, re.MULTILINE)
        for column in re.findall(r"`(\w+)`", names)
    }
    file = open_zoo_file(next(collection.rglob("*.h5")))
    kinds = {name: "text" if kind.kind == "O" else kind.name for name, kind in file.columns.items()}
    assert listed == kinds | {"weights": "float32"}


def test_publishing_keeps_the_card_and_adds_what_was_measured(collection: Path) -> None:
    text = (collection / CARD_NAME).read_text()
    assert TEXT.split("---\n", 2)[2].strip() in text
    assert [info["config_name"] for info in metadata(text)["dataset_info"]] == ZOOS[:2]
    folder = collection / ZOOS[1]
    again = read_card_zoo(folder, ZooIndex.read(folder), ZOOS[1])
    assert metadata(repo_card(REPO, [replace(again)], text)) == metadata(text)


def test_card_gives_the_sizes_and_types_that_stock_datasets_finds(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = make_tiny_zoo(tmp_path / "zoo", train_shards=2)
    (info,) = metadata((folder / CARD_NAME).read_text())["dataset_info"]
    files = {split: str(folder / f"{split}-*.h5") for split in ("train", "validation", "test")}
    stock = load_dataset("hdf5", data_files=files, cache_dir=str(tmp_path / "cache"))
    for split in info["splits"]:
        found = stock[split["name"]].info.splits[split["name"]]
        assert (split["num_examples"], split["num_bytes"]) == (found.num_examples, found.num_bytes)
    assert info["features"] == stock["train"].features._to_yaml_list()
    assert info["dataset_size"] == sum(split["num_bytes"] for split in info["splits"])
    assert info["download_size"] == sum(path.stat().st_size for path in folder.glob("*.h5"))


def test_card_names_many_shards_by_one_pattern(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = make_tiny_zoo(tmp_path / "zoo", train_shards=9)
    (config,) = metadata((folder / CARD_NAME).read_text())["configs"]
    assert config["data_files"][0]["path"] == ["train-*-of-00009.h5"]
    stock = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(set(stock["model_id"])) == list(range(18))


def test_repo_card_refuses_metadata_that_it_cannot_read(tmp_path: Path) -> None:
    folder = make_tiny_zoo(tmp_path / "zoo")
    zoo = read_card_zoo(folder, ZooIndex.read(folder))
    for damage in ("---\ntags: [\n---\n", "---\n- 1\n---\n"):
        with pytest.raises(
            ValueError, match="metadata of the repository's README.md cannot be read"
        ):
            repo_card(REPO, [zoo], damage)
    card = repo_card(REPO, [zoo], "No metadata, only text.\n")
    assert "No metadata, only text." in card and metadata(card)["license"] == "cc-by-4.0"
