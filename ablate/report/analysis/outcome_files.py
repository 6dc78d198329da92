"""What each item adds to the scores of a run, from the files of outcomes beside it.

    <run>/evaluation/<name>-<hash>/<task>.jsonl     named by the source of each score

A file that is missing, damaged, or not the one that the record has the hash of is named, and its scores have no values
of items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.report.analysis.items_jsonl import ItemValues, Run
from ablate.report.analysis.results import Results
from ablate.run import outcomes
from ablate.run.outcomes import Outcomes

Earlier = Mapping[str, tuple[Mapping[str, Any], ItemValues]]  # by score: what the record says of it, and its items
_TOLERANCE = 1e-6  # of the mean of an item's values from the score, relative


class GatheredItems:
    """The values of items of a sweep's runs, by the lines of records.jsonl; `older` are those of an earlier report."""

    def __init__(self, older: Results) -> None:
        self._older = {_run_of(line): _known(older.items, line) for line in older.records}
        self._found: dict[Run, ItemValues] = {}

    def read(self, line: Mapping[str, Any], folder: Path) -> dict[str, str]:
        """Take those of a run that has a `folder`; returns what is wrong with each file, by its path there."""
        found, problems = of_run(folder, scores_of(line), self._older.get(_run_of(line), {}))
        self._found |= {(*_run_of(line), name): values for name, values in found.items()}
        return problems

    def keep(self, line: Mapping[str, Any]) -> None:
        """Take those that the earlier report has of a run."""
        known = self._older.get(_run_of(line), {})
        self._found |= {(*_run_of(line), name): values for name, (_, values) in known.items()}

    def in_order(self) -> dict[Run, ItemValues]:
        """All of them, in the order of the file."""
        return {run: self._found[run] for run in sorted(self._found, key=str)}


def of_run(run: Path, scores: Mapping[str, Any], known: Earlier) -> tuple[dict[str, ItemValues], dict[str, str]]:
    """The values of items by score, and what is wrong with each file, by its path below the folder `run`.

    `scores` are those of the run's record. The `known` values of an earlier report are taken where its record said the
    same of the score, so that no file need be read, or be there, again.
    """
    found: dict[str, ItemValues] = {}
    files: dict[str, list[str]] = {}
    for name, score in scores.items():
        if name in known and known[name][0] == score:
            found[name] = known[name][1]
        elif path := _path(score.get("source") or {}):
            files.setdefault(path, []).append(name)
    problems: dict[str, str] = {}
    for path, names in files.items():
        try:
            file = _read(run / path, [scores[name]["source"].get("outcomes_sha256") for name in names])
        except (OSError, ValueError) as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be used: {error}"
            problems[path] = f"{reason}; {', '.join(names)} of this run cannot be paired by item"
            continue
        of_file = {name: values for name in names if (values := file.values(name))}
        wrong = [name for name, values in of_file.items() if not _is_mean(scores[name]["value"], values)]
        if wrong:
            problems[path] = f"its items do not come to what the record says of {', '.join(wrong)}"
        found |= {name: ItemValues.of(values) for name, values in of_file.items() if name not in wrong}
    return found, problems


def _path(source: Mapping[str, Any]) -> str:
    """The path of the file that a score's source names; empty where it names none, or what is no plain name."""
    parts = [source.get(key) for key in ("evaluation", "hash", "outcomes")]
    if not all(isinstance(part, str) and part and part == Path(part).name for part in parts):
        return ""
    evaluation, digest, file = parts
    return f"evaluation/{evaluation}-{digest}/{file}"


def _read(path: Path, expected: Sequence[Any]) -> Outcomes:
    """The file; raises `OSError`, or `ValueError` where it is damaged or has another hash than the records say."""
    file = outcomes.read(path)
    digest = outcomes.sha256(file.items)
    if any(sha256 not in (None, digest) for sha256 in expected):
        raise ValueError("it is not the file that the record has the hash of")
    return file


def _is_mean(value: float, values: Mapping[int | str, float]) -> bool:
    mean = math.fsum(values.values()) / len(values)
    return math.isclose(mean, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _run_of(line: Mapping[str, Any]) -> tuple[str, int]:
    return line["row"], line["seed"]


def _known(items: Mapping[Run, ItemValues], line: Mapping[str, Any]) -> Earlier:
    """What an earlier report has of the items of a run, by its line there."""
    found = {name: (score, items.get((*_run_of(line), name))) for name, score in scores_of(line).items()}
    return {name: (score, values) for name, (score, values) in found.items() if values is not None}


def scores_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores of a line of records.jsonl by name; none of runs from before there were any."""
    return record.get("scores") or {}
