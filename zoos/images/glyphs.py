"""Glyph image sets: characters of many fonts, drawn, distorted and put on backgrounds.

These sets need no download and differ from one another as the published sets do. `glyphs-latin`,
`-greek`, `-cyrillic` and `-digits` are white on black like MNIST, with different classes.
`glyphs-textured` and `glyphs-color` show digits darker or brighter than a textured background,
between parts of neighbouring digits, as SVHN does. In `glyphs` a class is a whole script, and the
test split has letters that no train image shows.

Every set has 10 balanced classes and 2,000 train, 500 val and 500 test images. **The splits are by
shape**: a shape (one character in one design, or one letter of a script) is in one split, so a test
image is never a distorted copy of a train image, although fonts resemble each other. The shapes of
each class are divided separately.

Test accuracy of small networks (lowest and highest of 3 seeds; GELU, Adam, 50 epochs,
`pytest -m slow tests/zoos/images/test_glyphs.py`): the small CNN of the Model Zoos data sets
(CNN-s, 2,464 parameters), for color the large one (CNN-l, 10,853 parameters). On `digits` CNN-s
reaches 0.95 to 0.96.

    glyphs-latin     0.89 0.91    glyphs-digits    0.90 0.94    glyphs           0.24 0.31
    glyphs-greek     0.90 0.93    glyphs-textured  0.78 0.83
    glyphs-cyrillic  0.89 0.93    glyphs-color     0.87 0.89

Fonts as domains: `glyphs-latin-sans`, `-serif` and `-mono` have the same letters, each in one kind
of font; the train split of mono has only two designs of a letter. Test accuracy of CNN-s, trained
as above on the set of a row and tested on the set of a column (mean of 3 seeds):

                sans   serif  mono
    sans        0.94   0.85   0.92
    serif       0.90   0.96   0.88
    mono        0.74   0.78   0.82

`NAME-5k` has the train and val images of NAME and 5,000 test images of the same test shapes, so
that the accuracies of good networks differ by more than their rounding.

A fingerprint depends on the font files of matplotlib, on how the FreeType inside Pillow fills
outlines, and on numpy's generator; the rest is float64 arithmetic that is rounded to 8 bits.
Pillow 10.4 with FreeType 2.13.2 and 13.0 with 2.14.3 give the same bytes. The fonts of matplotlib
3.9.0 and 3.11.2 are the same, but cmti10 came with 3.11. A set is drawn once per process, in one or
two seconds.

Shape letters: N images, C channels, S side of an image.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import alphabets
from .alphabets import CYRILLIC, DIGITS, GREEK, LATIN, GlyphShape, letter_shapes
from .image_set import SPLIT_SEED, ImageSet, make_image_set

CLASSES = 10  # of every set
SIZES = {"train": 2000, "val": 500, "test": 500}
LARGE_TEST, LARGE_TEST_SIZE = "-5k", 5000
HELD_OUT = 0.2  # share of a class's shapes for val, and the same for test
MASTER, INK = 96, 64  # side of a mask, and of the square that the glyph fills, in pixels
SUPERSAMPLING = 2
LIKENESS = 0.9  # correlation above which two letters of different scripts are one shape
CHUNK = 250  # images rendered together


@dataclass(frozen=True)
class GlyphSet:
    """The appearance of a glyph set.

    Attributes:
        shapes: function that returns the shapes of each class.
        channels: number of channels, 1 (grey) or 3 (RGB).
        side: side of an image, in pixels.
        textured: whether glyphs are darker or brighter than a textured background and have
            neighbours; otherwise they are white on black.
        test: number of test images.
    """

    shapes: Callable[[], list[list[GlyphShape]]]
    channels: int = 1
    side: int = 28
    textured: bool = False
    test: int = SIZES["test"]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images by split."""
        return SIZES | {"test": self.test}


@cache
def load_glyphs(name: str) -> ImageSet:
    """Draw the glyph set with this name in `GLYPH_SETS`."""
    glyph_set = GLYPH_SETS[name]
    plain = name.removesuffix(LARGE_TEST)  # the same train and val images
    rng = np.random.default_rng([SPLIT_SEED, zlib.crc32(plain.encode())])
    dealt = [_deal(shapes, rng) for shapes in glyph_set.shapes()]
    splits = []
    for split, size in glyph_set.sizes.items():
        labels = rng.permutation(np.arange(size) % len(dealt))
        masks = np.stack([_pick(dealt[label][split], rng) for label in labels])
        pixels = [
            _render(glyph_set, torch.from_numpy(masks[start : start + CHUNK]), rng)
            for start in range(0, size, CHUNK)
        ]
        splits.append((torch.cat(pixels), torch.from_numpy(labels)))
    return make_image_set(name, splits, len(dealt))


def _deal(shapes: Sequence[GlyphShape], rng: np.random.Generator) -> dict[str, list[GlyphShape]]:
    """Assign each shape of a class to one split."""
    held = max(1, round(HELD_OUT * len(shapes)))
    order = [shapes[int(position)] for position in rng.permutation(len(shapes))]
    return {"val": order[:held], "test": order[held : 2 * held], "train": order[2 * held :]}


def _pick(shapes: Sequence[GlyphShape], rng: np.random.Generator) -> np.ndarray:
    """The mask of one drawing of one shape."""
    shape = shapes[int(rng.integers(len(shapes)))]
    return _mask(*shape[int(rng.integers(len(shape)))])


@cache
def _mask(font: str, character: str) -> np.ndarray:
    """The mask of a glyph, (MASTER, MASTER) float64, blurred; its longer side is INK pixels.

    Because of the blur, `_Pose.bend` can change the stroke width with a threshold.
    """
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import gaussian_filter

    basic = ImageFont.Layout.BASIC  # the other layout engine is not in every Pillow
    path = str(alphabets.font_path(font))
    left, top, right, bottom = ImageFont.truetype(path, 100, layout_engine=basic).getbbox(character)
    size = 100 * INK / max(right - left, bottom - top)
    sized = ImageFont.truetype(path, size, layout_engine=basic)
    left, top, right, bottom = sized.getbbox(character)
    corner = ((MASTER - right + left) // 2 - left, (MASTER - bottom + top) // 2 - top)
    image = Image.new("L", (MASTER, MASTER))
    ImageDraw.Draw(image).text(corner, character, 255, font=sized)
    return gaussian_filter(np.asarray(image, np.float64) / 255, sigma=1.5)


def _render(glyph_set: GlyphSet, masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (N, C, S, S) uint8 of masks (N, MASTER, MASTER)."""
    shape = (len(masks), glyph_set.channels, glyph_set.side, glyph_set.side)
    pose = _Pose.draw(len(masks), rng)
    ink = pose.bend(masks, glyph_set.side, rng)
    if not glyph_set.textured:
        images = ink * _uniform(rng, 0.75, 1, len(masks), 1, 1, 1)
    else:
        for sign in (-1, 1):
            ink = _beside(ink, masks, pose, sign, rng)
        ground, colour = _colours(shape, rng)
        images = ground + ink * (colour - ground)
    noise = torch.from_numpy(rng.normal(0, 0.04, shape))
    return ((images + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _beside(
    ink: Tensor, masks: Tensor, pose: "_Pose", sign: int, rng: np.random.Generator
) -> Tensor:
    """Add a neighbour, cut by the border, to half of the images (sign -1 left, 1 right)."""
    chosen = torch.from_numpy(np.flatnonzero(rng.random(len(masks)) < 0.5))
    others = masks[torch.from_numpy(rng.integers(len(masks), size=len(chosen)))]
    beside = pose.take(chosen).shifted(sign * _uniform(rng, 0.75, 1.0, len(chosen)))
    ink = ink.clone()
    ink[chosen] = torch.maximum(ink[chosen], beside.bend(others, ink.shape[-1], rng))
    return ink


def _colours(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A textured background (N, C, S, S) and an ink (N, C, 1, 1) of another brightness."""
    count, channels, side, _ = shape
    bright = _uniform(rng, 0, 1, count, 1, 1, 1)
    step = _uniform(rng, 0.35, 0.5, count, 1, 1, 1)
    darker = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
    darker = ((bright - step >= 0) & darker) | (bright + step > 1)
    tints = _uniform(rng, -0.3, 0.3, 2, count, channels, 1, 1)
    tints -= tints.mean(dim=2, keepdim=True)  # a tint has no brightness, so grey images have none
    blotches = _smooth(rng.normal(0, 0.15, (count, channels, 5, 5)), side)
    return bright + tints[0] + blotches, torch.where(darker, bright - step, bright + step) + tints[
        1
    ]


@dataclass(frozen=True)
class _Pose:
    """Position and shape of N glyphs; `shift` is in widths of the image, 0 is the centre."""

    angle: Tensor
    shear: Tensor
    size: Tensor  # (N, 2): the glyph's share of the image, horizontal and vertical
    shift: Tensor  # (N, 2)

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> "_Pose":
        size = _uniform(rng, 0.55, 0.85, count, 1) * _uniform(rng, 0.88, 1.0, count, 2)
        shift = _uniform(rng, -0.08, 0.08, count, 2)
        return cls(_uniform(rng, -0.3, 0.3, count), _uniform(rng, -0.2, 0.2, count), size, shift)

    def take(self, rows: Tensor) -> "_Pose":
        return _Pose(self.angle[rows], self.shear[rows], self.size[rows], self.shift[rows])

    def shifted(self, widths: Tensor) -> "_Pose":
        """The same pose, moved to the right by multiples of the glyph width."""
        across = self.shift[:, :1] + (widths * self.size[:, 0])[:, None]
        return replace(self, shift=torch.cat([across, self.shift[:, 1:]], dim=1))

    def bend(self, masks: Tensor, side: int, rng: np.random.Generator) -> Tensor:
        """Masks in this pose, warped, with random stroke width, (N, 1, side, side)."""
        fine = side * SUPERSAMPLING
        grid = F.affine_grid(self._matrix(), [len(masks), 1, fine, fine], align_corners=False)
        warp = _smooth(rng.normal(0, 0.03, (len(masks), 2, 4, 4)), fine)
        grid = grid + warp.permute(0, 2, 3, 1)
        ink = F.grid_sample(masks[:, None], grid, align_corners=False)
        threshold = _uniform(rng, 0.15, 0.45, len(masks), 1, 1, 1)
        return F.avg_pool2d(((ink - threshold) * 4 + 0.5).clamp(0, 1), SUPERSAMPLING)

    def _matrix(self) -> Tensor:
        """Affine maps from positions in the image to the mask, both in [-1, 1], (N, 2, 3)."""
        cos, sin = torch.cos(self.angle), torch.sin(self.angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        slant = torch.eye(2, dtype=torch.float64).repeat(len(cos), 1, 1)
        slant[:, 0, 1] = self.shear
        linear = (INK / MASTER / self.size)[:, :, None] * (slant @ turn)
        return torch.cat([linear, -linear @ (2 * self.shift)[:, :, None]], dim=2)


def _smooth(values: np.ndarray, side: int) -> Tensor:
    """A coarse field interpolated to (side, side)."""
    return F.interpolate(torch.from_numpy(values), [side, side], mode="bicubic", align_corners=True)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape))


def _scripts() -> list[list[GlyphShape]]:
    """Letters of ten scripts, without those that look like earlier ones (Cyrillic A, o, ...)."""
    kept: list[np.ndarray] = []
    classes = []
    for shapes in alphabets.script_shapes():
        distinct = []
        for shape in shapes:
            look = _mask(*shape[0]).ravel()
            look = (look - look.mean()) / np.linalg.norm(look - look.mean())
            if all(float(look @ other) < LIKENESS for other in kept):
                kept.append(look)
                distinct.append(shape)
        classes.append(distinct)
    return classes


def _latin() -> list[list[GlyphShape]]:
    return letter_shapes(LATIN, alphabets.FONTS + alphabets.TEX, alphabets.MATH_LATIN)


def _sans() -> list[list[GlyphShape]]:
    return letter_shapes(LATIN, (*alphabets.SANS, ("cmss10",)), alphabets.MATH_SANS)


def _serif() -> list[list[GlyphShape]]:
    return letter_shapes(LATIN, alphabets.SERIF + alphabets.TEX_SERIF)


def _mono() -> list[list[GlyphShape]]:
    return letter_shapes(LATIN, (*alphabets.MONO, ("cmtt10",)), alphabets.MATH_MONO)


def _digits() -> list[list[GlyphShape]]:
    return letter_shapes(DIGITS, alphabets.FONTS + alphabets.TEX, alphabets.MATH_DIGITS)


GLYPH_SETS = {
    "glyphs": GlyphSet(_scripts),
    "glyphs-latin": GlyphSet(_latin),
    "glyphs-latin-sans": GlyphSet(_sans),
    "glyphs-latin-serif": GlyphSet(_serif),
    "glyphs-latin-mono": GlyphSet(_mono),
    "glyphs-greek": GlyphSet(lambda: letter_shapes(GREEK, alphabets.FONTS)),
    "glyphs-cyrillic": GlyphSet(lambda: letter_shapes(CYRILLIC, alphabets.FONTS)),
    "glyphs-digits": GlyphSet(_digits),
    "glyphs-textured": GlyphSet(_digits, textured=True),
    "glyphs-color": GlyphSet(_digits, channels=3, side=32, textured=True),
}
GLYPH_SETS |= {
    f"{name}{LARGE_TEST}": replace(GLYPH_SETS[name], test=LARGE_TEST_SIZE)
    for name in (
        "glyphs-latin",
        "glyphs-greek",
        "glyphs-cyrillic",
        "glyphs-digits",
        "glyphs-textured",
    )
}
"""The shipped glyph sets."""
