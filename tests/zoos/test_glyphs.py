"""Glyph sets: drawn without boxes for missing glyphs, split by shape, the same every time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.zoos import glyphs
from weightzoo.zoos.alphabets import font_path
from weightzoo.zoos.glyphs import GLYPH_SETS, load_glyphs
from weightzoo.zoos.images import load_images

FINGERPRINT_SET = "glyphs-greek"


@pytest.mark.parametrize("name", GLYPH_SETS)
def test_glyph_sets_have_their_shapes_and_balanced_classes(name: str) -> None:
    glyph_set, images = GLYPH_SETS[name], load_images(name)
    assert images.shape == (glyph_set.channels, glyph_set.side, glyph_set.side)
    assert images.classes == 10
    for split, size in glyphs.SIZES.items():
        part = getattr(images, split)
        assert part.pixels.shape == (size, *images.shape)
        assert (part.pixels.dtype, part.labels.dtype) == (torch.float32, torch.int64)
        assert torch.bincount(part.labels).tolist() == [size // 10] * 10


@pytest.mark.parametrize("name", GLYPH_SETS)
def test_glyph_sets_draw_no_missing_glyph(name: str) -> None:
    """Each font knows the character, and draws it unlike the box it draws for none."""
    from matplotlib.ft2font import FT2Font

    drawings = {d for shapes in GLYPH_SETS[name].shapes() for shape in shapes for d in shape}
    for font in {font for font, _ in drawings}:
        known = FT2Font(str(font_path(font))).get_charmap()
        assert not {c for f, c in drawings if f == font and ord(c) not in known}, font
        box = glyphs._mask(font, "\U000f0000") if not font.startswith("cm") else None
        for character in (c for f, c in drawings if f == font):
            mask = glyphs._mask(font, character)
            assert mask.sum() > 50, (font, character)
            assert box is None or not np.allclose(mask, box), (font, character)


@pytest.mark.parametrize("name", GLYPH_SETS)
def test_glyph_splits_share_no_shape(name: str) -> None:
    rng = np.random.default_rng(0)
    for shapes in GLYPH_SETS[name].shapes():
        parts = [set(part) for part in glyphs._deal(shapes, rng).values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(shapes))
        assert min(map(len, parts)) >= 2


def test_scripts_share_no_look() -> None:
    """Cyrillic A is a Latin A to the eye; drawn for both classes it could be told by nobody."""
    looks = [glyphs._mask(*shape[0]).ravel() for shapes in glyphs._scripts() for shape in shapes]
    likeness = np.corrcoef(np.stack(looks)) - np.eye(len(looks))
    assert likeness.max() < glyphs.LIKENESS + 1e-6


def test_glyph_fingerprint_is_the_same_in_a_fresh_process() -> None:
    code = (
        "import torch; torch.set_num_threads(1);"
        f"from weightzoo.zoos.glyphs import load_glyphs;"
        f"print(load_glyphs({FINGERPRINT_SET!r}).fingerprint)"
    )
    folder = str(Path(glyphs.__file__).parents[2])
    command = [sys.executable, "-c", code]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert fresh.stdout.strip() == load_glyphs(FINGERPRINT_SET).fingerprint


def test_glyph_sets_differ_and_textured_ones_have_either_contrast() -> None:
    prints = {load_glyphs(name).fingerprint for name in GLYPH_SETS}
    assert len(prints) == len(GLYPH_SETS)
    plain, textured = load_glyphs("glyphs-digits"), load_glyphs("glyphs-textured")
    border = [s.brightness(s.train.pixels)[..., 0, :].mean(-1) for s in (plain, textured)]
    assert (border[0] < 0.1).double().mean() > 0.95  # a few touch the border
    assert (border[1] > 0.6).sum() > 200 and (border[1] < 0.4).sum() > 200
