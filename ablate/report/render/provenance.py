"""The end of a report: what went wrong, what differed between runs, and how to reproduce it."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ablate.config.identity import schema_reasons
from ablate.config.renamed import renamed
from ablate.duration import duration
from ablate.report.analysis.results import Results, identity_schema, number
from ablate.report.analysis.verdicts import Verdicts, median
from ablate.report.text import MISSING, counted, listed, md_code, md_escape, md_fenced, one_line
from ablate.run.record import DIVERGED, DONE, FAILED

GIVEN = ("sweep", "row", "seed", "seed.base", "early_fraction")  # set by the sweep for each run


class Provenance:
    """How the runs of one sweep were made, and what went wrong; all text is safe in Markdown."""

    def __init__(self, results: Results, verdicts: Verdicts) -> None:
        self.sweep, self.records, self.verdicts = results.sweep, results.records, verdicts
        self.done = [record for record in self.records if record["status"] == DONE]

    @property
    def troubles(self) -> list[str]:
        """Runs that diverged, failed, are missing or unsteady, records that were left out, what differs among runs."""
        return [
            *self._bad_runs(),
            *self._refused(),
            *self._missing(),
            *self._spikes(),
            *self._evaluations(),
            *self._skipped(),
            *self._mixed(),
        ]

    def _bad_runs(self) -> Iterable[str]:
        for status in (DIVERGED, FAILED):
            reasons: dict[tuple[str, str], list[int]] = {}
            for record in self.records:
                if record["status"] == status:
                    why = one_line(record.get("reason") or "no reason given")
                    reasons.setdefault((record["row"], why), []).append(record["seed"])
            for (label, reason), seeds in reasons.items():
                yield f"**{md_escape(label)}** {status} ({_seed_list(seeds)}): {md_escape(reason)}"

        for row in self.verdicts:
            if row.lost:
                yield f"**{md_escape(row.label)}**: {' and '.join(row.above_chance)}; such losses are not compared"

    def _refused(self) -> Iterable[str]:
        for row, reason in self.sweep.get("refused", {}).items():
            yield f"**{md_escape(row)}** cannot stand in this context, and is left out: {md_escape(one_line(reason))}"

    def _missing(self) -> Iterable[str]:
        begun_rows = {record["row"] for record in self.records}
        unbegun = [row for row in self.verdicts if row.label not in begun_rows]
        few = unbegun if len(unbegun) > 3 else []
        if few:
            names = listed((md_escape(row.label) for row in few), 60)
            yield f"{len(few)} rows have no runs yet ({counted(sum(row.missing for row in few), 'run')}): {names}"
        for row in self.verdicts:
            if row.missing and row not in few:
                mine = [record for record in self.records if record["row"] == row.label]
                begun = [record["seed"] for record in mine if record["status"] not in (DONE, DIVERGED, FAILED)]
                never = row.missing - len(begun)
                states = [f"unfinished: {_seed_list(begun)}"] if begun else []
                states += [f"not started: {counted(never, 'run')}"] if never > 0 else []
                yield f"**{md_escape(row.label)}** is missing {counted(row.missing, 'run')} ({'; '.join(states)})"

    def _spikes(self) -> Iterable[str]:
        """Rows whose training was unsteady."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for record in self.done:
            if record.get("spikes"):
                rows.setdefault(record["row"], []).append(record)
        for label, records in rows.items():
            counts = [record["spikes"]["count"] for record in records]
            skipped = sum(record["spikes"]["skipped"] for record in records)
            yield (
                f"**{md_escape(label)}**: {counted(sum(counts), 'spike')} of loss or gradient norm while training "
                f"({_seed_list([record['seed'] for record in records])}){f', {skipped} skipped' if skipped else ''}"
            )

    def _evaluations(self) -> Iterable[str]:
        """Evaluations that failed, and scores that were not measured in the same way, or not of all finished runs."""
        failed: dict[tuple[str, str, str], list[int]] = {}
        for record in self.done:
            for name, reason in (record.get("scores_failed") or {}).items():
                failed.setdefault((record["row"], name, one_line(reason)), []).append(record["seed"])
        for (row, name, reason), seeds in failed.items():
            where = f"**{md_escape(row)}**: evaluation {md_escape(name)} failed ({_seed_list(seeds)})"
            yield f"{where}: {md_escape(reason)}"
        yield from self._points_missed()
        for name in self.verdicts.metrics:
            measured = [record for record in self.done if name in (record.get("downstream") or {})]
            ways = {str(_at(record, "scores", name, "source", "hash")) for record in measured}
            if len(ways) > 1:
                yield f"{md_escape(name)} was measured in {len(ways)} ways, so rows may differ by how it was measured"
            if lacking := len(self.done) - len(measured):
                yield f"{md_escape(name)} was not measured for {counted(lacking, 'finished run')}"

    def _points_missed(self) -> Iterable[str]:
        """Points of training at which scores were to be taken and are not known."""
        missed: dict[tuple[str, str], int] = {}
        for record in self.done:
            for point, reason in (record.get("scores_missed") or {}).items():
                missed[point, one_line(reason)] = missed.get((point, one_line(reason)), 0) + 1
        for (point, reason), count in missed.items():
            yield f"No score of {md_escape(point)} in {counted(count, 'run')}: {md_escape(reason)}"

    def _skipped(self) -> Iterable[str]:
        for skipped in self.sweep.get("skipped", []):
            yield f"Left out: {md_code(skipped['path'])}: {md_escape(skipped['reason'])}"

    def _mixed(self) -> Iterable[str]:
        """What should be the same in all runs but differs."""
        fields: dict[str, tuple[str, ...]] = {f"version of {name}": ("versions", name) for name in self._packages()}
        fields |= {
            "commit": ("git", "sha"),
            "device": ("hardware", "device"),
            "data set": ("data", "sha256"),
            "record schema": ("schema",),
        }
        for what, keys in fields.items():
            if values := self._mixture(_value_at(keys)):
                yield f"Runs were made with more than one {md_escape(what)}: {values}"
        if values := self._mixture(identity_schema):
            schemas = [identity_schema(record) for record in self.done]
            reasons = schema_reasons(min(schemas), max(schemas)).replace(": since", "; since")
            yield f"Runs of different identity schemas are not compared: {values}{md_escape(reasons)}"
        if values := self._mixture(lambda record: " ".join(_extras(record, self.sweep)) or "none"):
            yield f"Runs had different command-line overrides: {values}"
        if dirty := sum(bool(_at(record, "git", "dirty")) for record in self.done):
            yield f"{counted(dirty, 'run')} used source files with uncommitted changes"

    def _mixture(self, of: Callable[[dict[str, Any]], Any]) -> str:
        counts = Counter(str(of(record)) for record in self.done)
        values = sorted(counts, key=lambda value: (-counts[value], value))
        if len(values) < 2:
            return ""
        return ", ".join(f"{md_escape(value[:80])} ({counted(counts[value], 'run')})" for value in values)

    @property
    def commands(self) -> str:
        """The commands that reproduce this report."""
        name = self.sweep["name"]
        again = f"ablate report {name} # this report, from its records alone"
        if self.sweep.get("file") is None:
            commands = dict.fromkeys(str(record["command"]) for record in self.records if record.get("command"))
            return md_fenced([*commands, again])
        extras = "".join(f" {shlex.quote(extra)}" for extra in extras_of(self.records, self.sweep))
        return md_fenced([f"ablate sweep {name} stored=false{extras} # all runs, then this report", again])

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Versions, commit, data and machine of the runs as (name, value)."""
        versions = [f"{md_escape(name)} {_listed(values_of(self.done, 'versions', name))}" for name in self._packages()]
        machines = sorted({_machine(record) for record in self.done})
        return [
            ("versions", ", ".join(versions) or MISSING),
            ("commit", listed(map(md_code, values_of(self.done, "git", "sha"))) or "none (not a repository)"),
            ("data (sha256)", listed(map(md_code, values_of(self.done, "data", "sha256"))) or MISSING),
            ("machine", _listed(machines)),
        ]

    def _packages(self) -> list[str]:
        return sorted({name for record in self.done for name in record.get("versions") or {}})

    @property
    def seconds_per_run(self) -> str:
        """The median time of one run."""
        value = median(number(record, "seconds") for record in self.done)
        return duration(value) if math.isfinite(value) else MISSING


def values_of(records: list[dict[str, Any]], *keys: str) -> list[str]:
    """Every value of a field over `records`, the most frequent first."""
    counts = Counter(str(value) for record in records if (value := _at(record, *keys)) is not None)
    return sorted(counts, key=lambda value: (-counts[value], value))


def extras_of(records: list[dict[str, Any]], sweep: dict[str, Any]) -> tuple[str, ...]:
    """The overrides that most runs were given on the command line, beyond those of the sweep file."""
    counts = Counter(_extras(record, sweep) for record in records)
    return max(counts, key=lambda extras: (counts[extras], extras), default=())


def _extras(record: dict[str, Any], sweep: dict[str, Any]) -> tuple[str, ...]:
    given = record.get("overrides")
    if sweep.get("file") is None or not isinstance(given, list):
        return ()
    rows = [row["overrides"] for row in sweep["rows"] if row["row"] == record["row"]]
    planned = {renamed(override) for overrides in (sweep["base"], *rows) for override in overrides}
    keys = {text: text.partition("=")[0].strip().lstrip("+~") for text in map(renamed, map(str, given))}
    return tuple(t for t, key in keys.items() if t not in planned and key not in GIVEN and not key.startswith("paths."))


def _machine(record: dict[str, Any]) -> str:
    device, kind, devices = (_at(record, "hardware", key) for key in ("device", "kind", "devices"))
    return f"{device}, {kind}, {counted(devices, 'device') if isinstance(devices, int) else 'devices unknown'} per run"


def _value_at(keys: tuple[str, ...]) -> Callable[[dict[str, Any]], Any]:
    return lambda record: _at(record, *keys)


def _at(record: dict[str, Any], *keys: str) -> Any:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _listed(values: Iterable[str]) -> str:
    return listed(map(md_escape, values)) or MISSING


def _seed_list(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(str(seed) for seed in sorted(seeds))}"
