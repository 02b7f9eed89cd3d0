"""Text of installed packages as a corpus of three domains, pinned to their versions.

Python source of numpy, C++ headers of torch, and descriptions and licences of the packages that
weightzoo depends on. Paragraphs that occur twice are kept once, so that no paragraph lies in two
splits. A token is a byte.

Shape letters: N windows, T bytes of a window.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, PackagePath, distribution

import torch
from torch import Tensor

from ..errors import RecipeError

PACKAGES = {
    "python": ("numpy",),
    "headers": ("torch",),
    "prose": ("numpy", "torch", "h5py", "safetensors", "tqdm", "scikit-learn", "matplotlib"),
}
DOMAINS = tuple(PACKAGES)
LONGEST_FILE, LEAST_PARAGRAPH = 200_000, 40  # bytes
PARAGRAPH_END = b"\n\n"
HELD_OUT = {"val": range(0, 10), "test": range(10, 20)}  # of a hundred


@dataclass(frozen=True)
class Domain:
    """The text of one domain.

    Attributes:
        train: bytes to train on.
        val: bytes for choices.
        test: bytes that are used once.
        fingerprint: SHA-256 digest of all bytes.
        packages: packages and their versions.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    fingerprint: str
    packages: dict[str, str]

    def windows(self, split: str, count: int, length: int) -> Tensor:
        """(N, T): windows that are spread evenly over a split and do not overlap.

        Args:
            split: "val" or "test".
            count: N at most.
            length: T.
        """
        text = getattr(self, split)
        rows = text[: len(text) // length * length].view(-1, length)
        return rows[:: max(1, len(rows) // count)][:count].long()


def read_domain(name: str, most_bytes: int) -> Domain:
    """Read one domain.

    Args:
        name: one of `DOMAINS`.
        most_bytes: number of bytes after which no more files are read.

    Raises:
        RecipeError: if one of the packages is not installed.

    Example:
        >>> from weightzoo.zoos.texts.corpus import read_domain
        >>> sorted(read_domain("python", 10_000).packages)
        ['numpy']
    """
    return cut_domain(_paragraphs(name), most_bytes, _versions(name))


def cut_domain(
    paragraphs: Iterable[bytes], most_bytes: int, packages: Mapping[str, str] | None = None
) -> Domain:
    """Put every paragraph into one split, by its digest; those that occur twice are kept once.

    Args:
        paragraphs: paragraphs in a fixed order.
        most_bytes: number of bytes after which no more are taken.
        packages: packages that they come from, with their versions.
    """
    parts: dict[str, list[bytes]] = {"train": [], "val": [], "test": []}
    seen, size = set[bytes](), 0
    for paragraph in paragraphs:
        digest = hashlib.sha256(paragraph).digest()
        if digest in seen:
            continue
        seen.add(digest)
        place = int.from_bytes(digest[:4], "little") % 100
        split = next((name for name, places in HELD_OUT.items() if place in places), "train")
        parts[split].append(paragraph)
        size += len(paragraph)
        if size >= most_bytes:
            break
    texts = {split: PARAGRAPH_END.join(own) for split, own in parts.items()}
    return Domain(
        **{split: _bytes(text) for split, text in texts.items()},
        fingerprint=hashlib.sha256(b"\0".join(texts.values())).hexdigest(),
        packages=dict(packages or {}),
    )


def paragraphs_of(text: bytes) -> Iterator[bytes]:
    """The paragraphs of a text, without very short ones."""
    yield from (part for part in text.split(PARAGRAPH_END) if len(part) >= LEAST_PARAGRAPH)


def _bytes(text: bytes) -> Tensor:
    """(len(text),), uint8."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0).byte()


def _versions(name: str) -> dict[str, str]:
    try:
        return {package: distribution(package).version for package in PACKAGES[name]}
    except PackageNotFoundError as error:
        raise RecipeError(
            f"text {name!r} is that of the packages {list(PACKAGES[name])}: {error.args[0]!r} is "
            "not installed, install it with pip"
        ) from error


def _paragraphs(name: str) -> Iterator[bytes]:
    for package in PACKAGES[name]:
        for file in sorted(distribution(package).files or [], key=str):
            path = file.locate()
            if not _belongs(name, file) or not path.is_file():  # type: ignore[attr-defined]
                continue
            data = path.read_bytes()  # type: ignore[attr-defined]
            if len(data) <= LONGEST_FILE or name == "prose":
                yield from paragraphs_of(data)


def _belongs(name: str, file: PackagePath) -> bool:
    if name == "python":
        return file.suffix == ".py" and "tests" not in file.parts
    if name == "headers":
        return file.suffix == ".h"
    inside = any(part.endswith(".dist-info") for part in file.parts)
    words = file.name.upper()
    return inside and (words == "METADATA" or words.startswith(("LICENSE", "COPYING", "NOTICE")))
