"""The runs of a sweep in three files in the folder of its report.

    records.jsonl   first line: the sweep as its file defines it; then one line per run
    curves.csv      loss curves, 48 points over the steps of the baseline
    items.jsonl     what each item adds to the scores of each run; only where that is known of any

Everything else in a report is a function of these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.report.analysis import curves_csv, items_jsonl
from ablate.report.analysis.header import describes_sweep
from ablate.report.analysis.results import Results
from ablate.run import json_text
from ablate.run.files import atomic_write, refuse_links
from ablate.run.json_object import DamagedJSON
from ablate.run.record import Record
from ablate.study.paths import RECORDS

CURVES, ITEMS = curves_csv.FILE, items_jsonl.FILE
GROUPS = ("topology", "objective", "tokenizer", "evaluation", "shape", "optimizer", "schedule")  # of a run's settings
MOST_BYTES = 512 * 2**20  # of records.jsonl


def write(results: Results, folder: Path | str) -> Results:
    """Write records.jsonl, curves.csv and items.jsonl, canonically: the same results give the same bytes.

    Returns what `read` gives of them, without reading all of it as what a stranger may have written.
    """
    folder = Path(folder)
    refuse_links(folder)  # plots are written in place
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_canonical(line) for line in (results.sweep, *results.records)]
    atomic_write(folder / RECORDS, "".join(f"{line}\n" for line in lines))
    atomic_write(folder / CURVES, curves_csv.text_of(results.curves))
    if results.items:
        atomic_write(folder / ITEMS, items_jsonl.text_of(results.items))
    else:
        (folder / ITEMS).unlink(missing_ok=True)
    if not curves_csv.is_kept_by_writing(results.curves):
        return read(folder)
    sweep, *records = map(json.loads, lines)
    return Results(sweep, records, curves_csv.as_written(results.curves), results.items)


def read(folder: Path | str) -> Results:
    """Read what `write` wrote; raises `UserError` naming the file and line that cannot be read.

    A line of items.jsonl that cannot be used is left out, and named where runs are that are: no difference is lost by
    it, only what is known of the noise of one.
    """
    found, damage = read_undamaged(folder)
    for number, problem in damage.records.items():
        raise UserError(f"{Path(folder) / RECORDS}, line {number}: {problem}")
    if not damage.items:
        return found
    skipped = [*found.sweep.get("skipped", []), *({"path": path, "reason": why} for path, why in damage.lines.items())]
    return replace(found, sweep={**found.sweep, "skipped": skipped})


@dataclass(frozen=True)
class Damage:
    """What is wrong with the lines that cannot be used of records.jsonl and of items.jsonl, by their numbers."""

    records: Mapping[int, str] = field(default_factory=dict)
    items: Mapping[int, str] = field(default_factory=dict)

    @property
    def lines(self) -> dict[str, str]:
        """The same by file and line."""
        files = ((RECORDS, self.records), (ITEMS, self.items))
        return {f"{file}, line {number}": why for file, lines in files for number, why in lines.items()}

    @property
    def files(self) -> list[str]:
        """The damaged files."""
        return [file for file, lines in ((RECORDS, self.records), (ITEMS, self.items)) if lines]


def read_undamaged(folder: Path | str) -> tuple[Results, Damage]:
    """Read what `write` wrote, without what stands in lines that cannot be used, and what is wrong with these.

    Raises `UserError` where the first line does not describe the sweep, or the curves cannot be read.
    """
    folder = Path(folder)
    lines, damaged = _lines(folder)
    head = lines.pop(1, None)
    if head is None and 1 in damaged:
        raise UserError(f"{folder / RECORDS}, line 1: {damaged[1]}")
    if not describes_sweep(head):
        raise UserError(f"{folder / RECORDS}, line 1: must describe the sweep")
    rows = {row["row"] for row in head["rows"]}
    problems = {number: _problem_of(line, rows) for number, line in lines.items()}
    damaged |= {number: f"cannot be used: {problem}" for number, problem in problems.items() if problem}
    sweep, records = _without_repeats(head, [line for number, line in lines.items() if number not in damaged])
    items, damaged_items = items_jsonl.read(folder / ITEMS)
    results = Results(sweep, records, curves_csv.read(folder / CURVES), items)
    return results, Damage(dict(sorted(damaged.items())), damaged_items)


def read_records(folder: Path) -> tuple[dict[tuple[str, int], Record], dict[int, str]]:
    """The record of each run by row and seed, and what is wrong with each line that cannot be used.

    Both are empty without a file. Where a run has several lines, its first counts, as for the report.
    """
    try:
        lines, damaged = _lines(folder)
    except UserError as error:
        return {}, {1: str(error)} if (folder / RECORDS).exists() else {}
    records: dict[tuple[str, int], Record] = {}
    lines.pop(1, None)
    for number, line in lines.items():
        try:
            record = Record.from_json(line if isinstance(line, dict) else {})
        except DamagedJSON as error:
            damaged[number] = str(error)
        else:
            records.setdefault((record.row, record.seed), record)
    return records, dict(sorted(damaged.items()))


def _lines(folder: Path) -> tuple[dict[int, Any], dict[int, str]]:
    """The values of the lines of records.jsonl, and what is wrong with those that cannot be read, by their numbers."""
    path = folder / RECORDS
    try:
        texts = json_text.read_text(path, MOST_BYTES).splitlines()
    except FileNotFoundError:
        raise UserError(f"no {RECORDS} in {folder}: nothing was collected there") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lines: dict[int, Any] = {}
    damaged: dict[int, str] = {}
    for number, text in enumerate(texts, start=1):
        try:
            lines[number] = json_text.parse(text)
        except ValueError as error:
            damaged[number] = "not JSON" if isinstance(error, json.JSONDecodeError) else f"cannot be used: {error}"
    return lines, damaged


def _problem_of(line: Any, rows: set[str]) -> str:
    """What is wrong with a line of records.jsonl that should be a run's record; empty where nothing is."""
    if not isinstance(line, dict):
        return "must be a mapping"
    try:
        record = Record.from_json(line)
    except DamagedJSON as error:
        return str(error)
    if problem := problem_of_settings(line.get("settings", {})):
        return problem
    return "" if record.row in rows else f"the sweep has no row {record.row!r}"


def problem_of_settings(settings: Any) -> str:
    """What is wrong with what a line of records.jsonl has of its run's config; empty where nothing is."""
    if not isinstance(settings, dict):
        return "settings must be a mapping"
    wrong = (key for key in (*GROUPS, "trainer") if not isinstance(settings.get(key) or {}, dict))
    return next((f"settings.{key} must be a mapping" for key in wrong), "")


def _without_repeats(
    sweep: dict[str, Any], records: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Each run once, the first of its lines; the sweep's line says where another one differs from that."""
    first: dict[tuple[str, int], dict[str, Any]] = {}
    skipped = []
    for record in records:
        known = first.setdefault((record["row"], record["seed"]), record)
        if known != record:
            path = f"{RECORDS}: {record['row']}, seed {record['seed']}"
            skipped.append({"path": path, "reason": "is there twice, and differs; the first is taken"})
    if skipped:
        sweep = {**sweep, "skipped": [*sweep.get("skipped", []), *skipped]}
    return sweep, [*first.values()]


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
