"""User-supplied strings escaped for Markdown and CSV, and numbers formatted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from ablate.statistics.speed_ratio import SpeedRatio

MISSING = "–"
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_LINE_START = re.compile(r"^(\d+)([.)])(?= |$)|^([#+=-])")
_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)  # GitHub makes a link of an address in plain text
_NAME = re.compile(r"(?<=@)(?=\w)")  # and of an e-mail address; where it is pasted into an issue, it mentions @name
_BIDI = dict.fromkeys(map(ord, "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def one_line(text: object) -> str:
    """The text without line breaks, control characters, and those that change the direction of what follows."""
    plain = str(text)
    if plain.isascii() and plain.isprintable():  # most of many thousand texts
        return " ".join(plain.split())
    plain = plain.translate(_BIDI)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())


def md_escape(text: object) -> str:
    """The text as Markdown that shows it literally: no markup, link, HTML or table cell can begin in it."""
    escaped = _LINK.sub(r"\\", _MARKDOWN.sub(r"\\\1", one_line(text)))
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _NAME.sub("<!-- -->", escaped)
    return _LINE_START.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", escaped)


def md_code(text: object, *, cell: bool = False) -> str:
    """The text as a Markdown code span; `cell` inside a table."""
    plain = one_line(text)
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain.replace('|', chr(92) + '|') if cell else plain}{pad}{fence}"


def md_fenced(lines: Iterable[object]) -> str:
    """Lines as a fenced block of shell text that nothing inside can close."""
    plain = [one_line(line) for line in lines]
    longest = max((len(run) for line in plain for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *plain, fence])


def csv_text(text: object) -> str:
    """The text as a CSV cell that no spreadsheet reads as a formula; `csv_plain` reverses it."""
    plain = one_line(text)
    return f"'{plain}" if str(text).startswith(_FORMULA) or plain.startswith(_FORMULA) else plain


def csv_plain(cell: str) -> str:
    """The text that `csv_text` turned into a cell."""
    return cell[1:] if cell.startswith("'") else cell


def shortened(text: object, longest: int = 40) -> str:
    """The text as the label of a plot: one line, cut to `longest`; of `norm=a position=b` only the values."""
    plain = one_line(text)
    words = plain.split(" ")
    if len(words) > 1 and all("=" in word for word in words):
        plain = " · ".join(word.partition("=")[2] for word in words)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite number; a bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def decimals(noise: float) -> int:
    """How many decimals show noise of this size with two digits: 3 to 5."""
    return 3 if not noise > 0 else min(5, max(3, 1 - math.floor(math.log10(noise))))


def fixed(value: float | None, places: int, *, signed: bool = False) -> str:
    """A number with `places` decimals and a true minus sign; a dash for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def significant(value: float, digits: int = 2) -> str:
    """A number with `digits` significant digits and no exponent: 0.021, 130."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return fixed(value, places)


def interval(low: float, high: float, places: int, *, signed: bool = True) -> str:
    """An interval of numbers."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{fixed(low, places, signed=signed)} to {fixed(high, places, signed=signed)}"


def relative_speed(found: SpeedRatio) -> str:
    """The ratio with its interval in brackets; without an interval the ratio alone."""
    limits = interval(found.low, found.high, 2, signed=False)
    text = MISSING if math.isnan(found.ratio) else f"{fixed(found.ratio, 2)} ×"
    return text if limits == MISSING else f"{text} ({limits})"


def probability(p: float) -> str:
    """A p value."""
    if not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def scaled(value: float | None, unit: str = "") -> str:
    """A number with an SI prefix: 223 M, 11.1 T; below a thousand without."""
    if value is None or not math.isfinite(value):
        return MISSING
    for factor, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g} {letter}{unit}" if abs(value) < 999.5e15 else f"{value:.2e} {unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def percent(share: float) -> str:
    """A signed fraction in percent, with one decimal below ten."""
    if not math.isfinite(share):
        return MISSING
    if abs(share) < 0.0005:
        return "0 %"
    return f"{fixed(100 * share, 0 if abs(share) >= 0.0995 else 1, signed=True)} %"


def listed(words: Iterable[str], most: int = 12) -> str:
    """Words as a list in a sentence, cut after `most`; separated by semicolons where one contains a comma."""
    words = list(words)
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    between = "; " if any(", " in word for word in words) else ", "
    return words[0] if len(words) == 1 else f"{between.join(words[:-1])} and {words[-1]}" if words else ""


def are(number: int) -> str:
    """`none is`, `1 is`, `3 are`."""
    return f"{number or 'none'} {'are' if number > 1 else 'is'}"


def counted(number: int, word: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
