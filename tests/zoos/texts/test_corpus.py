"""The corpus of installed packages: fixed, and without paragraphs in two splits."""

import pytest

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.texts import corpus
from weightzoo.zoos.texts.corpus import read_domain


def test_corpus_is_the_same_each_time_and_its_splits_share_no_paragraph() -> None:
    one, two = read_domain("python", 100_000), read_domain("python", 100_000)
    assert one.fingerprint == two.fingerprint and "numpy" in one.packages
    assert one.fingerprint != read_domain("python", 90_000).fingerprint
    splits = [bytes(part.tolist()).split(b"\n\n") for part in (one.train, one.val, one.test)]
    assert all(len(part) > 10 for part in splits)
    assert not set(splits[0]) & set(splits[1]) and not set(splits[1]) & set(splits[2])


def test_windows_do_not_overlap_and_are_spread_over_the_split() -> None:
    domain = read_domain("headers", 100_000)
    windows = domain.windows("test", 8, 50)
    assert windows.shape == (8, 50)
    text = domain.test.long()
    starts = [int((text.unfold(0, 50, 1) == row).all(1).nonzero()[0]) for row in windows]
    assert starts == sorted(starts) and starts[-1] > len(text) / 2


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(corpus.PACKAGES, "prose", ("numpy", "no-such-package"))
    with pytest.raises(RecipeError, match="'no-such-package' is not installed"):
        read_domain("prose", 1000)
