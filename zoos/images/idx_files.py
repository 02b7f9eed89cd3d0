"""An image set in the four files of MNIST: `idx:FOLDER`.

    FOLDER/train-images-idx3-ubyte    each file also compressed, as NAME.gz
    FOLDER/train-labels-idx1-ubyte
    FOLDER/t10k-images-idx3-ubyte     test images; "test" in place of "t10k" is known too
    FOLDER/t10k-labels-idx1-ubyte

Other sets have the same files, some with a prefix (EMNIST) or a dot before "idx". The val split is
cut from train, class by class with a fixed seed.

Source of the file format: the page of the MNIST database by LeCun, Cortes and Burges. A file holds
two zero bytes, the number type (8 is an unsigned byte), the number of dimensions, each dimension as
a big-endian number of 4 bytes, and the values.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RecipeError
from .image_set import ImageSet

IDX = "idx:"
UNSIGNED_BYTE = 8
CACHED_SETS = 4  # in memory at once
MOST_BYTES = 2**31  # of one file


@lru_cache(CACHED_SETS)
def load_idx(name: str) -> ImageSet:
    """Load `idx:FOLDER`; changes to the folder are seen by a new process.

    Raises:
        RecipeError: if there is no such folder, a file is missing, found twice or damaged, or
            images and labels do not fit each other.
    """
    folder = Path(name.removeprefix(IDX)).expanduser()
    if not folder.is_dir():
        raise RecipeError(
            f"no folder {str(folder)!r} of image set {name!r}: give the folder of the four files "
            "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
            "t10k-labels-idx1-ubyte, each plain or .gz"
        )
    train, test = (
        (
            read_idx(_only_file(folder, split, "images", 3), 3),
            read_idx(_only_file(folder, split, "labels", 1), 1),
        )
        for split in ("train", "(?:t10k|test)")
    )
    try:
        return ImageSet.from_arrays(name, train, test=test)
    except RecipeError as error:
        raise RecipeError(f"{folder}: {error}") from error


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file in their shape, uint8; a .gz file is decompressed.

    Args:
        path: path of the file.
        dimensions: number of dimensions that it must have.

    Raises:
        RecipeError: if the file is damaged, or has another type or number of dimensions.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            start = file.read(4)
            if start != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
                raise RecipeError(
                    f"{str(path)!r} must begin with the bytes 0 0 {UNSIGNED_BYTE} {dimensions} of "
                    f"an IDX file, begins with {list(start)}"
                )
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if (size := math.prod(shape)) > MOST_BYTES:
                raise RecipeError(f"{str(path)!r} claims the shape {shape}, which no set has")
            values = np.frombuffer(file.read(size + 1), np.uint8)  # no more, whatever it unpacks to
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise RecipeError(f"cannot read {str(path)!r}: {error}; download it again") from error
    if len(values) != size:
        more = "more" if len(values) > size else f"{len(values)}"
        raise RecipeError(
            f"{str(path)!r} has {more} bytes, its shape {shape} has {size}: download it again"
        )
    return values.reshape(shape)


def _only_file(folder: Path, split: str, kind: str, dimensions: int) -> Path:
    """The file of a split; a plain one is taken before a compressed one."""
    pattern = rf"(.*[-_.])?{split}[-_.]{kind}[-_.]idx{dimensions}[-_.]ubyte(\.gz)?"
    names = {path.name for path in folder.iterdir() if re.fullmatch(pattern, path.name)}
    plain = sorted({name.removesuffix(".gz") for name in names})
    if len(plain) == 1:
        return folder / (plain[0] if plain[0] in names else f"{plain[0]}.gz")
    wanted = f"{'train' if split == 'train' else 't10k'}-{kind}-idx{dimensions}-ubyte"
    if plain:
        raise RecipeError(
            f"{str(folder)!r} has several files of {kind}, {plain}: leave one, or move the sets to "
            "folders of their own"
        )
    found = sorted(path.name for path in folder.iterdir())[:8]
    raise RecipeError(f"{str(folder)!r} has no file {wanted} (or {wanted}.gz), it has {found}")
