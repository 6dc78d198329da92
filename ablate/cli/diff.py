"""`ablate diff RUN RUN`: in which settings two runs differ."""

from __future__ import annotations

from typing import Any

from ablate.cli import arguments
from ablate.errors import UserError
from ablate.run.folder import RunFolder, read_record, run_path
from ablate.terminal import say
from ablate.text import aligned, shown

HELP = """Say in which settings two runs differ: only those that can change a result.

usage: ablate diff RUN RUN          a run is its folder, or SWEEP/ROW/SEED

  ablate diff "axes/Vanilla Transformer/0" "axes/RMS Norm/0"
"""


def run(words: list[str]) -> int:
    """Print a line for each setting that differs."""
    from ablate.config import differences

    given = arguments.sort(words).rest
    if len(given) != 2:
        raise UserError(f"ablate diff takes two runs, and was given {len(given)}")
    one, other = (_folder(word) for word in given)
    first, second = _facts(one), _facts(other)
    rows = differences(one.read_config() or {}, other.read_config() or {})
    rows += [(key, first[key], second[key]) for key in first if first[key] != second[key]]
    for line in aligned([[key, f"{shown(before)}  ->  {shown(after)}"] for key, before, after in rows]):
        say(line)
    if not rows:
        say("no setting differs that can change a result")
    return 0


def _folder(word: str) -> RunFolder:
    places = [RunFolder(word)]
    sweep, slash, rest = word.partition("/")
    row, _, seed = rest.rpartition("/")
    if slash and row and seed.isdecimal():
        places.append(RunFolder(run_path("runs", sweep, row, int(seed))))
    for place in places:
        if place.config.is_file():
            return place
    raise UserError(f"{word}: no run there (no config.yaml in {' or '.join(str(place.path) for place in places)})")


def _facts(folder: RunFolder) -> dict[str, Any]:
    """The data and the versions that a run was made with; nulls without a record, as before a run has begun.

    A run that was moved to another place may be compared all the same; raises `UserError` for a damaged record.
    """
    try:
        record = read_record(folder.record)
    except ValueError as error:
        raise UserError(f"{folder.record} {error}") from None
    return {"data": record and record.data_sha256, "versions": record and record.versions}
