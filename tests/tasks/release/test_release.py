"""A release from an empty folder: what it writes, how it continues, and what it refuses."""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_release import write_small_plan

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.loaders.hub.publishing import push_collection
from weightzoo.loaders.hub.sums import SUMS_NAME, read_sums, write_sums
from weightzoo.tasks.release.collection import Collection, load_collection
from weightzoo.tasks.release.members import Build
from weightzoo.tasks.release.release import release_collection
from weightzoo.tasks.release.units import columns_sha256
from weightzoo.zoos.errors import BuildError, ZooFormatError, ZooNotFoundError
from weightzoo.zoos.hub.requests import HubError

QUIET: dict[str, Any] = {"workers": 1, "progress": False}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Collection]:
    """A finished release of one member, to copy, and its plan."""
    folder = tmp_path_factory.mktemp("release")
    plan = load_collection(write_small_plan(folder)).only(["mlps"])
    release_collection(folder / "zoos", plan, **QUIET)
    return folder / "zoos", plan


@pytest.fixture
def folder(made: tuple[Path, Collection], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "zoos"))


@pytest.fixture
def plan(made: tuple[Path, Collection]) -> Collection:
    return made[1]


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a finished member was made again")

    monkeypatch.setattr(Build, "make", fail)


def record(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / ".release" / "mlps.json").read_text())
    return data


def test_release_lists_every_file_but_the_card_with_its_checksum(folder: Path) -> None:
    sums = read_sums(folder)
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(sums) == held - {"README.md", SUMS_NAME, ".release/mlps.json"}
    assert {"LICENSE", "CITATION.cff", "release.json", "mlps/plot.png", "mlps/zoo.json"} < set(sums)
    for path, digest in sums.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest


def test_release_verifies_its_members_and_says_so(folder: Path) -> None:
    unit = json.loads((folder / "release.json").read_text())["members"]["mlps"]
    assert [check["passed"] for check in unit["checks"]] == [True] * 8
    assert (unit["models"], unit["rows"]) == (10, 30) and unit["seconds"] > 0
    metadata, body = (folder / "README.md").read_text().split("---\n", 2)[1:]
    assert yaml.safe_load(metadata)["dataset_info"][0]["features"][-1]["length"] == 9550
    assert f"| `mlps` | 10 | 30 | {unit_megabytes(unit)} MB |" in body
    assert unit["columns_sha256"] == columns_sha256(folder / "mlps")


def unit_megabytes(unit: dict[str, Any]) -> str:
    return f"{sum(size for size, _ in unit['files'].values()) / 1e6:,.1f}"


def test_command_of_the_card_gives_the_same_columns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (folder / "README.md").read_text()
    found = re.search(r"\| `mlps` \| – \| `weightzoo (.+?)` \|", card)
    assert found is not None
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    assert main([*shlex.split(found[1]), "--workers", "1"]) == 0
    assert columns_sha256("mlps") == columns_sha256(folder / "mlps")
    assert Path("mlps/zoo.json").read_bytes() != (folder / "mlps" / "zoo.json").read_bytes()


def test_digest_of_columns_tells_other_values(folder: Path, tiny_zoo: Path) -> None:
    assert columns_sha256(folder / "mlps") != columns_sha256(tiny_zoo)
    with pytest.raises(ZooNotFoundError):
        columns_sha256(folder / "nothing")


def test_finished_members_are_not_made_again(
    folder: Path, plan: Collection, nothing_is_made: None
) -> None:
    before = (folder / SUMS_NAME).read_bytes()
    release_collection(folder, plan, **QUIET)
    assert (folder / SUMS_NAME).read_bytes() == before


def test_member_that_was_killed_before_its_record_is_verified_and_kept(
    folder: Path, plan: Collection, nothing_is_made: None
) -> None:
    path = folder / ".release" / "mlps.json"
    path.write_text(json.dumps({"member": record(folder)["member"], "state": "building"}))
    release_collection(folder, plan, **QUIET)
    assert record(folder)["state"] == "done" and record(folder)["seconds"] is None


def test_member_that_fails_a_check_is_not_recorded_as_done(folder: Path, plan: Collection) -> None:
    path = folder / ".release" / "mlps.json"
    path.write_text(json.dumps({"member": record(folder)["member"], "state": "building"}))
    shard = folder / "mlps" / "test-00000-of-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(BuildError, match="mlps does not pass its checks .*zoo.json.*delete it"):
        release_collection(folder, plan, **QUIET)
    assert record(folder)["state"] == "building"


def _remove_record(folder: Path) -> None:
    (folder / ".release" / "mlps.json").unlink()


def _damage_record(folder: Path) -> None:
    (folder / ".release" / "mlps.json").write_text("{")


def _remove_file(folder: Path) -> None:
    (folder / "mlps" / "plot.png").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove_record, "was not made by this release: move it away"),
        (_damage_record, "mlps.json is damaged .*: delete it"),
        (_remove_file, r"is damaged, \['mlps/plot.png'\] are missing"),
    ],
)
def test_release_of_a_folder_half_done_says_what_to_do(
    damage: Callable[[Path], None], message: str, folder: Path, plan: Collection
) -> None:
    damage(folder)
    with pytest.raises(BuildError, match=message):
        release_collection(folder, plan, **QUIET)


@pytest.mark.slow
def test_member_whose_folder_was_deleted_is_made_again(folder: Path, plan: Collection) -> None:
    digest = columns_sha256(folder / "mlps")
    shutil.rmtree(folder / "mlps")
    release_collection(folder, plan, **QUIET)
    assert columns_sha256(folder / "mlps") == digest
    assert len(load_zoo(folder, "mlps", split="test")) == 6


def test_release_by_another_plan_is_refused(folder: Path, plan: Collection) -> None:
    member = plan.members[0]
    assert isinstance(member, Build)
    other = replace(plan, members=(replace(member, models=12),))
    with pytest.raises(BuildError, match="of another plan .*--models 10.*now .*--models 12"):
        release_collection(folder, other, **QUIET)
    described = replace(plan, members=(replace(member, about="other words"),))
    release_collection(folder, described, **QUIET)


def test_pushes_that_cannot_succeed_are_refused_before_any_work(
    plan: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match="needs a token .*hf auth login"):
        release_collection(out, plan, push="org/name", **QUIET)
    with pytest.raises(ValueError, match="repo must be 'org/name', got 'name'"):
        release_collection(out, plan, push="name", **QUIET)
    with pytest.raises(ValueError, match="published whole"):
        release_collection(out, plan, push="org/name", only=["mlps"], **QUIET)
    with pytest.raises(ValueError, match="states no licence"):
        release_collection(out, replace(plan, licence=""), push="org/name", **QUIET)
    assert not out.exists()
    out.write_text("")
    with pytest.raises(BuildError, match="is a file: name a folder"):
        release_collection(out, plan, **QUIET)


def test_push_of_a_collection_that_is_not_whole_is_refused(folder: Path) -> None:
    plot = folder / "mlps" / "plot.png"
    plot.write_bytes(plot.read_bytes()[:-1] + b"x")
    with pytest.raises(ZooFormatError, match=r"\['mlps/plot.png'\] are missing or differ"):
        push_collection(folder, "org/name")
    write_sums(folder, {"../mlps": "0" * 64})
    with pytest.raises(ZooFormatError, match="SHA256SUMS is damaged"):
        push_collection(folder, "org/name")
    (folder / SUMS_NAME).unlink()
    with pytest.raises(ZooNotFoundError, match="no finished release.*weightzoo release"):
        push_collection(folder, "org/name")


def test_push_without_a_stated_licence_is_refused(folder: Path) -> None:
    card = folder / "README.md"
    for licence in ("", "license: unknown\n"):
        card.write_text(re.sub(r"license: .*\n", licence, card.read_text(), count=1))
        with pytest.raises(ValueError, match="states no licence"):
            push_collection(folder, "org/name")


def test_dry_run_prints_every_member_and_builds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write_small_plan(tmp_path)
    command = ["release", str(tmp_path / "out"), "--plan", str(plan), "--dry-run"]
    assert main([*command, "--only", "merged", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["member", "families", "merged", "2"]
    assert not (tmp_path / "out").exists()
