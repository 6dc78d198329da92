"""The rows of a sweep that can stand in one of its contexts; the others are named there, and left out.

What cannot be composed, or is the context's baseline in other words, is known at once. Whether parts fit together takes
torch: a sweep finds it out when it builds its rows, and keeps it beside the runs for its plan, status and report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.config.composing import written
from ablate.config.overrides import key_of
from ablate.errors import UserError
from ablate.naming import context_of
from ablate.run.files import atomic_write, read_json
from ablate.study.definition import Sweep
from ablate.study.rows import not_of_a_study
from ablate.study.runs import overrides, settings

SAME = "it is this context's baseline in other words"
FILE = "refused.json"  # in the folder of a context's runs: by row, what it was when it did not fit, and why


def tables(sweep: Sweep, extra: Sequence[str] = ()) -> list[Sweep]:
    """The tables of a sweep, each without the rows that cannot be composed there.

    A row that cannot be composed in any of them is a mistake, and stays in all, as does one that its baseline shares.
    """
    found = [leave_out(table, _not_composed(table, extra)) for table in sweep.tables]
    nowhere = set(sweep.rows).intersection(*(table.refused for table in found))
    return sweep.tables if nowhere else found


def standing(table: Sweep, runs: Path, extra: Sequence[str] | None = None) -> Sweep:
    """One table without the rows that cannot be composed in its context, and without those that were refused there.

    Without `extra`, as for a status, whatever overrides the runs were given beside those of the sweep file.
    """
    if not can_refuse(table):
        return table
    return leave_out(table, _not_composed(table, extra or ()) | _kept(table, runs, extra))


def can_refuse(table: Sweep) -> bool:
    """Whether rows may be left out of a table: one of several contexts. Elsewhere such a row is a mistake."""
    return bool(context_of(table.name)) and table.rung is None


def keep_out(table: Sweep, refused: Mapping[str, str], runs: Path, extra: Sequence[str] = ()) -> Sweep:
    """The table without the rows `refused` when they were built, by the reason; that is kept for others to know."""
    content = {row: {**_asked(table, row, extra), "reason": refused[row]} for row in refused}
    if content or (runs / table.name / FILE).exists():
        (runs / table.name).mkdir(parents=True, exist_ok=True)
        atomic_write(runs / table.name / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return leave_out(table, refused)


def lines(table: Sweep) -> list[str]:
    """A line for each row that is left out of a table."""
    return [f"{table.name}: left out: {row!r}: {reason}" for row, reason in table.refused.items()]


def _not_composed(table: Sweep, extra: Sequence[str]) -> dict[str, str]:
    baseline, problem = _composed(table, table.baseline, extra)
    if not can_refuse(table) or problem:
        return {}
    problems = {}
    for row in table.rows:
        config, problem = _composed(table, row, extra)
        if problem := problem or (SAME if row != table.baseline and config == baseline else ""):
            problems[row] = problem
    return problems


def _composed(table: Sweep, row: str, extra: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The config of a row without its label, and why there is none."""
    try:
        config = written(overrides(table, row, 0, extra))
    except UserError as error:
        return {}, "; ".join(str(error).splitlines())
    return {key: value for key, value in config.items() if key != "row"}, ""


def _asked(table: Sweep, row: str, extra: Sequence[str]) -> dict[str, list[str]]:
    """What a row was when it was refused: by the sweep file, and by the overrides given beside that."""
    given = [override for override in extra if not not_of_a_study(key_of(override))]
    return {"overrides": list(settings(table, row)), "extra": given}


def _kept(table: Sweep, runs: Path, extra: Sequence[str] | None) -> dict[str, str]:
    """What a sweep refused when it built the rows, of those that are still as they were."""
    found = {}
    for row, content in read_json(runs / table.name / FILE).items():
        if row in table.rows and row != table.baseline and isinstance(content, dict):
            reason, asked = content.get("reason"), _asked(table, row, extra or ())
            same = content.get("overrides") == asked["overrides"]
            if isinstance(reason, str) and same and (extra is None or content.get("extra") == asked["extra"]):
                found[row] = reason
    return found


def leave_out(table: Sweep, refused: Mapping[str, str]) -> Sweep:
    """The table without the rows `refused`, and without those that are compared with one of them."""
    refused = dict(refused)
    while lost := [row for row, control in table.against.items() if control in refused and row not in refused]:
        refused |= {row: f"it is compared with {table.against[row]!r}, which is left out" for row in lost}
    if not refused:
        return table
    kept = [row for row in table.rows if row not in refused]
    return replace(
        table,
        rows={row: table.rows[row] for row in kept},
        sections={row: table.sections[row] for row in kept},
        against={row: control for row, control in table.against.items() if row not in refused},
        uncounted=table.uncounted - refused.keys(),
        expected={row: expected for row, expected in table.expected.items() if row not in refused},
        refused=table.refused | refused,
    )
