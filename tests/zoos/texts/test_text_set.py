"""Text sets: windows of bytes, from packages or from the user's files."""

from pathlib import Path

import pytest
import torch

from weightzoo.zoos.errors import RecipeError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.recipe import load_recipe
from weightzoo.zoos.texts.text_set import WINDOW, is_text_set, load_texts


def write_text(path: Path, paragraphs: int = 400) -> Path:
    words = "\n\n".join(
        f"paragraph {number} says {number * 7919} " * 3 for number in range(paragraphs)
    )
    path.write_text(words)
    return path


def test_labels_are_the_next_bytes_of_the_windows(tmp_path: Path) -> None:
    path = write_text(tmp_path / "own.txt")
    texts = load_texts(f"text:{path}")
    assert texts.shape == (WINDOW,) and texts.classes == 256
    for part in (texts.train, texts.val, texts.test):
        assert torch.equal(part.tokens[:, 1:], part.labels[:, :-1])
    row = bytes([*texts.train.tokens[0].tolist(), int(texts.train.labels[0, -1])])
    assert row.split(b"\n\n")[0] in path.read_bytes()


def test_a_changed_file_is_read_again_with_another_fingerprint(tmp_path: Path) -> None:
    path = write_text(tmp_path / "own.txt")
    first = load_texts(f"text:{path}")
    assert load_texts(f"text:{path}") is first
    write_text(path, 500)
    assert load_texts(f"text:{path}").fingerprint != first.fingerprint


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        write_text(tmp_path / name, 300 if name == "a.txt" else 350)
    one = load_texts(f"text:{tmp_path}")
    whole = tmp_path / "whole"
    whole.mkdir()
    joined = b"\n\n".join((tmp_path / name).read_bytes() for name in ("a.txt", "b.txt"))
    (whole / "all").write_bytes(joined)
    assert load_texts(f"text:{whole}").fingerprint == one.fingerprint


def test_domains_of_packages_are_parts_of_the_whole() -> None:
    whole = load_texts("packages")
    own = [load_texts(f"packages-{domain}") for domain in ("python", "headers", "prose")]
    assert len(whole.train) == sum(len(texts.train) for texts in own)
    assert set(whole.packages) == {name for texts in own for name in texts.packages}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("packages-fortran", "text set must be one of .*'packages-prose'.* or 'text:PATH'"),
        ("text:no/such/file", "no file and no folder of files 'no/such/file'"),
    ],
)
def test_unknown_texts_are_refused(name: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load_texts(name)


def test_a_text_without_a_window_in_every_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one short paragraph of some fifty characters, no more")
    with pytest.raises(RecipeError, match="window of 129 bytes: give it more paragraphs"):
        load_texts(f"text:{tmp_path / 'short.txt'}")


def test_texts_are_no_images() -> None:
    assert is_text_set("packages") and not is_text_set("digits") and not is_text_set("text:")
    with pytest.raises(RecipeError, match="'packages' is a text, which only language models read"):
        load_images("packages")


def test_shipped_recipe_fits_its_text() -> None:
    recipe = load_recipe("packages-transformer")
    assert recipe.architecture.shapes()[0] == load_texts(recipe.images).shape
    assert recipe.architecture.shapes()[-1] == (WINDOW, 256)
