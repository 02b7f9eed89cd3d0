import errno
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from weightzoo.builders.checkpoints import archives
from weightzoo.builders.checkpoints.archives import ArchiveError, open_source
from weightzoo.builders.checkpoints.unpickling import UnreadableFileError

FILES = {"zoo/b.txt": b"second", "zoo/a/first.bin": bytes(range(256)) * 40, "top": b""}
KINDS = ["folder", "zoo.zip", "zoo.tar", "zoo.tar.gz", "zoo.tar.xz", "zoo.tar.bz2"]


def pack(folder: Path, kind: str, files: dict[str, bytes] = FILES) -> Path:
    """Write the files in one of the kinds of source."""
    path = folder / kind
    if kind == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
    else:
        mode = "w:" + kind.split(".")[2] if kind.count(".") == 2 else "w"
        with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_source_reads_every_kind_alike(kind: str, tmp_path: Path) -> None:
    source = open_source(pack(tmp_path, kind), tmp_path / "scratch")
    assert source.names == ("top", "zoo/a/first.bin", "zoo/b.txt")
    assert {name: source.read(name) for name in source.names} == FILES
    assert source.size("zoo/b.txt") == 6 and "zoo/b.txt" in source and "zoo" not in source


@pytest.mark.parametrize("kind", KINDS)
def test_source_locates_bytes_for_mapping(kind: str, tmp_path: Path) -> None:
    source = open_source(pack(tmp_path, kind), tmp_path / "scratch")
    place = source.locate("zoo/a/first.bin")
    data = place.path.read_bytes()[place.offset : place.offset + place.size]
    assert data == FILES["zoo/a/first.bin"]


@pytest.mark.parametrize("kind", KINDS)
def test_large_file_is_read_in_place(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGE_BYTES", 100)
    source = open_source(pack(tmp_path, kind), tmp_path / "scratch")
    with source.open("zoo/a/first.bin") as file:
        assert not isinstance(file, io.BytesIO)
        file.seek(-6, io.SEEK_END)
        assert file.read(100) == bytes(range(250, 256))
        file.seek(250)
        assert file.read(8) == bytes([250, 251, 252, 253, 254, 255, 0, 1])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_truncated_archive_is_an_error(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path, kind)
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match="truncated or damaged"):
            open_source(path, tmp_path / "scratch")


def test_tar_cut_between_two_files_is_an_error(tmp_path: Path) -> None:
    path = pack(tmp_path, "zoo.tar")
    path.write_bytes(path.read_bytes()[: 512 + 512])  # the first file whole, nothing after it
    with pytest.raises(ArchiveError, match="no end mark"):
        open_source(path, tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["zoo.zip", "zoo.tar", "zoo.tar.xz"])
@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_names_that_lead_outside_are_left_out(kind: str, name: str, tmp_path: Path) -> None:
    path = pack(tmp_path, kind, {name: b"evil", "good": b"good"})
    before = sorted(tmp_path.parent.rglob("*evil*"))
    source = open_source(path, tmp_path / "scratch")
    assert source.names == ("good",)
    assert source.left_out == [(name, "its name leads outside the archive")]
    assert sorted(tmp_path.parent.rglob("*evil*")) == before


def test_links_are_left_out(tmp_path: Path) -> None:
    folder = pack(tmp_path, "folder")
    (folder / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "links.tar", "w") as packed:
        packed.add(folder / "link", "link")
        packed.add(folder / "top", "top")
    for path in (folder, tmp_path / "links.tar"):
        source = open_source(path, tmp_path / "scratch")
        assert "link" not in source and "top" in source
        assert [name for name, _ in source.left_out] == ["link"]


def test_a_name_twice_is_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as packed:
        for data in (b"one", b"two"):
            info = tarfile.TarInfo("./name")
            info.size = 3
            packed.addfile(info, io.BytesIO(data))
    source = open_source(tmp_path / "twice.tar", tmp_path / "scratch")
    assert source.read("name") == b"one"
    assert "twice" in source.left_out[0][1]


def test_damaged_member_of_a_zip_is_unreadable(tmp_path: Path) -> None:
    path = pack(tmp_path, "zoo.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"zoo/a/first.bin") + len("zoo/a/first.bin") + 3
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    source = open_source(path, tmp_path / "scratch")
    with pytest.raises(UnreadableFileError, match="damaged in the archive"):
        source.read("zoo/a/first.bin")
    assert source.read("zoo/b.txt") == b"second"


def test_mac_leftovers_are_skipped(tmp_path: Path) -> None:
    files = {"__MACOSX/zoo/._a": b"x", "zoo/._a": b"x", "zoo/a": b"a", "zoo/.DS_Store": b"x"}
    source = open_source(pack(tmp_path, "zoo.zip", files), tmp_path)
    assert source.names == ("zoo/a",) and source.left_out == []


def test_compressed_tar_is_unpacked_once(tmp_path: Path) -> None:
    path = pack(tmp_path, "zoo.tar.xz")
    first = open_source(path, tmp_path / "scratch")
    (unpacked,) = (tmp_path / "scratch").iterdir()
    stamp = unpacked.stat().st_mtime_ns
    assert open_source(path, tmp_path / "scratch").names == first.names
    assert unpacked.stat().st_mtime_ns == stamp


def test_source_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no file or folder"):
        open_source(tmp_path / "nothing.zip", tmp_path)


def test_other_file_is_a_source_of_one(tmp_path: Path) -> None:
    (tmp_path / "dataset.pt").write_bytes(b"data")
    source = open_source(tmp_path / "dataset.pt", tmp_path)
    assert source.names == ("dataset.pt",) and source.open("dataset.pt").read() == b"data"


def test_fingerprint_sees_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = open_source(pack(tmp_path / "one", "folder"), tmp_path).fingerprint()
    assert one == open_source(pack(tmp_path / "two", "zoo.tar"), tmp_path).fingerprint()
    (tmp_path / "two" / "folder").mkdir()
    (tmp_path / "two" / "folder" / "top").write_bytes(b"longer")
    assert one != open_source(tmp_path / "two" / "folder", tmp_path).fingerprint()


@pytest.mark.parametrize("kind", ["zoo.zip", "zoo.tar.gz", "zoo.tar.xz", "zoo.tar.bz2"])
def test_archive_that_unpacks_to_a_hundredfold_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    path = pack(tmp_path, kind, {"zeros": bytes(3_000_000)})
    with pytest.raises(ArchiveError, match="over 100 times as many: if you trust it, unpack it"):
        open_source(path, tmp_path / "scratch")
    assert not list(tmp_path.glob("scratch/*"))


@pytest.mark.parametrize("kind", ["zoo.zip", "zoo.tar.xz"])
def test_archive_is_not_unpacked_without_room(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path, kind)
    monkeypatch.setattr(archives, "RESERVE_BYTES", 2**60)
    with pytest.raises(ArchiveError, match="no room to unpack"):
        open_source(path, tmp_path / "scratch").locate("top")
    assert not list(tmp_path.glob("scratch/*"))


def test_full_disk_is_no_damage_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/net.pt").write_bytes(b"x" * 1000)
    with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "zoo", "zoo")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "_check_room", full)
    with pytest.raises(OSError, match="No space left"):
        open_source(tmp_path / "zoo.tar.gz", tmp_path / "scratch")
