"""The override list as a person wrote it, read and checked before Hydra sees it.

Hydra accepts `norm=a norm=b`, `~norm`, `position=[a,b]` and `+typo=1` in silence. Here each is an error.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from ablate.config import keys, options
from ablate.config.renamed import RENAMED
from ablate.errors import UserError, nearest

ALIASES = {"seed": "seed.base"}
MOST_CHARACTERS = 100_000
BEYOND_NUMBERS = 10**100  # larger than any setting, and soon too large to be a float
LABELS = ("sweep", "row")  # free text, so the override grammar does not apply to them


@dataclass(frozen=True)
class Override:
    """One `key=value` of a command line or a sweep file."""

    text: str
    key: str
    value: Any
    is_group: bool = False


def read(texts: Iterable[str]) -> tuple[list[Override], list[str]]:
    """The overrides that can be understood, and a line for each that cannot."""
    found, errors = [], []
    for text in texts:
        try:
            found.append(_read_one(str(text)))
        except UserError as error:
            errors.append(str(error))
    counts = Counter(override.key for override in found)
    errors += [
        f"{key} is given {count} times: {', '.join(o.text for o in found if o.key == key)}"
        for key, count in counts.items()
        if count > 1
    ]
    return found, errors


def key_of(text: str) -> str:
    """The key that an override sets: two overrides with one key cannot stand in one list."""
    key = text.partition("=")[0].strip().lstrip("+~")
    return ALIASES.get(key, key)


def merge(*lists: Iterable[str]) -> list[str]:
    """Several override lists as one: where a later list sets the key of an earlier one, the later wins."""
    merged: list[str] = []
    for texts in map(list, lists):
        replaced = {key_of(text) for text in texts}
        merged = [text for text in merged if key_of(text) not in replaced] + texts
    return merged


def label_of(overrides: Iterable[Override], ignored: tuple[str, ...]) -> str:
    """What a run is called that was given no row label: its overrides, or "baseline"."""
    given = [
        override.text.replace("${", "{")  # a label is never an interpolation
        for override in overrides
        if not any(override.key == key or override.key.startswith(f"{key}.") for key in (*ignored, "seed"))
    ]
    return " ".join(given) or "baseline"


def _read_one(text: str) -> Override:
    key, equals, written = text.partition("=")
    key = key.strip()
    if key.startswith("~"):
        raise UserError(f"{text}: nothing can be deleted; choose another option of {key[1:].partition('.')[0]} instead")
    if key.startswith("+"):
        plain = key.lstrip("+")
        hint = "; leave out the +" if keys.exists(plain) else keys.suggestion(plain)
        raise UserError(f"{text}: no key can be added{hint}")
    if key in RENAMED:
        raise UserError(f"{text}: {key} is now called {RENAMED[key]}")
    if not equals or not key:
        choices = options.groups().get(text.strip())
        hint = f" ({text.strip()}: {', '.join(choices)})" if choices else nearest(text, options.groups())
        raise UserError(f"{text}: an override reads key=value{hint}")
    if "@" in key:
        raise UserError(f"{text}: write {key.partition('@')[0]}=OPTION; packages are for option files")
    if key in LABELS:
        if "${" in written:
            raise UserError(f"{text}: a label is one line of printable text, without ${{")
        return Override(text, key, unquoted(written.strip()))
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        raise UserError(f"{text}: Hydra's own settings are for `ablate train --multirun`")
    return _by_grammar(text, key)


def _by_grammar(text: str, key: str) -> Override:
    from hydra.errors import HydraException

    is_group = key in options.groups()
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{key}: an override has at most {MOST_CHARACTERS:,} characters, and this has {len(text):,}")
    try:
        parsed = _parsed(text)
    except HydraException as error:
        problem = str(error).strip().splitlines()[0]
        raise UserError(f"{text}: cannot be read ({problem}); quote values with special characters") from None
    except (RecursionError, ValueError):
        raise UserError(
            f"{text[:60]}...: cannot be read; it is nested too deep, or a number has too many digits"
        ) from None
    if parsed.is_sweep_override():
        raise UserError(f"{text}: gives several values; `ablate train --multirun` runs each of them")
    value = copy.deepcopy(parsed.value())
    if isinstance(value, int) and abs(value) > BEYOND_NUMBERS:
        raise UserError(f"{text[:60]}...: the number has too many digits")
    _check_interpolations(text, value)
    if is_group:
        _check_choice(text, key, value)
    if not isinstance(value, dict):
        key = ALIASES.get(key, key)
    return Override(text, key, value, is_group)


def _check_interpolations(text: str, value: Any) -> None:
    """Refuse a value in which a ${...} cannot be read; what it refers to is looked up later."""
    if "${" not in text:
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.create({"value": value})
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"{text}: the ${{...}} in it cannot be read ({problem})") from None


def _check_choice(text: str, group: str, choice: Any) -> None:
    """Refuse whatever is not an option of the group or, where it takes several, a list of different ones."""
    several = options.takes_several(group)
    if not isinstance(choice, str) and not (several and isinstance(choice, list) and choice):
        given = "null" if choice is None else repr(choice) if not isinstance(choice, list) else "a list"
        given, takes = ("none" if choice == [] else given, "one or more options") if several else (given, "one option")
        raise UserError(f"{text}: {group} takes {takes} and was given {given} ({', '.join(options.groups()[group])})")
    counts = Counter(map(str, options.listed(choice)))
    for option, count in counts.items():
        options.file_of(group, option)
        if option not in options.listed(choice):  # such as nan, which is no text, and an option's file called so
            raise UserError(f"{text}: {option} is read as a value; rename the option's file")
        if count > 1:
            raise UserError(f"{text}: {option} is chosen {count} times")


@cache
def _parsed(text: str) -> Any:
    """What Hydra's grammar makes of an override; the rows of a sweep share most of theirs."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def unquoted(text: str) -> str | None:
    """A label without the quotes around it; null is none."""
    if text in ("null", ""):
        return None
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
