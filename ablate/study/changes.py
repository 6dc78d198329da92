"""A study from changes given on the command line: the sweep file that `ablate compare` writes, or goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ablate import packaged
from ablate.errors import UserError
from ablate.naming import check_sweep_name, slug
from ablate.run.files import atomic_write
from ablate.study.definition import Sweep, parse
from ablate.study.inheritance import read

BASELINE = "Baseline"
PREFIX = "compare"  # what the name of such a study begins with
LONGEST = 32  # characters of the base in it: a name is also a folder, and stands before each line of the sweep
MARK = "# Written by `ablate compare`, which adds rows and seeds to it.\n"


def split(text: str) -> list[str]:
    """The overrides in one word of a command line, 'activation=swiglu bias=none'; spaces in quotes or brackets stay."""
    words, quote, depth = [""], "", 0
    for character in text:
        if character.isspace() and not quote and not depth:
            words.append("")
            continue
        words[-1] += character
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "[{(") - (character in "]})")
    return [word for word in words if word]


def name_of(base: Sequence[str]) -> str:
    """The name of the study of changes against `base`: one for each base, whatever its order."""
    text = " ".join(sorted(base))
    return f"{PREFIX}-{slug(text, LONGEST)}" if text else PREFIX


def asked(changes: Sequence[str], *, base: Sequence[str], seeds: int, folder: Path, name: str | None = None) -> Sweep:
    """The study of `changes`, each a row against `base`: new, or with what its file in `folder` has already.

    `seeds` are trained of every row, the baseline included; a study that has more keeps them. Its `text` is to be
    written to its `path`. Raises `UserError` where the changes make no study, or the file of that name is another one.
    """
    name = name or name_of(base)
    check_sweep_name(name)
    if (packaged.sweeps() / f"{name}.yaml").exists():
        raise UserError(f"name={name}: a sweep of that name comes with ablate; choose another")
    path = folder / f"{name}.yaml"
    content = _there(path, base) or {
        "question": "",
        "base": list(base),
        "baseline": BASELINE,
        "rows": {BASELINE: []},
        "seeds": {"baseline": 0, "rows": 0},
    }
    content["rows"] |= {" ".join(split(change)): split(change) for change in changes}
    content["question"] = _question(list(content["rows"])[1:])
    content["seeds"] = {kind: max(seeds, number) for kind, number in content["seeds"].items()}
    return parse(name, MARK + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), path)


def write(study: Sweep) -> None:
    """Keep the study as its sweep file."""
    study.path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(study.path, study.text)


def _question(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return f"Is {labels[0]} better than the baseline?"
    return f"Which of these {len(labels)} changes are better than the baseline?"


def _there(path: Path, base: Sequence[str]) -> dict[str, Any] | None:
    """The study in `path`, None where there is none; raises `UserError` where nothing can be added to it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not text.startswith(MARK):
        raise UserError(f"{path} was not written by ablate compare; choose another name=")
    content = read(text, path)
    sweep = parse(path.stem, text, path)
    if sorted(sweep.base) != sorted(base):
        raise UserError(f"{path} compares against base={' '.join(sweep.base)!r}; give that, or another name=")
    return content
