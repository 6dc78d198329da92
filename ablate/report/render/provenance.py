"""The end of a report: what went wrong, what differed between runs, and how to make it all again."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ablate.duration import duration
from ablate.report.analysis.results import Results, number
from ablate.report.analysis.verdicts import Verdicts, median
from ablate.report.text import MISSING, counted, listed, md_code, md_escape, md_fenced, one_line
from ablate.run.record import DIVERGED, DONE, FAILED

GIVEN = ("sweep", "row", "seed", "seed.base", "early", "early_fraction")  # by the sweep file, run by run


class Provenance:
    """Under which circumstances the runs of one sweep were made; all text is safe in Markdown."""

    def __init__(self, results: Results, verdicts: Verdicts) -> None:
        self.sweep, self.records, self.verdicts = results.sweep, results.records, verdicts
        self.done = [record for record in self.records if record["status"] == DONE]

    @property
    def troubles(self) -> list[str]:
        """Runs that diverged, failed or are missing, records that were left out, and what differs between runs."""
        return [*self._bad_runs(), *self._missing(), *self._skipped(), *self._mixed()]

    def _bad_runs(self) -> Iterable[str]:
        for status in (DIVERGED, FAILED):
            reasons: dict[tuple[str, str], list[int]] = {}
            for record in self.records:
                if record["status"] == status:
                    why = one_line(record.get("reason") or "no reason given")
                    reasons.setdefault((record["row"], why), []).append(record["seed"])
            for (row, reason), seeds in reasons.items():
                yield f"**{md_escape(row)}** {status} ({_seed_list(seeds)}): {md_escape(reason)}"

        for row in self.verdicts:
            if row.lost:
                told = (
                    f"{counted(row.lost, 'run')} ended above the loss of a uniform guess, {row.chance:.2f} nats a token"
                )
                yield f"**{md_escape(row.label)}** learned nothing, which counts as diverged: {told}"

    def _missing(self) -> Iterable[str]:
        unbegun = [row for row in self.verdicts if not any(record["row"] == row.label for record in self.records)]
        few = unbegun if len(unbegun) > 3 else []
        if few:
            names = listed((md_escape(row.label) for row in few), 60)
            yield f"{len(few)} rows have no run yet ({counted(sum(row.missing for row in few), 'run')}): {names}"
        for row in self.verdicts:
            if row.missing and row not in few:
                mine = [record for record in self.records if record["row"] == row.label]
                begun = [record["seed"] for record in mine if record["status"] not in (DONE, DIVERGED, FAILED)]
                never = row.missing - len(begun)
                told = [f"begun but not finished: {_seed_list(begun)}"] if begun else []
                told += [f"not begun: {counted(never, 'run')}"] if never > 0 else []
                yield f"**{md_escape(row.label)}** lacks {counted(row.missing, 'run')} ({'; '.join(told)})"

    def _skipped(self) -> Iterable[str]:
        for skipped in self.sweep.get("skipped", []):
            yield f"Left out: {md_code(skipped['path'])}: {md_escape(skipped['reason'])}"

    def _mixed(self) -> Iterable[str]:
        """What should be the same in all runs and is not."""
        fields = {f"version of {name}": ("versions", name) for name in self._packages()}
        fields |= {
            "commit": ("git", "sha"),
            "device": ("hardware", "device"),
            "text": ("data", "sha256"),
            "record schema": ("schema",),
        }
        for what, keys in fields.items():
            if told := self._mixture(lambda record, keys=keys: _at(record, *keys)):
                yield f"Runs were made with more than one {md_escape(what)}: {told}"
        if told := self._mixture(lambda record: " ".join(_extras(record, self.sweep)) or "nothing"):
            yield f"Not all runs were given the same on the command line: {told}"
        if dirty := sum(bool(_at(record, "git", "dirty")) for record in self.done):
            yield f"{counted(dirty, 'run')} used source files that differ from their commit"

    def _mixture(self, of: Callable[[dict[str, Any]], Any]) -> str:
        counts = Counter(str(of(record)) for record in self.done)
        told = sorted(counts, key=lambda value: (-counts[value], value))
        return ", ".join(
            f"{md_escape(value[:80])} ({counted(counts[value], 'run')})" for value in told[len(told) < 2 :]
        )

    @property
    def commands(self) -> str:
        """What to type to make this again."""
        name = self.sweep["name"]
        again = f"ablate report {name} # this report, from its records alone"
        if self.sweep.get("file") is None:
            told = dict.fromkeys(str(record["command"]) for record in self.records if record.get("command"))
            return md_fenced([*told, again])
        extras = "".join(f" {shlex.quote(extra)}" for extra in extras_of(self.records, self.sweep))
        return md_fenced([f"ablate sweep {name}{extras} # all runs, then this report", again])

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Versions, commit, text and machine of the runs, as (name, value)."""
        versions = [f"{md_escape(name)} {_told(values_of(self.done, 'versions', name))}" for name in self._packages()]
        machines = sorted({_machine(record) for record in self.done})
        return [
            ("versions", ", ".join(versions) or MISSING),
            ("commit", listed(map(md_code, values_of(self.done, "git", "sha"))) or "none, no repository"),
            ("text (sha256)", listed(map(md_code, values_of(self.done, "data", "sha256"))) or MISSING),
            ("machine", _told(machines)),
        ]

    def _packages(self) -> list[str]:
        return sorted({name for record in self.done for name in record.get("versions") or {}})

    @property
    def seconds_a_run(self) -> str:
        """The median time of one run."""
        value = median(number(record, "seconds") for record in self.done)
        return duration(value) if math.isfinite(value) else MISSING


def values_of(records: list[dict[str, Any]], *keys: str) -> list[str]:
    """Every value of a field over `records`, the most frequent first."""
    counts = Counter(str(value) for record in records if (value := _at(record, *keys)) is not None)
    return sorted(counts, key=lambda value: (-counts[value], value))


def extras_of(records: list[dict[str, Any]], sweep: dict[str, Any]) -> tuple[str, ...]:
    """What most runs were given on the command line, beside what the sweep file says."""
    counts = Counter(_extras(record, sweep) for record in records)
    return max(counts, key=lambda extras: (counts[extras], extras), default=())


def _extras(record: dict[str, Any], sweep: dict[str, Any]) -> tuple[str, ...]:
    given = record.get("overrides")
    if sweep.get("file") is None or not isinstance(given, list):
        return ()
    rows = [row["overrides"] for row in sweep["rows"] if row["row"] == record["row"]]
    asked = {*sweep["base"], *(override for overrides in rows for override in overrides)}
    keys = {text: str(text).partition("=")[0].strip().lstrip("+~") for text in map(str, given)}
    return tuple(t for t, key in keys.items() if t not in asked and key not in GIVEN and not key.startswith("paths."))


def _machine(record: dict[str, Any]) -> str:
    device, kind, devices = (_at(record, "hardware", key) for key in ("device", "kind", "devices"))
    return f"{device}, {kind}, {counted(devices, 'device') if isinstance(devices, int) else 'devices unknown'} a run"


def _at(record: dict[str, Any], *keys: str) -> Any:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _told(values: Iterable[str]) -> str:
    return listed(map(md_escape, values)) or MISSING


def _seed_list(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(str(seed) for seed in sorted(seeds))}"
