"""The Slurm engine gives the process engine's zoo, also when tasks are killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weightzoo.builders.build import Engine
from weightzoo.builders.engines.slurm_engine import CohortTask
from weightzoo.cli.building import _slurm_options
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.format import checksum
from weightzoo.zoos.index import ZooIndex

submitit = pytest.importorskip("submitit", reason="the engine 'slurm' needs weightzoo[slurm]")


def _builds(folder: Path, *names: str) -> None:
    """Let a script write zoos, in a process of its own."""
    path = Path(__file__).with_name("slurm_builds.py")
    command = [sys.executable, str(path), str(folder), *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert run.returncode == 0, run.stderr


def _columns(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in ZooIndex.read(folder).open(folder):
        yield file.path.name, "weights", file.map_weights().tobytes()
        for name, column in file.read_columns().items():
            yield file.path.name, name, checksum(column).encode()


def _trained(folder: Path, name: str) -> list[str]:
    return sorted((folder / f"trained-{name}").read_text().splitlines())


@pytest.mark.slow
def test_job_array_gives_the_same_zoo_also_with_a_killed_task(tmp_path: Path) -> None:
    _builds(tmp_path, "process", "plain", "killed")
    for name in ("plain", "killed"):
        assert list(_columns(tmp_path / name)) == list(_columns(tmp_path / "process"))
        assert not (tmp_path / f"{name}.partial").exists()
    once = _trained(tmp_path, "process")
    assert _trained(tmp_path, "plain") == once and (tmp_path / "died-0").exists()
    assert len(_trained(tmp_path, "killed")) == len(once) + 1


@pytest.mark.slow
def test_stopped_job_array_is_ended_by_another_engine(tmp_path: Path) -> None:
    _builds(tmp_path, "process", "resumed")
    assert list(_columns(tmp_path / "resumed")) == list(_columns(tmp_path / "process"))
    assert _trained(tmp_path, "resumed") == _trained(tmp_path, "process")


def test_preempted_task_is_queued_again_as_it_is() -> None:
    shared: Any = object()
    again = CohortTask().checkpoint(shared, [3, 4])
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert isinstance(again.function, CohortTask) and again.args == (shared, [3, 4])


def test_node_that_sees_no_build_folder_is_an_error() -> None:
    class Zoo:
        folder = Path("/shared/zoo.partial")

        def signature(self) -> None:
            return None

    class Shared:
        zoo, signature = Zoo(), "text"

    shared: Any = Shared()
    with pytest.raises(BuildError, match="a node does not see /shared/zoo.partial"):
        CohortTask()(shared, [0])


def test_options_are_checked() -> None:
    assert _slurm_options(["timeout_min=60", "slurm_partition=gpu"]) == {
        "timeout_min": 60,
        "slurm_partition": "gpu",
    }
    with pytest.raises(BuildError, match="--slurm takes NAME=VALUE"):
        _slurm_options(["gpu"])
    with pytest.raises(BuildError, match="Slurm options need the engine 'slurm'"):
        Engine(slurm={"timeout_min": 1})
    with pytest.raises(BuildError, match="device must be one of .* with the engine 'slurm'"):
        Engine(name="slurm", device="cuda:1")
