"""The writer of zoo folders: killed anywhere, it goes on; what is in its way is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_tiny_zoo import make_tiny_zoo, tiny_architecture, tiny_header, tiny_rows

from weightzoo.zoos import disk, partial_folder, zoo_folder
from weightzoo.zoos.errors import BuildError, ZooNotFoundError
from weightzoo.zoos.folder_identity import Identity
from weightzoo.zoos.format import open_zoo_file
from weightzoo.zoos.index import ZooIndex, describe_shard
from weightzoo.zoos.partial_folder import PartialFolder
from weightzoo.zoos.partial_folder import partial_folder as held_folder
from weightzoo.zoos.zoo_folder import (
    ShardPlan,
    create_files,
    finish_file,
    finish_folder,
    mend_files,
    plan_shards,
    write_rows,
)

SPLITS = ["train", "train", "val"]
HEADER = tiny_header(tiny_architecture())
MINE = Identity("build", "tiny", {"recipe": {"name": "tiny"}, "models": 3})
OTHER = Identity("import", "nets.zip", {"format": "hub"})


class Killed(BaseException):
    """Stands for a kill."""


def columns(plan: ShardPlan) -> dict[str, np.ndarray]:
    return tiny_rows(tiny_architecture(), [plan.split] * len(plan.positions))[0]


def write_zoo(out: Path, identity: Identity = MINE, overwrite: bool = False) -> Path:
    """Write three models of three rows each; row r of a file holds the number r."""
    with held_folder(out, identity, overwrite) as held:
        if held.is_done:
            return out
        plans = plan_shards(SPLITS, [3] * 3, HEADER.layer_table.width * 4)
        if held.is_planned({"rows": 9}, overwrite):
            left = [plan for plan in plans if not (held.finished / plan.name).exists()]
            mend_files(held.path, left, HEADER, columns)
        else:
            create_files(held.path, plans, HEADER, columns)
            held.set_planned({"rows": 9})
            for plan in plans:
                rows = np.arange(plan.rows, dtype=np.float32)
                block = np.repeat(rows[:, None], HEADER.layer_table.width, axis=1)
                write_rows(held.path / plan.name, [0], [block])
        held.start_finishing({"weightzoo": "test"})
        shards = []
        for plan in plans:
            path, target = held.path / plan.name, held.finished / plan.name
            finish_file(path, target, HEADER, lambda weights, plan=plan: columns(plan))  # type: ignore[misc]
            shards.append(describe_shard(held.finished, plan.name, plan.split, 1))
        finish_folder(held.finished, "tiny", shards, HEADER)
    return out


def check_zoo(folder: Path) -> None:
    """The zoo is whole, and nothing else is left."""
    for file in ZooIndex.read(folder).open(folder):
        np.testing.assert_array_equal(file.map_weights()[:, 0], np.arange(file.rows))
        assert set(file.header.checksums) == {*file.columns, "weights"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def kill_at(patch: pytest.MonkeyPatch, module: Any, name: str, call: int, after: bool) -> None:
    """Die before or after a call of a function."""
    real, count = getattr(module, name), iter(range(10**6))

    def or_die(*arguments: Any, **options: Any) -> Any:
        now = next(count) == call
        if now and not after:
            raise Killed
        result = real(*arguments, **options)
        if now:
            raise Killed
        return result

    patch.setattr(module, name, or_die)


def kill(out: Path, module: Any, name: str, call: int, after: bool = False, **options: Any) -> str:
    """Write a zoo up to a call; an unexpected end without it is an error. Return the stage."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, module, name, call, after)
        patch.setattr(PartialFolder, "abandon", lambda held: None)  # a kill runs no clean-up
        with pytest.raises(Killed):
            write_zoo(out, **options)
    return PartialFolder(out.with_name(f"{out.name}.partial")).stage


KILLS: dict[str, tuple[Any, str, int, bool, str]] = {
    "no file made": (zoo_folder, "create_zoo_file", 0, False, "planning"),
    "one file made": (zoo_folder, "create_zoo_file", 0, True, "planning"),
    "all files made": (PartialFolder, "set_planned", 0, False, "planning"),
    "no file finished": (zoo_folder, "finish_zoo_file", 0, False, "finishing"),
    "a file finished, the planned one there": (zoo_folder, "finish_zoo_file", 0, True, "finishing"),
    "all files finished": (zoo_folder, "finish_zoo_file", 1, True, "finishing"),
    "index written": (zoo_folder, "write_card", 0, False, "finishing"),
    "all written": (partial_folder, "sync_tree", 0, True, "finishing"),
    "whole": (PartialFolder, "_rename", 0, False, "renaming"),
    "renamed": (PartialFolder, "_rename", 0, True, "renaming"),
    "files removed": (PartialFolder, "_delete_all_but", 2, True, "renaming"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_zoo_killed_at_any_moment_is_finished_by_the_same_command(
    moment: str, tmp_path: Path
) -> None:
    *where, stage = KILLS[moment]
    assert kill(tmp_path / "zoo", *where) == stage
    check_zoo(write_zoo(tmp_path / "zoo"))


@pytest.mark.parametrize("rename", [0, 1, 2, 3])
def test_kill_between_the_renames_loses_neither_zoo(rename: int, tmp_path: Path) -> None:
    out = make_tiny_zoo(tmp_path / "zoo")
    old = (out / "zoo.json").read_bytes()
    kill(out, partial_folder.os, "rename", rename // 2, bool(rename % 2), overwrite=True)
    places = [out, tmp_path / "zoo.partial" / "replaced"]
    assert rename == 3 or any((place / "zoo.json").exists() for place in places)
    found = {(place / "zoo.json").read_bytes() for place in places if (place / "zoo.json").exists()}
    assert old in found
    check_zoo(write_zoo(out, overwrite=True))


def test_zoo_that_was_to_be_replaced_comes_back_when_the_new_one_is_discarded(
    tmp_path: Path,
) -> None:
    out = make_tiny_zoo(tmp_path / "zoo")
    old = (out / "zoo.json").read_bytes()
    kill(out, partial_folder.os, "rename", 0, after=True, overwrite=True)
    assert not out.exists()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, zoo_folder, "create_zoo_file", 0, after=False)
        with pytest.raises(Killed):
            write_zoo(out, OTHER, overwrite=True)
    assert (out / "zoo.json").read_bytes() == old


def test_stale_old_folder_is_not_in_the_way(tmp_path: Path) -> None:
    """Earlier versions moved a replaced zoo to OUT.old, and failed where one was left."""
    out = make_tiny_zoo(tmp_path / "zoo")
    stale = make_tiny_zoo(tmp_path / "zoo.old")
    write_zoo(out, overwrite=True)
    assert (stale / "zoo.json").exists() and len(ZooIndex.read(out).shards) == 2


def test_lock_is_held_until_the_zoo_lies_at_its_place(tmp_path: Path) -> None:
    out, refused = tmp_path / "zoo", []
    with pytest.MonkeyPatch.context() as patch:
        real = os.rename

        def rename(*arguments: Any) -> None:
            for _ in range(2):
                with pytest.raises(BuildError, match="another command is writing"):
                    write_zoo(out)
                refused.append(True)
                real(*arguments) if len(refused) == 1 else None

        patch.setattr(partial_folder.os, "rename", rename)
        write_zoo(out)
    assert len(refused) == 2
    check_zoo(out)


def test_removed_lock_is_not_taken_for_one_that_is_held(tmp_path: Path) -> None:
    """A builder that ends removes its lock between another one's opening and locking it."""
    path = tmp_path / "lock"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_folder.fcntl, "flock", lambda handle, how: path.unlink())
        assert partial_folder._lock(path, tmp_path / "zoo") is None
    handle = partial_folder._lock(path, tmp_path / "zoo")
    assert handle is not None
    os.close(handle)


def leave(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_work_of_another_command_is_refused_by_name(tmp_path: Path) -> None:
    kill(tmp_path / "zoo", zoo_folder, "create_zoo_file", 0, identity=OTHER)
    with pytest.raises(BuildError) as refused:
        write_zoo(tmp_path / "zoo")
    words = "unfinished import of 'nets.zip' not of the command 'build': finish it .* delete"
    refused.match(words)
    write_zoo(tmp_path / "zoo", overwrite=True)
    check_zoo(tmp_path / "zoo")


def test_leftovers_that_say_nothing_are_refused_by_name(tmp_path: Path) -> None:
    """As a killed import of an archive left them: only what it had unpacked."""
    leave(tmp_path / "zoo.partial", "lock", "scratch/nets.tar")
    with pytest.raises(BuildError, match="zoo.partial holds 'scratch' of a command .* delete"):
        write_zoo(tmp_path / "zoo")
    check_zoo(write_zoo(tmp_path / "zoo", overwrite=True))


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_the_user_are_never_removed(overwrite: bool, tmp_path: Path) -> None:
    leave(tmp_path / "zoo.partial", "thesis.txt")
    with pytest.raises(
        BuildError, match="holds 'thesis.txt', which does not belong to an unfinished"
    ):
        write_zoo(tmp_path / "zoo", overwrite=overwrite)
    assert (tmp_path / "zoo.partial" / "thesis.txt").exists()


def test_whole_zoo_that_an_older_version_did_not_rename_is_pointed_at(tmp_path: Path) -> None:
    make_tiny_zoo(tmp_path / "zoo.partial")
    with pytest.raises(BuildError, match="finished but did not rename: rename it to .*zoo, or"):
        write_zoo(tmp_path / "zoo", overwrite=True)


def spoil_in_place(path: Path) -> None:
    """Leave a file as a kill of an older version does, which wrote in it through HDF5."""
    code = (
        "import h5py, os, sys\n"
        "file = h5py.File(sys.argv[1], 'r+', libver=('v110', 'v110'))\n"
        "file['status'][...] = 'diverged'\nfile.flush()\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_partial_build_of_an_older_version_is_finished(tmp_path: Path) -> None:
    """Also if a file has HDF5's mark of being open for writing, and does not open."""
    kill(tmp_path / "zoo", zoo_folder, "finish_zoo_file", 0)
    folder = tmp_path / "zoo.partial"
    (folder / "build.json").write_text('{"recipe": {"name": "tiny"}}')
    for name in ("partial.json", "plan.json", "provenance.json"):
        (folder / name).unlink()
    (folder / "finished").rmdir()
    path = folder / "train-00000-of-00001.h5"
    spoil_in_place(path)
    with pytest.raises(ValueError, match="not an HDF5 file"):
        open_zoo_file(path)
    with pytest.raises(BuildError, match="differs in 'recipe'"):
        write_zoo(tmp_path / "zoo", Identity("build", "x", {"recipe": {"name": "x"}}))
    check_zoo(write_zoo(tmp_path / "zoo"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "is missing: this zoo cannot be continued; delete"),
    "cut": (lambda path: os.truncate(path, 1000), "is truncated and has lost rows"),
    "zeros": (lambda path: path.write_bytes(bytes(9999)), "rows cannot be found: .* --overwrite"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_lost_rows_are_refused_in_words(damage: str, tmp_path: Path) -> None:
    change, words = DAMAGES[damage]
    kill(tmp_path / "zoo", zoo_folder, "finish_zoo_file", 0)
    change(tmp_path / "zoo.partial" / "train-00000-of-00001.h5")
    with pytest.raises(BuildError, match=words):
        write_zoo(tmp_path / "zoo")


def test_disk_too_small_is_refused_before_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.statvfs(tmp_path)
    full = os.statvfs_result((*stat[:3], 0, 1, *stat[5:]))  # one free block
    monkeypatch.setattr(disk.os, "statvfs", lambda path: full)
    made: list[Any] = []
    monkeypatch.setattr(zoo_folder, "create_zoo_file", lambda *arguments: made.append(arguments))
    free = f"{stat.f_frsize:,} bytes free: make room"
    with pytest.raises(BuildError, match=f"takes [0-9,]+ bytes, .* has {free}"):
        write_zoo(tmp_path / "zoo")
    assert made == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("megabytes", "files"), [(4, 1), (12, 2), (80, 8), (480, 8), (640, 10)])
def test_split_is_divided_into_files_that_are_streamed_at_once(megabytes: int, files: int) -> None:
    plans = plan_shards(["val"] * megabytes, [1] * megabytes, 1_000_000)
    assert len(plans) == files
    assert sum(plan.rows for plan in plans) == megabytes


def test_planned_bytes_are_about_those_written(tmp_path: Path) -> None:
    (plan, _) = plan_shards(SPLITS, [300] * 3, HEADER.layer_table.width * 4)
    table = {name: np.resize(column, 600) for name, column in columns(plan).items()}
    create_files(tmp_path, [plan], HEADER, lambda plan: table)
    size = (tmp_path / plan.name).stat().st_size
    assert 0.7 < zoo_folder._planned_bytes(plan, HEADER, table) / size < 1.3


@pytest.mark.parametrize("refuses", [True, False])
def test_copy_range_copies_all_bytes_with_and_without_the_system(
    refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> int:
        raise OSError(18, "cross-device link")

    if refuses:
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
        monkeypatch.setattr(disk, "BLOCK_BYTES", 1000)
    data = np.random.default_rng(0).bytes(10_000)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(bytes(12_000))
    disk.copy_range(tmp_path / "a", tmp_path / "b", 100, 2000, 9900)
    assert (tmp_path / "b").read_bytes() == bytes(2000) + data[100:] + bytes(100)
    with pytest.raises(OSError, match="ends before byte 10001"):
        disk.copy_range(tmp_path / "a", tmp_path / "b", 100, 0, 9901)


def test_missing_zoo_says_where_its_data_lies(tmp_path: Path) -> None:
    out = make_tiny_zoo(tmp_path / "zoo")
    kill(out, partial_folder.os, "rename", 0, after=True, overwrite=True)
    with pytest.raises(ZooNotFoundError, match="zoo.partial holds an unfinished zoo: run the comm"):
        ZooIndex.read(out)
    with pytest.raises(ZooNotFoundError, match="build one with `weightzoo build"):
        ZooIndex.read(tmp_path / "other")


@pytest.mark.parametrize("name", [".", "", "..", "/"])
def test_folder_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(BuildError, match="does not name a new folder"):
        write_zoo(Path(name))


def test_name_that_was_half_written_is_not_in_the_way(tmp_path: Path) -> None:
    """A full disk or a kill leaves it before the command has said what it makes."""
    partial = tmp_path / "zoo.partial"
    partial.mkdir()
    (partial / "partial.json.tmp").write_bytes(b"")
    assert (write_zoo(tmp_path / "zoo") / "zoo.json").is_file()
    assert not partial.exists()
