"""The Ray engine gives the process engine's zoo, whatever becomes of its workers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weightzoo.builders.build import Engine, build_zoo
from weightzoo.builders.writing.partial_zoo import PartialZoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.format import checksum
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.recipe import load_recipe

COHORTS = 4


def _builds(folder: Path, *names: str, script: str = "ray_builds.py") -> Path:
    """Let a script write zoos, in a process of its own."""
    pytest.importorskip("ray", reason="the engine 'ray' needs weightzoo[ray]")
    path = Path(__file__).with_name(script)
    command = [sys.executable, str(path), str(folder), *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return folder


def _columns(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in ZooIndex.read(folder).open(folder):
        yield file.path.name, "weights", file.map_weights().tobytes()
        for name, column in file.read_columns().items():
            yield file.path.name, name, checksum(column).encode()


def _trained(folder: Path, name: str) -> list[str]:
    return sorted((folder / f"trained-{name}").read_text().splitlines())


def _check_equal(folder: Path, name: str) -> None:
    """The same files, byte for byte in every column, and nothing else left behind."""
    assert list(_columns(folder / name)) == list(_columns(folder / "process"))
    held = {path.name for path in (folder / name).iterdir()}
    assert held == {path.name for path in (folder / "process").iterdir()}


@pytest.mark.slow
def test_ray_engine_runs_the_cohort_of_a_killed_worker_again(tmp_path: Path) -> None:
    """No row is lost and none is there twice: the zoo equals that of the process engine."""
    folder = _builds(tmp_path, "process", "killed")
    _check_equal(folder, "killed")
    once, killed = _trained(folder, "process"), _trained(folder, "killed")
    assert (folder / "died-0").exists()
    assert len(once) == COHORTS and len(killed) == COHORTS + 1 and set(killed) == set(once)


@pytest.mark.slow
def test_ray_engine_gives_the_same_zoo_apart_and_resumed(tmp_path: Path) -> None:
    """Also if nodes see no build folder or the driver was stopped; nothing is trained twice."""
    folder = _builds(tmp_path, "process", "plain", "apart", "resumed")
    for name in ("plain", "apart", "resumed"):
        _check_equal(folder, name)
        assert _trained(folder, name) == _trained(folder, "process")


@pytest.mark.slow
def test_ray_engine_reads_own_image_files_of_the_working_folder(tmp_path: Path) -> None:
    """Also on a cluster that runs in another folder; the architecture is that of a module."""
    folder = _builds(tmp_path, script="ray_own_images.py")
    for kind in ("arrays", "idx", "folder", "child"):
        zoo, same = folder / f"ray-{kind}", folder / f"process-{kind}"
        assert list(_columns(zoo)) == list(_columns(same)) != []
        headers = [ZooIndex.read(path).open(path)[0].header for path in (zoo, same)]
        assert headers[0].provenance["images"] == headers[1].provenance["images"]
        assert headers[0].architecture == headers[1].architecture


def test_ray_engine_that_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match="pip install 'weightzoo\\[ray\\]'"):
        build_zoo(load_recipe("digits-mlp"), tmp_path / "zoo", models=12, engine="ray")


def test_engine_refuses_what_it_cannot_do() -> None:
    with pytest.raises(BuildError, match="engine must be one of .*'spark'"):
        Engine(name="spark")
    with pytest.raises(BuildError, match="needs the engine 'ray'"):
        Engine(ray_address="auto")


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0", "gpu"])
def test_ray_engine_refuses_a_gpu_by_number(device: str, tmp_path: Path) -> None:
    message = f"one of .'cpu', 'cuda'.* got '{device}': set CUDA_VISIBLE_DEVICES"
    with pytest.raises(BuildError, match=message):
        build_zoo(load_recipe("digits-mlp"), tmp_path / "zoo", engine="ray", device=device)
    assert not list(tmp_path.iterdir())
    assert Engine(name="ray", device="cuda") and Engine(device="cuda:1")


def test_another_folder_is_not_taken_for_that_of_the_build(tmp_path: Path) -> None:
    recipe = load_recipe("digits-mlp")
    zoo = PartialZoo(tmp_path / "gone", (), recipe.checkpoints, (), None)  # type: ignore[arg-type]
    assert zoo.signature() is None
    zoo.folder.mkdir()
    assert zoo.sign() == zoo.signature() != zoo.sign()
