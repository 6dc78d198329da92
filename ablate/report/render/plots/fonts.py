"""Letters that a plot can draw: of its own font, else of an installed one that has them; others are written out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"  # comes with matplotlib
_NOT_TEXT = re.compile(r"Last ?Resort|STIX|^cm|Math", re.IGNORECASE)  # boxes for every letter; fonts of formulas
_INVISIBLE = re.compile("[\ufe00-\ufe0f]")  # between forms of the letter before


def covering(texts: Iterable[str]) -> list[str]:
    """The families to draw these texts with: `FONT`, and installed ones for the letters that it lacks."""
    lacking = {letter for text in texts for letter in _INVISIBLE.sub("", text) if not _has(FONT, letter)}
    families = [FONT]
    for family in _installed() if lacking else ():
        if found := {letter for letter in lacking if _has(family, letter)}:
            families.append(family)
            lacking -= found
        if not lacking:
            break
    return families


def drawable(text: str) -> str:
    """The text with each letter that no font of the current style has written out, as `\\u6ce8`."""
    families = matplotlib.rcParams["font.family"]
    return "".join(
        letter if any(_has(family, letter) for family in families) else letter.encode("unicode_escape").decode("ascii")
        for letter in _INVISIBLE.sub("", text)
    )


@cache
def _installed() -> list[str]:
    """Families for ordinary text: those without serifs first, then by name, so that each time the same is chosen."""
    names = {font.name for font in font_manager.fontManager.ttflist if not _NOT_TEXT.search(font.name)}
    return sorted(names, key=lambda name: ("Sans" not in name, name))


@cache
def _has(family: str, letter: str) -> bool:
    """Whether a family has a letter, in a form that matplotlib draws: pictures of coloured emoji are none."""
    font = _font(family)
    if font is None or not (index := font.get_char_index(ord(letter))):
        return letter.isspace()
    try:
        font.load_glyph(index)
    except RuntimeError:
        return False
    return True


@cache
def _font(family: str) -> FT2Font | None:
    """The font that matplotlib draws a family with; None where it cannot."""
    try:
        path = font_manager.findfont(font_manager.FontProperties(family=family), fallback_to_default=False)
        font = FT2Font(path)
        font.set_size(10.0, 72.0)
    except (ValueError, RuntimeError, OSError):
        return None
    return font
