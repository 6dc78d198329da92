"""The words of a command line, sorted: `--flags`, `settings=` of the verb itself, and the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ablate.errors import UserError, nearest


@dataclass
class Words:
    """The words after a verb: its flags with their values, and everything else in order."""

    flags: dict[str, str]
    rest: list[str]

    @property
    def overrides(self) -> list[str]:
        """The words with an equals sign, or a prefix that only an override can have; paths may have one too."""
        return [word for word in self.rest if ("=" in word and not _is_path(word)) or word[0] in "~+"]

    @property
    def names(self) -> list[str]:
        return [word for word in self.rest if word not in self.overrides]


def _is_path(word: str) -> bool:
    """Whether it is a path, such as runs/adhoc/norm=rmsnorm/seed-0: no key has a slash, but for Hydra's own."""
    key = word.partition("=")[0]
    return "/" in key and not key.startswith("hydra/")


def sort(arguments: list[str], *, switches: Collection[str] = (), valued: Collection[str] = ()) -> Words:
    """Take the flags out of `arguments`; raises `UserError` for one that is unknown or lacks its value.

    `switches` are flags without a value, `valued` those with one: `--format csv` or `--format=csv`.
    """
    flags: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            if word.startswith("-") and len(word) > 1:
                raise unknown_flag(word, [*switches, *valued])
            rest.append(word) if word else None
            continue
        name, equals, value = word.partition("=")
        if name in valued:
            value = value if equals else next(words, "")
            if not value:
                raise UserError(f"{name} needs a value")
        elif name not in switches or equals:
            raise unknown_flag(word, [*switches, *valued])
        flags[name] = value
    return Words(flags, rest)


def unknown_flag(word: str, flags: Iterable[str]) -> UserError:
    """What is said of a flag that is none of the verb's `flags`: how the setting is written that it may mean."""
    from ablate.config import common_words

    name = word.partition("=")[0]
    return UserError(f"{word}: unknown flag{common_words.hint(name.lstrip('-')) or nearest(name, flags)}")


def one_name(words: Words, what: str, usage: str) -> str:
    """The single name that a verb takes; raises `UserError` where there is none or several."""
    if len(words.names) != 1:
        given = f"and was given {', '.join(words.names)}" if words.names else "and was given none"
        raise UserError(f"{usage} takes the name of one {what}, {given}")
    return words.names[0]


def only_overrides(words: Words, usage: str) -> list[str]:
    """The overrides of a verb that takes nothing else; a bare word is a mistake."""
    from ablate.config import common_words

    for word in words.names:
        hint = common_words.hint(word) or nearest(word, _groups())
        hint = f"; choose {word}=OPTION" if word in _groups() else hint
        raise UserError(f"{word}: {usage} takes overrides, as in norm=rmsnorm{hint}")
    return words.overrides


def _groups() -> list[str]:
    from ablate.config import options

    return list(options.groups())
