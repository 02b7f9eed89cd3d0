"""Shards of a build give the zoo of one process, in any order and after kills."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weightzoo.builders.build import build_zoo
from weightzoo.builders.shard_build import ShardFolder, build_shard
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.format import checksum
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.recipe import Recipe, load_recipe

GIVEN: dict[str, Any] = {"workers": 1, "progress": False}


def small_recipe() -> Recipe:
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": 0.05, "dropout": 0.0}
    return replace(recipe, factors=factors, seeds=7, epochs=1, checkpoints=(0, 1))


def columns(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in ZooIndex.read(folder).open(folder):
        yield file.path.name, "weights", file.map_weights().tobytes()
        for name, column in file.read_columns().items():
            yield file.path.name, name, checksum(column).encode()


def test_shards_in_any_order_give_the_zoo_of_one_process(tmp_path: Path) -> None:
    build_zoo(small_recipe(), tmp_path / "one", **GIVEN)
    for number in (3, 1):
        assert build_shard(small_recipe(), tmp_path / "zoo", (number, 3), **GIVEN) is None
    index = build_shard(small_recipe(), tmp_path / "zoo", (2, 3), **GIVEN)
    assert index is not None and sum(shard.models for shard in index.shards) == 7
    assert list(columns(tmp_path / "zoo")) == list(columns(tmp_path / "one"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "zoo"]


def test_shard_goes_on_after_a_kill_and_trains_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = ShardFolder.write, list[int]()

    def stop(self: ShardFolder, positions: Any, *rest: Any) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        real(self, positions, *rest)
        written.append(min(positions))

    monkeypatch.setattr(ShardFolder, "write", stop)
    given = GIVEN | {"cohort_size": 2}
    with pytest.raises(KeyboardInterrupt):
        build_shard(small_recipe(), tmp_path / "zoo", (1, 2), **given)
    first = written.pop()

    def log(self: ShardFolder, positions: Any, *rest: Any) -> None:
        written.append(min(positions))
        real(self, positions, *rest)

    monkeypatch.setattr(ShardFolder, "write", log)
    assert build_shard(small_recipe(), tmp_path / "zoo", (1, 2), **given) is None
    assert written and first not in written
    assert build_shard(small_recipe(), tmp_path / "zoo", (2, 2), **given) is not None


def test_shards_of_another_build_are_refused(tmp_path: Path) -> None:
    build_shard(small_recipe(), tmp_path / "zoo", (1, 2), **GIVEN)
    other = replace(small_recipe(), seed=9)
    with pytest.raises(BuildError, match=r"holds a shard of a build that differs in \['recipe'\]"):
        build_shard(other, tmp_path / "zoo", (1, 2), **GIVEN)
    with pytest.raises(BuildError, match=r"shard-1-of-2 differs from this shard in \['recipe'\]"):
        build_shard(other, tmp_path / "zoo", (2, 2), **GIVEN)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 8)])
def test_numbers_of_shards_are_checked(shard: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="shard must be I/N with I from 1 to N, and N at most 7"):
        build_shard(small_recipe(), tmp_path / "zoo", shard, **GIVEN)


def test_damaged_rows_of_a_shard_are_named(tmp_path: Path) -> None:
    build_shard(small_recipe(), tmp_path / "zoo", (1, 2), **GIVEN)
    file = next((tmp_path / "zoo.shard-1-of-2").glob("cohort-*.npz"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BuildError, match=r"cohort-\d+.npz is damaged: delete it"):
        build_shard(small_recipe(), tmp_path / "zoo", (2, 2), **GIVEN)


@pytest.mark.slow
def test_commands_of_shards_killed_at_any_moment_give_the_zoo(tmp_path: Path) -> None:
    options = ["--models", "8", "--workers", "1", "--out", str(tmp_path / "zoo")]
    command = [sys.executable, "-m", "weightzoo", "build", "digits-mlp", *options]
    for number, seconds in (("1/2", 4.0), ("2/2", 9.0)):
        process = subprocess.Popen([*command, "--shard", number], stderr=subprocess.DEVNULL)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    for number in ("1/2", "2/2"):
        if not (tmp_path / "zoo").exists():
            run = subprocess.run([*command, "--shard", number], capture_output=True, text=True)
            assert run.returncode == 0, run.stderr
    build_zoo(load_recipe("digits-mlp"), tmp_path / "one", models=8, **GIVEN)
    assert list(columns(tmp_path / "zoo")) == list(columns(tmp_path / "one"))
