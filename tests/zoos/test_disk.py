import os
from pathlib import Path

import pytest
import torch

from weightzoo.zoos import disk
from weightzoo.zoos.errors import BuildError


@pytest.fixture
def free_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A disk with three free blocks; returns their bytes."""
    stat = os.statvfs(tmp_path)
    full = os.statvfs_result((*stat[:3], 0, 3, *stat[5:]))
    monkeypatch.setattr(disk.os, "statvfs", lambda path: full)
    return 3 * stat.f_frsize


def test_room_is_checked_on_the_disk_of_a_folder_that_is_not_there_yet(
    free_bytes: int, tmp_path: Path
) -> None:
    disk.check_room(tmp_path / "a" / "b", free_bytes, "the zoo")
    with pytest.raises(BuildError) as caught:
        disk.check_room(tmp_path / "a" / "b", free_bytes + 1, "the zoo")
    assert str(caught.value) == (
        f"the zoo takes {free_bytes + 1:,} bytes, and the disk of {tmp_path} has {free_bytes:,} "
        "bytes free: make room, or choose a folder on another disk"
    )


def test_bytes_of_files_that_are_written_anew_count_as_free(
    free_bytes: int, tmp_path: Path
) -> None:
    files = [tmp_path / "rows", tmp_path / "absent"]
    files[0].write_bytes(bytes(100_000))
    disk.sync(files[0])
    held = files[0].stat().st_blocks * 512
    assert held >= 100_000
    disk.check_room(tmp_path, free_bytes + held, "the zoo", files)
    with pytest.raises(BuildError, match=f"has {free_bytes + held:,} bytes free"):
        disk.check_room(tmp_path, free_bytes + held + 1, "the zoo", files)
    with pytest.raises(BuildError, match=f"has {free_bytes:,} bytes free"):
        disk.check_room(tmp_path, free_bytes + held, "the zoo")


def test_torch_file_replaces_an_older_one(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        disk.write_torch_file(tmp_path / "a.pt", {"w": torch.tensor(value)})
    assert torch.load(tmp_path / "a.pt", weights_only=True) == {"w": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
