"""The characters and fonts of the glyph image sets: what is drawn, not how.

Fonts are those that matplotlib ships: DejaVu, STIX and BaKoMa Computer Modern. STIX and DejaVu
also draw mathematical alphabets (script, fraktur, double-struck, ...), which count as further
fonts here and are spelled out below.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

Drawing = tuple[str, str]
"""(font file without ".ttf", character)."""

GlyphShape = tuple[Drawing, ...]
"""One character in one design. An upright font and its slanted twin are one design: a rotated
image of the one would be nearly an image of the other."""

LATIN, DIGITS = "ABCDEFGHIJ", "0123456789"
GREEK, CYRILLIC = "ΓΔΘΛΞΠΣΦΨΩ", "БДЖИЛФЦЧШЯ"

SANS = (("DejaVuSans", "DejaVuSans-Oblique"), ("DejaVuSans-Bold", "DejaVuSans-BoldOblique"))
MONO = (
    ("DejaVuSansMono", "DejaVuSansMono-Oblique"),
    ("DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
)
SERIF = (
    ("DejaVuSerif", "DejaVuSerif-Italic"),
    ("DejaVuSerif-Bold", "DejaVuSerif-BoldItalic"),
    ("STIXGeneral",),
    ("STIXGeneralItalic",),
    ("STIXGeneralBol",),
    ("STIXGeneralBolIta",),
)
FONTS = SANS + MONO + SERIF
TEX_SERIF = (("cmr10",), ("cmb10",), ("cmti10",))  # these have Latin letters and digits alone
TEX = (*TEX_SERIF, ("cmss10",), ("cmtt10",))

MATH_SANS = (
    ("STIXGeneral", "𝖠𝖡𝖢𝖣𝖤𝖥𝖦𝖧𝖨𝖩"),
    ("STIXGeneral", "𝗔𝗕𝗖𝗗𝗘𝗙𝗚𝗛𝗜𝗝"),
    ("STIXGeneral", "𝘈𝘉𝘊𝘋𝘌𝘍𝘎𝘏𝘐𝘑"),
)
MATH_MONO = (("STIXGeneral", "𝙰𝙱𝙲𝙳𝙴𝙵𝙶𝙷𝙸𝙹"),)
MATH_ORNATE = (
    ("STIXGeneral", "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥"),
    ("STIXGeneral", "𝔸𝔹ℂ𝔻𝔼𝔽𝔾ℍ𝕀𝕁"),
    ("DejaVuSerif", "𝔸𝔹ℂ𝔻𝔼𝔽𝔾ℍ𝕀𝕁"),
    ("cmmi10", LATIN),
    ("cmsy10", LATIN),
)
MATH_LATIN = MATH_SANS + MATH_MONO + MATH_ORNATE
MATH_DIGITS = (
    ("STIXGeneral", "𝟢𝟣𝟤𝟥𝟦𝟧𝟨𝟩𝟪𝟫"),
    ("STIXGeneral", "𝟬𝟭𝟮𝟯𝟰𝟱𝟲𝟳𝟴𝟵"),
    ("STIXGeneral", "𝟶𝟷𝟸𝟹𝟺𝟻𝟼𝟽𝟾𝟿"),
    ("STIXGeneral", "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡"),
    ("DejaVuSans", "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡"),
)

SCRIPTS = {
    "latin": (0x41, 0x7A),
    "greek": (0x391, 0x3C9),
    "cyrillic": (0x410, 0x44F),
    "armenian": (0x531, 0x586),
    "georgian": (0x10D0, 0x10F6),
    "hebrew": (0x5D0, 0x5EA),
    "arabic": (0x627, 0x64A),
    "tifinagh": (0x2D30, 0x2D65),
    "syllabics": (0x142F, 0x14EA),  # Canadian
    "lao": (0xE81, 0xEAE),
}
"""First and last code point of the letters of each script."""
SCRIPT_FONTS = ("DejaVuSans", "DejaVuSans-Bold")


def letter_shapes(
    characters: str,
    fonts: Iterable[tuple[str, ...]],
    spelled: Iterable[tuple[str, str]] = (),
) -> list[list[GlyphShape]]:
    """The shapes of each class, where a class is one character.

    Args:
        characters: one per class.
        fonts: designs that draw them at their own code points.
        spelled: (font, the characters in a mathematical alphabet).
    """
    designs = [
        [tuple((font, character) for font in design) for character in characters]
        for design in fonts
    ] + [[((font, character),) for character in alphabet] for font, alphabet in spelled]
    return [list(shapes) for shapes in zip(*designs, strict=True)]


def script_shapes() -> list[list[GlyphShape]]:
    """The shapes of each class, where a class is a script and a shape one of its letters."""
    return [
        [tuple((font, character) for font in SCRIPT_FONTS) for character in _letters(*ends)]
        for ends in SCRIPTS.values()
    ]


def font_path(font: str) -> Path:
    """Where matplotlib keeps a font."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


def _letters(first: int, last: int) -> list[str]:
    """Letters of a block that every script font draws; accented ones are left out."""
    return [
        chr(code)
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo")
        and not unicodedata.decomposition(chr(code))
        and all(code in _code_points(font) for font in SCRIPT_FONTS)
    ]


@cache
def _code_points(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_path(font))).get_charmap())
