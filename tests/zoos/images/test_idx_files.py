"""The four files of MNIST: read plain and compressed, and every damage named."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import ImageSet, check_image_set, load_images
from weightzoo.zoos.images.idx_files import load_idx

PIXELS = np.random.default_rng(0).integers(256, size=(60, 5, 4), dtype=np.uint8)
LABELS = (np.arange(60) % 3).astype(np.uint8)
NAMES = {
    "train-images-idx3-ubyte": PIXELS[:48],
    "train-labels-idx1-ubyte": LABELS[:48],
    "t10k-images-idx3-ubyte": PIXELS[48:],
    "t10k-labels-idx1-ubyte": LABELS[48:],
}


def idx(array: np.ndarray) -> bytes:
    start = bytes((0, 0, 8, array.ndim))
    return start + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, prefix: str = "", suffix: str = "") -> None:
    for name, array in NAMES.items():
        data = idx(array)
        path = folder / f"{prefix}{name}{suffix}"
        path.write_bytes(gzip.compress(data) if suffix == ".gz" else data)


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("", ".gz"), ("emnist-letters-", ".gz")])
def test_idx_folder_is_read(prefix: str, suffix: str, tmp_path: Path) -> None:
    write(tmp_path, prefix, suffix)
    check_image_set(f"idx:{tmp_path}")
    images = load_images(f"idx:{tmp_path}")
    same = ImageSet.from_arrays("same", (PIXELS[:48], LABELS[:48]), test=(PIXELS[48:], LABELS[48:]))
    assert (images.shape, images.classes, len(images.test)) == ((1, 5, 4), 3, 12)
    assert len(images.val) == 6 and images.fingerprint == same.fingerprint


def test_plain_file_is_taken_before_a_compressed_one(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no archive")
    assert len(load_images(f"idx:{tmp_path}").train) == 42


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train-images-idx3-ubyte", None, r"has no file train-images-idx3-ubyte \(or .*gz\)"),
        ("a-train-images-idx3-ubyte", b"", "has several files of images"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\3", r"begins with \[0, 0, 13, 3\]"),
        ("train-images-idx3-ubyte", idx(PIXELS[:48])[:-1], r"has 959 bytes, .* has 960: download"),
        ("train-images-idx3-ubyte", idx(PIXELS[:48]) + b"x", "has more bytes"),
        ("train-labels-idx1-ubyte", idx(LABELS[:9]), "48 images and 9 labels"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\1" + b"\xff" * 4, "which no set has"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\1\0", "download it again"),
    ],
)
def test_damaged_idx_folder_is_named(
    name: str, data: bytes | None, message: str, tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / name).write_bytes(data or b"")
    if data is None:
        (tmp_path / name).unlink()
    load_idx.cache_clear()
    with pytest.raises(RecipeError, match=message):
        load_images(f"idx:{tmp_path}")


def test_missing_folder_and_broken_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no folder 'nowhere' .* give the folder of the four"):
        load_images("idx:nowhere")
    write(tmp_path, suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RecipeError, match="cannot read .*train-images.*download it again"):
        load_images(f"idx:{tmp_path}")
    with pytest.raises(RecipeError, match=r"'arrays:FILE.npz' or 'idx:FOLDER', got 'idx:'"):
        check_image_set("idx:")
