"""The whole way: an empty folder, three kills, the Hub, and a clean cache on the other side."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_client import HubClient
from hub_server import TOKEN, HubServer
from small_release import write_small_plan

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks.ranking.matrix import read_matrix
from weightzoo.tasks.release.units import columns_sha256
from weightzoo.zoos.index import ZooIndex

REPO = "org/small"
ZOOS = ("mlps", "tuned", "sparse", "families", "merged")
STOCK = """
from datasets import load_dataset
data = load_dataset(repo, name, cache_dir=cache)
result = {split: rows.with_format("arrow")[:].to_pydict() for split, rows in data.items()}
"""
OURS = """
from weightzoo import load_zoo
result = {split: rows.weights().tolist() for split, rows in load_zoo(repo, name=name).items()}
"""


def start(folder: Path, plan: Path, hub: HubServer) -> subprocess.Popen[bytes]:
    words = ["release", str(folder), "--plan", str(plan), "--workers", "1", "--push", REPO]
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(folder.parent / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    with (folder.parent / "log").open("wb") as log:
        command = [sys.executable, "-m", "weightzoo.cli", *words]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """Kill a process in the moment that a condition is true, before it has ended."""
    deadline = time.monotonic() + 500
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def state(folder: Path, name: str) -> str:
    path = folder / ".release" / f"{name}.json"
    return str(json.loads(path.read_text())["state"]) if path.exists() else ""


@pytest.mark.slow
def test_release_killed_three_times_is_published_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = write_small_plan(tmp_path), tmp_path / "zoos"
    with HubServer() as hub:
        kill_when(start(folder, plan, hub), lambda: (folder / "tuned.partial").exists())
        assert state(folder, "mlps") == "done" and state(folder, "tuned") == "building"
        first = (folder / ".release" / "mlps.json").stat().st_mtime_ns
        parts = folder / ".release" / "matrix"
        kill_when(start(folder, plan, hub), parts.exists)
        assert state(folder, "merged") == "done" and state(folder, "matrix") == "building"
        kill_when(start(folder, plan, hub), lambda: hub.count("PUT /lfs/") > 0)
        assert REPO not in hub.repos or not hub.repos[REPO].tags
        done = start(folder, plan, hub)
        assert done.wait(timeout=500) == 0, (tmp_path / "log").read_text()
        assert (folder / ".release" / "mlps.json").stat().st_mtime_ns == first
        check_published(folder, hub)
        check_read_back(folder, hub, tmp_path)
    check_commands(folder, tmp_path / "again", monkeypatch)


def check_commands(folder: Path, again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of every member, given by hand in another folder, gives the same values."""
    again.mkdir()
    monkeypatch.chdir(again)
    card = (folder / "README.md").read_text()
    for name in (*ZOOS, "matrix"):
        found = re.search(rf"^\| `{name}` \| .+? \| `weightzoo (.+?)` \|$", card, re.MULTILINE)
        assert found is not None
        assert main(shlex.split(found[1])) == 0
        made = {"merged": "merged/merged", "matrix": "matrix.h5"}.get(name, name)
        assert columns_sha256(made) == columns_sha256(folder / name), name


def check_published(folder: Path, hub: HubServer) -> None:
    repo = hub.repos[REPO]
    assert repo.tags == {"v1.1": repo.main}
    here = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    here = {path: file for path, file in here.items() if not path.startswith(".release/")}
    assert set(repo.files) == {".gitattributes", *here}
    for path, file in here.items():
        assert repo.files[path].data == file.read_bytes(), path
    uploads = [line for line in hub.requests if line.startswith("PUT /lfs/")]
    assert len(uploads) - len(set(uploads)) <= 8  # what the killed push had not finished


def check_read_back(folder: Path, hub: HubServer, tmp_path: Path) -> None:
    home = tmp_path / "clean"
    home.mkdir()
    with HubClient(hub.endpoint, home) as client:
        for name in ZOOS:
            stock = read_stock(client, name, home)
            ours = client.run(OURS, repo=REPO, name=name)
            here = load_zoo(folder / name)
            assert list(ours) == list(here)
            for split, rows in here.items():
                hub_split = "validation" if split == "val" else split
                assert stock[hub_split]["weights"] == rows.weights().tolist() == ours[split]
                assert stock[hub_split]["model_id"] == rows.columns["model_id"].tolist()
        table = read_stock(client, "matrix", home)["train"]
        matrix = read_matrix(folder / "matrix" / "matrix.h5")
        assert table["test_accuracy"] == matrix.test.reshape(-1).tolist()
        assert table["model"][:2] == [matrix.models[0]] * 2
    assert ZooIndex.read(folder / "merged").name == "merged"


def read_stock(client: HubClient, name: str, home: Path) -> dict[str, Any]:
    result: dict[str, Any] = client.run(STOCK, repo=REPO, name=name, cache=home / "cache")
    return result
