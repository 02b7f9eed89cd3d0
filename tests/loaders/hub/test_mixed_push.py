"""Mixed zoos on the Hub: published, pulled, and read by stock `datasets`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_client import HubClient, RemoteError
from hub_server import HubServer
from make_mixed_zoo import make_mixed_zoo

from weightzoo.loaders import load_zoo
from weightzoo.loaders.hub.publishing import push_to_hub
from weightzoo.zoos.cards.licences import stated_licence

PUSH = """
from weightzoo.loaders.hub.publishing import push_to_hub
result = push_to_hub(folder, "org/park", **options)
"""
LOAD = """
from weightzoo import load_zoo
zoo = load_zoo("org/park", split=split, cache_dir=cache)
result = [repr(zoo), zoo["model_id"].tolist(), zoo[-1]["weights"].tolist()]
"""
STOCK = """
from datasets import load_dataset
data = load_dataset(where, name, cache_dir=cache)
result = {split: [[*rows["model_id"]], [*rows["status"]]] for split, rows in data.items()}
"""
COMMAND = "from weightzoo.cli.main import main; result = main(arguments)"


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mixed_zoo(tmp_path_factory.mktemp("zoos") / "park")


@pytest.fixture(scope="module")
def commit(hub: HubServer, client: HubClient, park: Path) -> str:
    """The commit of the published zoo."""
    return str(client.run(PUSH, folder=park, options={"licence": "mit"}))


def test_push_of_a_mixed_zoo_tags_last_and_states_its_licence(hub: HubServer, commit: str) -> None:
    repo = hub.repos["org/park"]
    assert repo.tags == {"v1.1": commit} and repo.main == commit
    assert stated_licence(repo.files["README.md"].data.decode()) == "mit"
    assert {"park/zoo.json", "park/train-00000-of-00001.f32"} <= set(repo.files)


def test_mixed_zoo_without_a_licence_is_not_pushed(park: Path) -> None:
    with pytest.raises(ValueError, match="'park' holds networks of others and states no licence"):
        push_to_hub(park, "org/none")


@pytest.mark.parametrize("split", [None, "test", "train[:50%]"])
def test_load_zoo_opens_a_published_mixed_zoo(
    split: str | None, client: HubClient, commit: str, park: Path, tmp_path: Path
) -> None:
    code = LOAD if split else LOAD.replace("zoo =", "zoos =") + "\n"
    code = code.replace("result", "zoo = zoos['val']\nresult") if split is None else code
    found = client.run(code, split=split, cache=tmp_path)
    here = load_zoo(park, split=split or "val")
    assert found == [repr(here), here["model_id"].tolist(), here[-1]["weights"].tolist()]


def test_only_the_files_of_a_split_are_fetched(
    hub: HubServer, client: HubClient, commit: str, tmp_path: Path
) -> None:
    hub.forget()
    client.run(LOAD, split="test", cache=tmp_path)
    fetched = {path.name for path in tmp_path.glob("datasets--*/snapshots/*/park/*")}
    names = {"test-00000-of-00001.h5", "test-00000-of-00001.f32", "zoo.json", "zoo.json.checked"}
    assert fetched == names


def test_stock_load_dataset_reads_the_columns_by_configuration(
    client: HubClient, commit: str, park: Path, tmp_path: Path
) -> None:
    for where, name in (("org/park", "park"), (str(park), None)):
        found = client.run(STOCK, where=where, name=name, cache=tmp_path / "cache")
        assert list(found) == ["train", "validation", "test"]
        for split, (ids, status) in found.items():
            here = load_zoo(park, split=split)
            assert ids == here["model_id"].tolist() and status == here["status"].tolist()


def test_pull_prints_the_folder_that_verify_accepts(
    client: HubClient, commit: str, park: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pulled = client.run(
        "from weightzoo.loaders.hub.fetching import fetch_zoo; result = str(fetch_zoo('org/park'))"
    )
    assert client.run(COMMAND, arguments=["pull", "org/park", "--split", "val"]) == 0
    assert client.run(COMMAND, arguments=["verify", pulled]) == 0
    files = ("zoo.json", *(f"{split}-00000-of-00001.f32" for split in ("train", "validation")))
    assert all((Path(pulled) / name).read_bytes() == (park / name).read_bytes() for name in files)


def test_changed_value_of_a_mixed_zoo_is_not_pushed(park: Path, tmp_path: Path) -> None:
    other = make_mixed_zoo(tmp_path / "park", licence="mit")
    path = other / "train-00000-of-00001.f32"
    path.write_bytes(np.zeros(path.stat().st_size // 4, "<f4").tobytes())
    with pytest.raises(ValueError, match="differ from their checksums"):
        push_to_hub(other, "org/none")


def test_mixed_zoo_is_not_streamed(client: HubClient, commit: str, park: Path) -> None:
    with pytest.raises(ValueError, match="a mixed zoo, whose weights are not streamed"):
        load_zoo(park, split="train", streaming=True)
    with pytest.raises(RemoteError, match="a mixed zoo, whose weights are not streamed"):
        client.run("from weightzoo import load_zoo; load_zoo('org/park', streaming=True)")


def test_other_data_under_the_name_of_a_mixed_zoo_is_refused(
    client: HubClient, commit: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"licence": "mit"}
    changed = make_mixed_zoo(tmp_path / "park")
    with pytest.raises(RemoteError, match="holds other data as 'park'"):
        client.run(PUSH, folder=changed, options=options)
