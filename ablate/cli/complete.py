"""`ablate complete -- WORDS`: what the last word may become; the scripts of `ablate completion` ask at each TAB."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence

from ablate.errors import UserError
from ablate.terminal import say

HELP = """Print what the last of WORDS, those that stand behind `ablate`, may become: a line each.

usage: ablate complete -- WORDS
"""
OF_A_SWEEP = ("sweep", "plan", "status", "report", "forecast")  # verbs that take a sweep's name first
OF_SWEEPS = "transfer"  # the verb that takes several
WITH_OVERRIDES = ("train", "sweep", "compare", "plan", "cost", "data")
OF_A_RUN = ("retry=", "replace=", "stored=", "timeout=", "patience=", "timing=", "report=")
SETTINGS = {
    "train": ("sweep=", "row=", "seed="),
    "sweep": ("jobs=", "jobs_per_device=", "budget=", "only=", *OF_A_RUN),
    "compare": ("base=", "seeds=", "name=", "jobs=", *OF_A_RUN),
    "plan": ("jobs=", "jobs_per_device=", "budget=", "only="),
}
VALUES = {"retry": ("failed",), "replace": ("true", "false"), "report": ("true", "false"), "stored": ("true", "false")}
_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def run(words: list[str]) -> int:
    """Print the candidates; never a mistake, as nobody would read of it."""
    try:
        found = candidates(words[1:] if words[:1] == ["--"] else words)
    except (UserError, OSError):
        found = []
    say("".join(f"{candidate}\n" for candidate in found), end="")
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of `words` may become, in whole words; one that ends in = wants a value."""
    from ablate import cli

    *before, word = words or [""]
    if not before:
        choices: Iterable[str] = [*cli.VERBS, *(["--help", "--version"] if word.startswith("-") else [])]
    elif before[0] not in cli.VERBS:
        choices = []
    elif before[-1].startswith("-") and (values := _of_flag(before[0], before[-1])):
        choices = values
    elif word.startswith("-"):
        flag, equals, _ = word.partition("=")
        choices = [f"{flag}={value}" for value in _of_flag(before[0], flag)] if equals else _flags(before[0])
    else:
        choices = _words(before[0], before[1:], word)
    return [choice for choice in choices if choice.startswith(word)]


def _flags(verb: str) -> list[str]:
    """The flags of a verb: those that its help names."""
    text = importlib.import_module(f"ablate.cli.{verb}").HELP
    return [*dict.fromkeys(_FLAG.findall(text)), "--help"]


def _of_flag(verb: str, flag: str) -> Sequence[str]:
    """The values that a flag takes; none where it takes no value."""
    if verb == "cost" and flag == "--reference":
        return _sweeps([])
    if verb == "cost" and flag == "--format":
        from ablate.cli import cost

        return cost.FORMATS
    if verb == "train":
        from ablate.cli import hydra_app

        return hydra_app.SHOWING.get(flag) or ()
    return ()


def _words(verb: str, before: list[str], word: str) -> list[str]:
    """What may stand behind a verb and the words `before`, flags aside."""
    names = [given for given in before if "=" not in given and not given.startswith("-")]
    found: list[str] = []
    if verb == "completion" and not names:
        from ablate.cli import completion

        found += completion.SHELLS
    if verb == "data" and not names:
        from ablate.cli import data

        found += data.VERBS
    if verb in OF_A_SWEEP and not names:
        found += _sweeps(before)
    if verb == OF_SWEEPS:
        found += [*(name for name in _sweeps(before) if name not in names), *_published(names)]
        found += ["as="] if names and not any(given.startswith("as=") for given in before) else []
    if verb == "options":
        found += _options(word) if "=" in word else _groups()
    if verb == "export" and names:
        found += [*_classes(), "paths.data="]
    if verb == "evaluate":
        found += [*_with_runs(before), *(_of_evaluations(before, word) if names else ())]
    if verb in WITH_OVERRIDES and (names or verb in ("train", "compare", "cost")):
        found += _overrides(verb, before, word)
    return found


def _classes() -> list[str]:
    """The classes of transformers that a run can be written as."""
    from ablate import yaml_text
    from ablate.packaged import PACKAGE

    tables = sorted((PACKAGE / "weights" / "tables").glob("*.yaml"))
    return [f"as={yaml_text.parse(table.read_bytes(), yaml_text.OptionLoader)['class']}" for table in tables]


def _overrides(verb: str, before: list[str], word: str) -> list[str]:
    key, equals, _ = word.partition("=")
    if equals:
        if key == "sweep" and verb == "train":
            return [f"sweep={name}" for name in _sweeps(before)]
        if f"{key}=" in SETTINGS.get(verb, ()):
            return [f"{key}={value}" for value in VALUES.get(key, ())]
        return _options(word, several=verb == "train" and bool({"-m", "--multirun"} & set(before)))
    given = {other.partition("=")[0] for other in before}
    found = [*SETTINGS.get(verb, ()), *(f"{group}=" for group in _groups())]
    if "." in word:
        from ablate.config import keys

        found += [f"{known}=" for known in keys.known()]
    return [choice for choice in found if choice[:-1] not in given]


def _of_evaluations(before: list[str], word: str) -> list[str]:
    """What may be said of the evaluations of finished runs: those that are part of training they have."""
    from ablate.config import evaluations, keys

    group, _, _ = word.partition("=")
    chosen = [name for name in _options_of(evaluations.GROUP) if not evaluations.is_of_training(name)]
    if group == evaluations.GROUP and "=" in word:
        return _options(word, among=chosen)
    found = [f"{evaluations.GROUP}=", "paths.runs="]
    if "." in word:
        of_chosen = tuple(f"{evaluations.GROUP}.{name}." for name in chosen)
        found += [f"{key}=" for key in keys.known() if key.startswith(of_chosen) and not key.endswith("._target_")]
    given = {other.partition("=")[0] for other in before}
    return [choice for choice in found if choice[:-1] not in given]


def _groups() -> list[str]:
    from ablate.config import options as library

    return list(library.groups())


def _options_of(group: str) -> list[str]:
    from ablate.config import options as library

    return list(library.groups().get(group, ()))


def _options(word: str, several: bool = False, among: Sequence[str] | None = None) -> list[str]:
    """GROUP=OPTION for each option, or each of those `among`; with `several`, and in a list where the group takes one,
    behind those that a comma ends: norm=layernorm,rmsnorm, evaluation=[heldout,zero_shot."""
    from ablate.config import options as library

    group, _, value = word.partition("=")
    bracket = "[" if value.startswith("[") and group in library.groups() and library.takes_several(group) else ""
    there = value.removeprefix("[").rpartition(",")[0] if several or bracket else ""
    start = f"{group}={bracket}{there}," if there else f"{group}={bracket}"
    options = _options_of(group) if among is None else among
    return [f"{start}{option}" for option in options if option not in there.split(",")]


def _with_runs(before: list[str]) -> list[str]:
    """The sweeps that have a folder of runs here, those that are named already excepted."""
    from ablate.study.paths import Paths

    runs = Paths.of([word for word in before if word.startswith("paths.runs=")]).runs
    there = sorted(path.name for path in runs.glob("*") if path.is_dir() and not path.name.startswith("."))
    return [name for name in there if name not in before]


def _published(names: list[str]) -> list[str]:
    """The published tables that are not named yet."""
    from ablate.study import published

    return [name for name in published.names() if name not in names]


def _sweeps(before: list[str]) -> list[str]:
    """The sweeps that can be named here."""
    from ablate.study.inheritance import names
    from ablate.study.paths import Paths

    return names(Paths.of([word for word in before if word.startswith("paths.sweeps=")]).sweeps)
