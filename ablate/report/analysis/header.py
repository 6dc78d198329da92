"""The sweep itself, as the first line of records.jsonl describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate.config.overrides import key_of
from ablate.errors import UserError
from ablate.naming import is_sweep_name
from ablate.report.text import is_number
from ablate.run.record import LARGEST
from ablate.study import budget as budgets
from ablate.study import controls, definition, expectations, inheritance
from ablate.study.budget import Budget
from ablate.study.definition import Sweep
from ablate.study.rows import GIVEN_BY_THE_SWEEP, not_of_a_study

Header = dict[str, Any]
SHOWN_FIRST = "shown_first"  # labels of rows that the plots show in any case; the key is absent where none was named


def sweep_of(name: str, sweeps_dir: Path, required: bool) -> Sweep | None:
    """The sweep as its file defines it; None for runs without a sweep file, where it is not `required`."""
    if inheritance.find(name, sweeps_dir) is None and not required:
        return None
    return definition.load(name, sweeps_dir)


def header(sweep: Sweep) -> Header:
    """The sweep as its file defines it."""
    rows = [
        {"row": row, "section": sweep.sections[row], "overrides": list(overrides), "seeds": sweep.seeds_of(row)}
        | _settings_of(sweep, row)
        for row, overrides in sweep.rows.items()
    ]
    return {
        "kind": "sweep",
        "name": sweep.name,
        "question": sweep.question,
        "base": list(sweep.base),
        "baseline": sweep.baseline,
        "rows": rows,
        "reference": sweep.reference,
        "early": sweep.early_fraction,
        "notes": sweep.notes,
        "same_within": sweep.same_within,
        "file": sweep.text,
    } | (_of_context(sweep) | _refused(sweep))


def _of_context(sweep: Sweep) -> Header:
    """What only sweeps with rungs, or with sizes, have."""
    rungs: Header = {"rungs": [*sweep.rungs]} if sweep.rungs else {}
    if sweep.scale:
        scale = {"sizes": [*sweep.scale.sizes], "tokens_per_parameter": sweep.scale.tokens_per_parameter}
        rungs["scale"] = scale
    return rungs


def _refused(sweep: Sweep) -> Header:
    return {"refused": sweep.refused} if sweep.refused else {}


def within_budget(found: Header, budget: Budget | None) -> Header:
    """The header of a sweep that was to end within a time: with the seeds that this has left it, and the note of it."""
    if budget is None:
        return found
    left = [budget.left.baseline if row["row"] == found["baseline"] else budget.left.rows for row in found["rows"]]
    rows = [{**row, "seeds": seeds} for row, seeds in zip(found["rows"], left, strict=True)]
    return {**found, "rows": rows, budgets.KEY: budget.to_json()}


def header_of_runs(name: str, records: list[dict[str, Any]]) -> Header:
    """A sweep as the runs themselves imply it."""
    labels = sorted({record["row"] for record in records}, key=lambda label: (label != "baseline", label))
    given = {label: _given(record) for record in reversed(records) for label in [record["row"]]}
    base = [text for text in next(iter(given.values()), []) if all(text in texts for texts in given.values())]
    rows = [
        {
            "row": label,
            "section": "rows",
            "overrides": [text for text in given[label] if text not in base],
            "seeds": len({record["seed"] for record in records if record["row"] == label}),
        }
        for label in labels
    ]
    question = "Runs that were started one by one, outside any sweep"
    fixed = {"kind": "sweep", "name": name, "question": question, "base": base, "baseline": "baseline"}
    return {**fixed, "rows": rows, "reference": None, "early": None, "notes": "", "same_within": None, "file": None}


def _given(record: dict[str, Any]) -> list[str]:
    """The overrides that a run was given, without those that only say which run it is, or are of the machine."""
    texts = record.get("overrides")
    keys = {text: key_of(text) for text in texts} if isinstance(texts, list) else {}
    return [text for text, key in keys.items() if key not in GIVEN_BY_THE_SWEEP and not not_of_a_study(key)]


def renewed(older: Header, sweep: Sweep | None) -> Header:
    """The header `older` with what the sweep file says today of how its runs are to be read.

    That is the question, the notes, the published table, what each row is compared with and what is expected of it.
    Which runs there were to be, the rows with their overrides and seeds, stays as it was when they were made.
    """
    if sweep is None:
        return older
    rows = [{key: row[key] for key in row if key not in inheritance.SETTINGS} for row in older["rows"]]
    labels = {row["row"] for row in rows}
    settings = {label: _settings_of(sweep, label) for label in labels}
    for of_row in settings.values():
        if of_row.get("against", "") not in ("", *labels):
            del of_row["against"]  # the control came later than these runs
    today = header(sweep)
    kept = {key: today[key] for key in ("question", "notes", "reference", "same_within", "file")}
    kept |= _of_context(sweep)
    return {**older, **kept, "rows": [row | settings[row["row"]] for row in rows]}


def _settings_of(sweep: Sweep, row: str) -> dict[str, Any]:
    """What a row is compared with, whether it counts and what is expected of it, where that is not the rule."""
    settings: dict[str, Any] = {"against": sweep.against[row]} if row in sweep.against else {}
    settings |= {"counts": False} if row in sweep.uncounted else {}
    return settings | ({"expect": dict([sweep.expected[row]])} if row in sweep.expected else {})


def describes_sweep(line: Any) -> bool:
    """Whether the first line of records.jsonl has what a report reads of it."""
    if not isinstance(line, dict) or line.get("kind") != "sweep" or not isinstance(line.get("rows"), list):
        return False
    texts = all(isinstance(line.get(key), str) for key in ("name", "question", "baseline"))
    texts = texts and isinstance(line.get("notes") or "", str)
    rows = all(
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("row", "section"))
        and _is_texts(row.get("overrides"))
        and type(row.get("seeds")) is int
        and 0 <= row["seeds"] <= LARGEST
        for row in line["rows"]
    )
    skipped = line.get("skipped", [])
    listed = isinstance(skipped, list) and all(
        isinstance(part, dict) and all(isinstance(part.get(key), str) for key in ("path", "reason")) for part in skipped
    )
    listed = listed and _is_texts(line.get(SHOWN_FIRST, [])) and _are_factors(line.get("rungs", []))
    refused = line.get("refused", {})
    listed = listed and _is_scale(line.get("scale")) and isinstance(refused, dict) and _is_texts([*refused.values()])
    if budgets.KEY in line and Budget.from_json(line[budgets.KEY]) is None:
        return False
    return texts and rows and listed and _is_texts(line.get("base")) and _says_how_to_compare(line)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_scale(value: Any) -> bool:
    """Whether it is absent, or names sizes, which are folders, and the tokens of each parameter."""
    if value is None:
        return True
    is_whole = isinstance(value, dict) and _is_texts(value.get("sizes")) and all(map(is_sweep_name, value["sizes"]))
    return is_whole and is_number(value.get("tokens_per_parameter"))


def _are_factors(value: Any) -> bool:
    return isinstance(value, list) and all(is_number(factor) and factor > 0 for factor in value)


def _says_how_to_compare(line: Header) -> bool:
    """Whether each control is a row, and none is compared with itself by some way round."""
    margin = line.get("same_within")
    against = {row["row"]: row["against"] for row in line["rows"] if "against" in row}
    if not all(isinstance(row.get("counts", True), bool) for row in line["rows"]):
        return False
    if not all(isinstance(control, str) for control in against.values()) or line["baseline"] in against:
        return False
    try:
        for row in line["rows"]:
            if "expect" in row:
                expectations.read(row["expect"], "")
        controls.check(against, [line["baseline"], *(row["row"] for row in line["rows"])], "")
    except UserError:
        return False
    return margin is None or (is_number(margin) and margin > 0)
