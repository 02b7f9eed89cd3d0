"""Network mounts are told from local ones by the system's list."""

from pathlib import Path

import pytest

from weightzoo.loaders.storage.mounts import is_on_network

LINES = r"""22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 0:31 / /data rw,relatime shared:18 - nfs4 server:/data rw,vers=4.2
37 36 8:17 / /data/scratch rw - xfs /dev/sdb1 rw
38 22 0:40 / /my\040zoos rw - fuse.sshfs me@host:/zoos rw
39 22 0:41 / /overlay rw - overlay overlay rw
40 22 0:42 / /twice rw - nfs server:/a rw
41 22 0:43 / /twice rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text(LINES)
    return tmp_path / "mountinfo"


@pytest.mark.parametrize("path", ["/data", "/data/zoo/train.h5", "/my zoos/a.h5"])
def test_paths_on_network_mounts_are_found(mounts: Path, path: str) -> None:
    assert is_on_network(Path(path), mounts)


@pytest.mark.parametrize(
    "path", ["/", "/database/a.h5", "/data/scratch/a.h5", "/overlay/a.h5", "/twice/a.h5"]
)
def test_local_paths_are_not_on_the_network(mounts: Path, path: str) -> None:
    assert not is_on_network(Path(path), mounts)


def test_without_a_list_of_mounts_no_path_is_on_the_network(tmp_path: Path) -> None:
    assert not is_on_network(tmp_path, tmp_path / "nothing")
