"""Checkpoints on the Hub: header first, tensors by ranges, faults told or survived."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hub_client import HubClient, RemoteError
from hub_server import HubServer
from make_checkpoints import llama_tensors, make_adapter, make_checkpoint

from weightzoo.loaders.collections.hub_checkpoints import is_hub_model
from weightzoo.tasks.merging.merge import merge_checkpoints
from weightzoo.tasks.merging.recipe import read_merge_recipe
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder

READ = """
from weightzoo.loaders.collections import open_collection
collection = open_collection(members)
result = [[v.sum().item() for v in collection.read(name)] for name in sorted(collection.tensors)]
"""
COMMAND = "from weightzoo.cli.main import main; result = main(arguments)"


@pytest.fixture
def members(hub: HubServer, tmp_path: Path) -> list[str]:
    """Two children of one network as repositories, the second in two shards."""
    hub.forget()
    for seed, shards in ((1, 1), (2, 2)):
        own = {n: v + 0.1 * llama_tensors(seed)[n] for n, v in llama_tensors(0).items()}
        folder = make_checkpoint(tmp_path / f"m{seed}", own, shards=shards)
        hub.add_repo(f"org/m{seed}", folder, model=True)
    return ["org/m1", "hf://org/m2@main"]


def test_tensors_of_repositories_are_those_of_their_folders(
    hub: HubServer, client: HubClient, members: list[str], tmp_path: Path
) -> None:
    found = client.run(READ, members=members)
    folders = [open_checkpoint_folder(tmp_path / f"m{seed}") for seed in (1, 2)]
    for name, sums in zip(sorted(llama_tensors(0)), found, strict=True):
        assert sums == pytest.approx([float(folder.read(name).sum()) for folder in folders])
    assert hub.count(r"GET .*safetensors bytes=") > 0
    assert hub.count(r"GET .*\.safetensors$") == 0  # never as a whole


def test_merge_of_repositories_equals_that_of_folders(
    client: HubClient, members: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert client.run(COMMAND, arguments=["merge", *members, "--out", str(out)]) == 0
    recipe = {"method": "mean", "members": [str(tmp_path / f"m{seed}") for seed in (1, 2)]}
    merge_checkpoints(read_merge_recipe(recipe), tmp_path / "local")
    one, two = open_checkpoint_folder(out), open_checkpoint_folder(tmp_path / "local")
    assert all(torch.equal(one.read(name), two.read(name)) for name in llama_tensors(0))
    assert (one.config, one.tokenizer) == (two.config, two.tokenizer)
    record = json.loads((out / "merge.json").read_text())
    assert record["members"][0].startswith("hf://org/m1@")  # with its commit


def test_families_of_repositories_are_found(client: HubClient, members: list[str]) -> None:
    code = """
from weightzoo.loaders.collections import open_collection
from weightzoo.tasks.merging.families import find_families
result = find_families(open_collection(members)).to_json()["families"]
"""
    assert [len(family) for family in client.run(code, members=members)] == [2]


def test_repositories_are_glued(client: HubClient, members: list[str], tmp_path: Path) -> None:
    score = tmp_path / "score.py"
    score.write_text("import os, sys\nprint(os.path.getsize(sys.argv[1] + '/config.json'))")
    command = f"{sys.executable} {score} {{model}}"
    arguments = ["glue", *members, "--out", str(tmp_path / "out"), "--strategies", "average"]
    arguments += ["--evaluate", command, "--test", command]
    assert client.run(COMMAND, arguments=arguments) == 0
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["families"]) == 1


def test_broken_connection_is_tried_again(
    hub: HubServer, client: HubClient, members: list[str]
) -> None:
    whole = client.run(READ, members=members)
    hub.fail("GET", "/lfs/", truncate=True)
    hub.fail("GET", "/lfs/", status=503)
    assert client.run(READ, members=members) == whole
    assert all(fault.times == 0 for fault in hub.faults)  # both were met


def test_missing_repository_or_shard_is_named(
    hub: HubServer, client: HubClient, members: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RemoteError, match="no model 'org/none' on the Hub"):
        client.run(READ, members=["org/none"])
    folder = tmp_path / "m2"
    (folder / "model-00002-of-00002.safetensors").unlink()
    hub.add_repo("org/torn", folder, model=True)
    with pytest.raises(RemoteError, match=r"lacks the shards \['model-00002-of-00002.safeten"):
        client.run(READ, members=["org/torn"])
    with pytest.raises(RemoteError, match="is no address of a model"):
        client.run(READ, members=["hf://org"])


def test_hostile_header_is_refused_before_any_tensor(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "m", llama_tensors(0))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[:8] = (2**40).to_bytes(8, "little")
    (folder / "model.safetensors").write_bytes(data)
    hub.add_repo("org/hostile", folder, model=True)
    with pytest.raises(RemoteError, match="its header would take 1099511627776 bytes"):
        client.run(READ, members=["org/hostile"])


def test_adapter_of_a_repository_joins_its_base(
    hub: HubServer, client: HubClient, members: list[str], tmp_path: Path
) -> None:
    hub.add_repo("org/lora", make_adapter(tmp_path / "lora", "org/m1"), model=True)
    code = """
from weightzoo.loaders.collections import open_collection
(member,) = open_collection(["org/lora"], "org/m1").members
result = [type(member).__name__, len(member.tensors)]
"""
    assert client.run(code) == ["AdapterMember", len(llama_tensors(0))]


def test_addresses_of_models_are_told_from_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool" / "m1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_model("org/name") and is_hub_model("hf://org/name@v1")
    assert not is_hub_model("pool/m1") and not is_hub_model(tmp_path / "none")
    assert not is_hub_model("hf://datasets/org/zoo") and not is_hub_model("a/b/c")
