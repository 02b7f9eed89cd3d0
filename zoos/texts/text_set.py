"""Text sets by name: windows of bytes that language models are trained on.

- `packages` is text of installed packages in three domains, `packages-python`, `packages-headers`
  and `packages-prose` are one domain each (see `corpus`). They depend on the versions of the
  packages, so a zoo records them with the fingerprint of the text.
- `text:PATH` is a file, or all files of a folder in the order of their names.

Paragraphs are put into splits by their digest. A token is a byte, and a window predicts the byte
after each of its own.

Shape letters: N windows, T bytes of a window.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RecipeError
from .corpus import DOMAINS, Domain, cut_domain, paragraphs_of, read_domain

TEXT = "text:"
WINDOW, VOCABULARY = 128, 256
DOMAIN_BYTES, MOST_BYTES = 400_000, 2**28  # of a domain of packages, of the user's files
CACHED_SETS = 8  # in memory at once
PARTS = ("train", "val", "test")

TEXT_SETS = {"packages": DOMAINS} | {f"packages-{domain}": (domain,) for domain in DOMAINS}
"""Domains of the shipped text sets."""


@dataclass(frozen=True)
class Windows:
    """One split of a text set.

    Attributes:
        tokens: bytes, (N, T) uint8.
        labels: the byte after each of them, (N, T) uint8.
    """

    tokens: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.tokens)


@dataclass(frozen=True)
class TextSet:
    """A text in windows, with fixed splits.

    Attributes:
        name: name of the set in `load_texts`.
        fingerprint: "sha256:..." of the windows of all splits.
        train: windows that models learn from.
        val: windows that are held out for choices.
        test: windows that are held out for reports.
        packages: packages that the text comes from, with their versions.
    """

    name: str
    fingerprint: str
    train: Windows
    val: Windows
    test: Windows
    packages: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input of a model, (T,)."""
        return tuple(self.train.tokens.shape[1:])

    @property
    def classes(self) -> int:
        """Number of different tokens."""
        return VOCABULARY


def is_text_set(name: str) -> bool:
    """Whether `load_texts` knows the name; nothing is read."""
    text = name if isinstance(name, str) else ""  # a recipe can hold anything
    return text in TEXT_SETS or (text.startswith(TEXT) and text != TEXT)


def load_texts(name: str) -> TextSet:
    """Load a text set by name; a changed file is read again.

    Raises:
        RecipeError: if the name is unknown, there is no such file, a package is missing, or the
            text is too short for a window in every split.

    Example:
        >>> from weightzoo.zoos.texts.text_set import load_texts
        >>> texts = load_texts("packages-python")
        >>> texts.shape, texts.classes
        ((128,), 256)
    """
    if not is_text_set(name):
        raise RecipeError(f"text set must be one of {list(TEXT_SETS)} or 'text:PATH', got {name!r}")
    if name in TEXT_SETS:
        return _of_packages(name)
    files = _files(name)
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    if (size := sum(bytes_ for _, _, bytes_ in state)) > MOST_BYTES:
        raise RecipeError(f"text set {name!r} must have at most {MOST_BYTES} bytes, has {size}")
    return _of_files(name, state)


@lru_cache(CACHED_SETS)
def _of_packages(name: str) -> TextSet:
    return _text_set(name, [read_domain(domain, DOMAIN_BYTES) for domain in TEXT_SETS[name]])


@lru_cache(CACHED_SETS)
def _of_files(name: str, state: tuple[tuple[str, int, int], ...]) -> TextSet:
    """The set of files in this state."""
    return _text_set(
        name, [cut_domain(_paragraphs([Path(file) for file, *_ in state]), MOST_BYTES)]
    )


def _files(name: str) -> list[Path]:
    path = Path(name.removeprefix(TEXT)).expanduser()
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    if not files:
        raise RecipeError(f"no file and no folder of files {str(path)!r} of text set {name!r}")
    return files


def _paragraphs(files: Sequence[Path]) -> Iterator[bytes]:
    for file in files:
        try:
            yield from paragraphs_of(file.read_bytes())
        except OSError as error:
            raise RecipeError(f"cannot read {str(file)!r}: {error}") from error


def _text_set(name: str, domains: Sequence[Domain]) -> TextSet:
    """Windows of several domains, one after another."""
    parts, digest = dict[str, Windows](), hashlib.sha256()
    for part in PARTS:
        rows = torch.cat([_rows(getattr(domain, part)) for domain in domains])
        if not len(rows):
            raise RecipeError(
                f"text set {name!r} has no {part} window of {WINDOW + 1} bytes: give it more "
                "paragraphs, separated by empty lines"
            )
        digest.update(rows.numpy().data)
        digest.update(str(len(rows)).encode())
        parts[part] = Windows(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
    packages = {key: value for domain in domains for key, value in domain.packages.items()}
    return TextSet(name, f"sha256:{digest.hexdigest()}", **parts, packages=packages)


def _rows(text: Tensor) -> Tensor:
    """(N, T + 1): the text in pieces that do not overlap; the rest at its end is dropped."""
    size = WINDOW + 1
    return text[: len(text) // size * size].view(-1, size)
