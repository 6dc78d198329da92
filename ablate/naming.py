"""Names on disk: what a sweep and its contexts may be called, and a row's label as the name of a folder."""

from __future__ import annotations

import hashlib
import re

from ablate.errors import UserError

MOST_CHARACTERS = 100  # of a name on disk
_SWEEP_NAME = re.compile(rf"[A-Za-z0-9_=-][A-Za-z0-9._=-]{{0,{MOST_CHARACTERS - 1}}}")
_RULE = f"a sweep's name has 1 to {MOST_CHARACTERS} letters, digits and any of . _ = -, and starts with no dot"
_SUFFIX = re.compile(r".*-[0-9a-f]{6}")


def is_sweep_name(name: str) -> bool:
    """Whether `name` can name a sweep, and so its file and its folders."""
    return _SWEEP_NAME.fullmatch(name) is not None


def is_study_name(name: str) -> bool:
    """Whether `name` can name a sweep, or a context of one, as in SWEEP/CONTEXT."""
    sweep, slash, context = name.partition("/")
    return is_sweep_name(sweep) and (not slash or is_sweep_name(context))


def check_study_name(name: str) -> None:
    """Raise `UserError` where `name` can name neither a sweep nor a context of one."""
    if not is_study_name(name):
        raise UserError(f"sweep={name!r}: {_RULE}; behind a slash may stand one of its contexts")


def check_sweep_name(name: str) -> None:
    """Raise `UserError` where `name` cannot name a sweep."""
    if not is_sweep_name(name):
        raise UserError(f"sweep={name!r}: {_RULE}")


def context_of(name: str) -> str:
    """The context that the name SWEEP/CONTEXT ends with; empty for that of a sweep."""
    return name.partition("/")[2]


def slug(label: str, longest: int = MOST_CHARACTERS) -> str:
    """A row's label as the name of a folder: lower case, [a-z0-9._=-], at most `longest` characters.

    Where that loses something, a short hash of the label is added, so that two labels never share a folder.
    """
    label = str(label)
    plain = re.sub(r"[^a-z0-9._=-]+", "-", label.lower()).strip("-.") or "row"
    if plain == label and len(plain) <= longest and not _SUFFIX.fullmatch(plain):
        return plain
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain[: longest - 7].rstrip('-.')}-{digest}"
