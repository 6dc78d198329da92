"""The runs of a sweep in two files in the folder of its report.

    records.jsonl   first line: the sweep as its file defines it; then one line per run
    curves.csv      loss curves, 48 points over the steps of the baseline

Everything else in a report is a function of these two files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.report.analysis import curves_csv
from ablate.report.analysis.header import describes_sweep
from ablate.report.analysis.results import Results
from ablate.run import json_text
from ablate.run.files import atomic_write, refuse_links
from ablate.run.json_object import DamagedJSON
from ablate.run.record import Record

RECORDS, CURVES = "records.jsonl", curves_csv.FILE
GROUPS = ("topology", "objective", "tokenizer", "evaluation", "shape", "optimizer", "schedule")  # of a run's settings
MOST_BYTES = 512 * 2**20  # of records.jsonl


def write(results: Results, folder: Path | str) -> None:
    """Write records.jsonl and curves.csv, canonically: the same results give the same bytes."""
    folder = Path(folder)
    refuse_links(folder)  # plots are written in place
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_canonical(line) for line in (results.sweep, *results.records)]
    atomic_write(folder / RECORDS, "".join(f"{line}\n" for line in lines))
    atomic_write(folder / CURVES, curves_csv.text_of(results.curves))


def read(folder: Path | str) -> Results:
    """Read what `write` wrote; raises `UserError` naming the file and line that cannot be read."""
    folder = Path(folder)
    path = folder / RECORDS
    try:
        texts = json_text.read_text(path, MOST_BYTES).splitlines()
    except FileNotFoundError:
        raise UserError(f"no {RECORDS} in {folder}: nothing was collected there") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json_text.parse(text))
        except ValueError as error:
            what = "not JSON" if isinstance(error, json.JSONDecodeError) else f"cannot be used: {error}"
            raise UserError(f"{path}, line {number}: {what}") from None
    if not lines or not describes_sweep(lines[0]):
        raise UserError(f"{path}, line 1: must describe the sweep")
    rows = {row["row"] for row in lines[0]["rows"]}
    for number, line in enumerate(lines[1:], start=2):
        if problem := _problem_of(line, rows):
            raise UserError(f"{path}, line {number}: cannot be used: {problem}")
    sweep, records = _without_repeats(lines[0], lines[1:])
    return Results(sweep, records, curves_csv.read(folder / CURVES))


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
