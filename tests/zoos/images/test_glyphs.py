"""Glyph sets: drawn without boxes for missing glyphs, split by shape, the same every time."""

import numpy as np
import pytest
import torch
from torch import nn

from weightzoo.zoos.images import glyphs
from weightzoo.zoos.images.alphabets import font_path
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.images.glyphs import GLYPH_SETS, load_glyphs
from weightzoo.zoos.images.image_set import ImageSet

FINGERPRINTS = {
    "glyphs": "287647419a82f920",
    "glyphs-latin": "7716e44dda3881f8",
    "glyphs-latin-sans": "e358a656562d7113",
    "glyphs-latin-serif": "a0d2f3ed079e4e7a",
    "glyphs-latin-mono": "9c18e54ebc1f9f5c",
    "glyphs-greek": "a3b1edf5b6e85a44",
    "glyphs-cyrillic": "5ba2ce44a6dc15de",
    "glyphs-digits": "9e1a7db6d47e1af3",
    "glyphs-textured": "a91ac04ea58406cc",
    "glyphs-color": "66f8275c52171269",
}


PLAIN = [name for name in GLYPH_SETS if not name.endswith(glyphs.LARGE_TEST)]


def test_large_test_split_leaves_train_and_val_as_they_are() -> None:
    plain, large = load_glyphs("glyphs-greek"), load_glyphs("glyphs-greek-5k")
    for split in ("train", "val"):
        assert torch.equal(getattr(plain, split).pixels, getattr(large, split).pixels)
    assert len(large.test) == 5000 and large.fingerprint != plain.fingerprint
    assert torch.bincount(large.test.labels).tolist() == [500] * 10


@pytest.mark.parametrize("name", PLAIN)
def test_glyph_sets_have_their_shapes_and_balanced_classes(name: str) -> None:
    glyph_set, images = GLYPH_SETS[name], load_images(name)
    assert images.shape == (glyph_set.channels, glyph_set.side, glyph_set.side)
    assert images.classes == 10
    for split, size in glyphs.SIZES.items():
        part = getattr(images, split)
        assert part.pixels.shape == (size, *images.shape)
        assert (part.pixels.dtype, part.labels.dtype) == (torch.float32, torch.int64)
        assert torch.bincount(part.labels).tolist() == [size // 10] * 10


@pytest.mark.parametrize("name", PLAIN)
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


@pytest.mark.parametrize("name", PLAIN)
def test_glyph_splits_share_no_shape(name: str) -> None:
    rng = np.random.default_rng(0)
    for shapes in GLYPH_SETS[name].shapes():
        parts = [set(part) for part in glyphs._deal(shapes, rng).values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(shapes))
        assert min(map(len, parts)) >= 1


def test_scripts_share_no_look() -> None:
    """Cyrillic A is a Latin A to the eye; drawn for both classes it could be told by nobody."""
    looks = [glyphs._mask(*shape[0]).ravel() for shapes in glyphs._scripts() for shape in shapes]
    likeness = np.corrcoef(np.stack(looks)) - np.eye(len(looks))
    assert likeness.max() < glyphs.LIKENESS + 1e-6


@pytest.mark.parametrize("name", PLAIN)
def test_glyph_fingerprints_are_stable(name: str) -> None:
    assert load_glyphs(name).fingerprint.startswith(f"sha256:{FINGERPRINTS[name]}")


def test_textured_sets_have_either_contrast_and_plain_ones_a_black_ground() -> None:
    plain, textured = load_glyphs("glyphs-digits"), load_glyphs("glyphs-textured")
    border = [s.brightness(s.train.pixels)[..., 0, :].mean(-1) for s in (plain, textured)]
    assert (border[0] < 0.1).double().mean() > 0.95  # a few touch the border
    assert (border[1] > 0.6).sum() > 200 and (border[1] < 0.4).sum() > 200


REACHED = {  # lowest test accuracy of seeds 0 to 2, as measured when the sets were made
    "glyphs": 0.238,
    "glyphs-latin": 0.892,
    "glyphs-latin-sans": 0.936,
    "glyphs-latin-serif": 0.946,
    "glyphs-latin-mono": 0.756,
    "glyphs-greek": 0.898,
    "glyphs-cyrillic": 0.888,
    "glyphs-digits": 0.900,
    "glyphs-textured": 0.776,
    "glyphs-color": 0.872,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_glyph_sets_are_learned_by_small_networks(name: str) -> None:
    """Test accuracy within 0.05 (over two standard errors) of what the docstring states."""
    images = load_glyphs(name)
    torch.manual_seed(0)
    network = _cnn_l() if images.shape[0] == 3 else _cnn_s()
    _train(network, images, epochs=50)
    with torch.no_grad():
        right = network(images.test.pixels).argmax(1) == images.test.labels
    accuracy = right.double().mean().item()
    print(f"{name} test accuracy {accuracy:.3f}")
    assert accuracy > REACHED[name] - 0.05


def _cnn_s() -> nn.Sequential:
    features = [*_block(1, 8, 5), *_block(8, 6, 5), nn.Conv2d(6, 4, 2), nn.GELU(), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(36, 20), nn.GELU(), nn.Linear(20, 10))


def _cnn_l() -> nn.Sequential:
    features = [*_block(3, 16, 3), *_block(16, 32, 3), *_block(32, 15, 3), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(60, 20), nn.GELU(), nn.Linear(20, 10))


def _block(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel), nn.MaxPool2d(2), nn.GELU()]


def _train(network: nn.Module, images: ImageSet, epochs: int) -> None:
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_uniform_(weight)
    optimizer = torch.optim.Adam(network.parameters())
    steps = epochs * -(-len(images.train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images.train)).split(32):
            optimizer.zero_grad()
            predicted = network(images.train.pixels[batch])
            nn.functional.cross_entropy(predicted, images.train.labels[batch]).backward()
            optimizer.step()
            schedule.step()
