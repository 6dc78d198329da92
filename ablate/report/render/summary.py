"""The beginning of a report: the question, the findings and how certain they are, and what was run on what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ablate.duration import duration
from ablate.report.analysis.results import Results, number
from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    NOT_COMPARABLE,
    SAME,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
    timed_speed,
)
from ablate.report.render import score_findings
from ablate.report.render.provenance import extras_of, values_of
from ablate.report.text import (
    MISSING,
    are,
    counted,
    decimals,
    fixed,
    interval,
    is_number,
    listed,
    md_code,
    md_escape,
    scaled,
    shortened,
    significant,
)
from ablate.run.record import DONE
from ablate.statistics.detectable import POWER
from ablate.study.budget import KEY, Budget

OF_TRAINING = ("length", "batch_tokens", "steps")  # keys of the shape that say nothing of the model
DEMONSTRATION = "builtin"  # the text that comes with the installation: for demonstrations


class Summary:
    """The first part of the report of one sweep; all text is safe in Markdown."""

    def __init__(self, results: Results, verdicts: Verdicts) -> None:
        self.sweep, self.records, self.verdicts, self.base = results.sweep, results.records, verdicts, verdicts.baseline
        self.places = decimals(verdicts.noise)
        self.done = [record for record in self.records if record["status"] == DONE]

    @property
    def question(self) -> str:
        """The question that the sweep answers."""
        return md_escape(self.sweep["question"])

    @property
    def notes(self) -> str:
        """The notes of the sweep file, a paragraph per line."""
        return "\n\n".join(md_escape(line) for line in self.sweep["notes"].splitlines() if line.strip())

    @property
    def demonstration(self) -> str:
        """Why this is a demonstration; empty where it is not."""
        if not self.done or any((record.get("data") or {}).get("name") != DEMONSTRATION for record in self.done):
            return ""
        size, steps = scaled(self.base.parameters["total"]), fixed(self.base.steps, 0)
        return (
            f"a model of {size} parameters, trained for {steps} steps on the documentation that comes with the "
            "installation. Its verdicts hold for this setting: the signs of its differences may carry over to larger "
            "models, their sizes do not. Losses are comparable only where that documentation is the same."
        )

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        return f"{md_escape(headline(self.verdicts))}."

    @property
    def scores(self) -> str:
        """What the primary scores say of the changes, in a sentence; empty where none has a verdict."""
        return md_escape(score_findings.headline(self.verdicts))

    @property
    def expectation(self) -> str:
        """Whether the verdicts are those that the sweep file expects; empty where it expects nothing."""
        return md_escape(expectation(self.verdicts))

    @property
    def findings(self) -> list[str]:
        """What was found, verdict by verdict; how sure that is; what it cost."""
        found = []
        for verdict, heading in ((BETTER, "Better"), (WORSE, "Worse")):
            if rows := sorted(self.verdicts.of(verdict), key=lambda row: -abs(row.comparison.delta)):
                found.append(f"**{heading}:** {listed([self._finding(row) for row in rows], 12)}.")
        if rows := self.verdicts.of(SAME):
            found.append(f"**{rows[0].words[0].upper()}{rows[0].words[1:]} nats:** {_names(rows)}.")
        if rows := self.verdicts.of(UNDECIDED):
            sizes = [row.comparison.detectable for row in rows]
            low, high = significant(min(sizes)), significant(max(sizes))
            size = low if low == high else f"{low} to {high}"
            found.append(
                f"**No difference detected:** {_names(rows)}. This does not show that there is none: the sweep detects "
                f"a true difference of {size} nats per token"
                f"{', depending on the control,' if low != high else ''} with "
                f"{100 * POWER:.0f} % power, on average over its rows, and smaller ones less often.{self._margin}"
            )
        for verdict, heading in (
            (HAS_DIVERGED, "Diverged"),
            (ABOVE_CHANCE, "Above chance at the end"),
            (NOT_COMPARABLE, "Not comparable"),
            (NO_VERDICT, "No verdict"),
        ):
            if rows := self.verdicts.of(verdict):
                found.append(f"**{heading}:** {_by_reason(rows)}.")
        found += score_findings.findings(self.verdicts)
        found += [self._uncounted(row) for row in self.verdicts.rows if not row.counts]
        found += [self._control(row) for row in self.verdicts.rows if row.only_seeds]
        if rows := [row for row in self.verdicts.rows if row.copy_of]:
            names = listed([f"{md_escape(row.label)} is {md_escape(row.copy_of)}" for row in rows], 20)
            found.append(
                f"**The same runs:** {names} in other words: the identities of the runs are equal. Such a row is no "
                "change, and tells nothing of the noise."
            )
        if self.verdicts.noise > 0:
            found.append(
                "**Noise floor:** between seeds alone, the baseline's final loss varies by "
                f"{significant(self.verdicts.noise)} nats per token (sd over {counted(self.base.learned, 'seed')})."
            )
        seconds = sum(number(record, "seconds") for record in self.records if math.isfinite(number(record, "seconds")))
        found.append(f"**Cost:** {counted(len(self.records), 'run')} started, {duration(seconds)} of compute in total.")
        return found

    @property
    def _margin(self) -> str:
        """Why undecided rows are not the same, where the sweep says what that is."""
        margin = self.sweep.get("same_within")
        return f" None is shown to be the same within {margin:g} nats, the margin of the sweep file." if margin else ""

    def _finding(self, row: Row) -> str:
        comparison, relative = row.comparison, timed_speed(row, self.verdicts.row(row.control))
        size, limits = fixed(abs(comparison.delta), self.places), interval(comparison.low, comparison.high, self.places)
        fast = interval(relative.low, relative.high, 2, signed=False)
        speed = f"; {fixed(relative.ratio, 2)} × the speed, {fast}" if relative.differs else ""
        against = f"; against {md_escape(row.control)}" if row.control != self.base.label else ""
        return f"**{md_escape(row.label)}** by {size} nats ({limits}{speed}{against})"

    def _uncounted(self, row: Row) -> str:
        """What became of a row that is not counted among the changes."""
        compared = self.verdicts.against.get(row.label, [])
        are = "is" if len(compared) == 1 else "are"
        use = f", with which {counted(len(compared), 'row')} {are} compared" if compared else ""
        start = f"**Control:** {md_escape(row.label)}{use}, is not counted as a change"
        if row.verdict in (BETTER, WORSE):
            limits = interval(row.comparison.low, row.comparison.high, self.places)
            size = fixed(abs(row.comparison.delta), self.places)
            return f"{start}; it is {row.verdict} than {md_escape(row.control)} by {size} nats ({limits})."
        return f"{start}; {md_escape(row.words)}{f' ({md_escape(row.why)})' if row.why else ''}."

    def _control(self, row: Row) -> str:
        delta = fixed(row.comparison.delta, self.places, signed=True)
        start = f"**Control:** {md_escape(row.label)} changes only seeds; its difference of {delta} nats per token"
        if row.verdict in (UNDECIDED, SAME):
            return f"{start} is not significant, as expected."
        if row.verdict in (BETTER, WORSE):
            return f"{start} comes out as **{row.verdict}**: a false alarm. Treat the other verdicts with more caution."
        return f"{start} was not tested: {row.verdict} ({md_escape(row.why)})."

    @property
    def settings(self) -> list[tuple[str, str]]:
        """What was run and on what, as (name, value)."""
        settings = {
            "Baseline": md_escape(self.base.label),
            "Model": self._model(),
            "Objective": self._objective(),
            "Training": self._training(),
            "Data": self._data(),
            "Seeds": (
                f"{self.base.planned} for the baseline, {self._seeds()} for every other row; "
                "with the same seed, all rows see the same batches in the same order"
            ),
            "Budget": self._budget(),
            "Runs": self._counts(),
            "Hardware": listed(map(md_escape, values_of(self.done, "hardware", "device"))) or MISSING,
            "Command-line overrides": " ".join(
                md_code(extra, cell=True) for extra in extras_of(self.records, self.sweep)
            ),
        }
        return [(name, value) for name, value in settings.items() if value]

    def _model(self) -> str:
        shape = {key: value for key, value in self._part("shape").items() if key not in OF_TRAINING}
        sizes = ", ".join(f"{key} {value}" for key, value in shape.items())
        size = f"{scaled(self.base.parameters['total'])} parameters"
        return md_escape(f"{self._kind('topology')}: {sizes}; {size}") if shape else ""

    def _objective(self) -> str:
        length = self._part("objective").get("length")
        return md_escape(f"{self._kind('objective')}, {length} input tokens") if length else ""

    def _training(self) -> str:
        trainer, steps = self._part("trainer"), self.base.steps
        tokens = trainer.get("global_batch_tokens")
        if not is_number(tokens) or not is_number(steps):
            return ""
        each = f"{steps:,.0f} steps of {tokens:,} tokens = {scaled(tokens * steps)} tokens per run"
        each += f", {significant(tokens * steps / self.base.parameters['total'])} per parameter"
        if steps > (early := _early_step(self.done)) > 0:
            each += f"; early loss at step {early:,.0f}"
        recipe = ", ".join((self._kind("optimizer"), self._kind("schedule"), str(trainer.get("precision"))))
        return md_escape(f"{each}; {recipe}")

    def _data(self) -> str:
        data = self.base.data
        scored = {count for record in self.done if is_number(count := number(record, "loss", "tokens"))}
        text = f"{md_escape(data.get('name'))} ({md_code(str(data.get('sha256'))[:12], cell=True)})"
        there, read = (
            number(data, "tokens"),
            self.base.steps * number(self.base.settings, "trainer", "global_batch_tokens"),
        )
        text += f", {scaled(there)} training tokens"
        if read > there:
            text += f" (a run reads them {read / there:,.1f} times)"
        if len(scored) == 1:
            text += f"; losses over {scored.pop():,.0f} held-out target tokens, the same for every run"
        return text if data else ""

    def _part(self, name: str) -> dict[str, Any]:
        part = self.base.settings.get(name)
        return part if isinstance(part, dict) else {}

    def _kind(self, part: str) -> str:
        """The class that fills a group, by its name: SpanCorruption."""
        return str(self._part(part).get("_target_", part)).rpartition(".")[2]

    def _seeds(self) -> str:
        sizes = sorted({row.planned for row in self.verdicts.rows})
        return " to ".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else "0"

    def _budget(self) -> str:
        """What the sweep was asked to take, and how many seeds that has left it; empty where nobody asked."""
        budget = Budget.from_json(self.sweep.get(KEY))
        if budget is None:
            return ""
        asked, left = budget.asked, budget.left
        text = f"{duration(budget.seconds)}, forecast {duration(budget.forecast)}: "
        if asked == left:
            return f"{text}all seeds"
        return (
            f"{text}{left.baseline} of {asked.baseline} seeds of the baseline, {left.rows} of {asked.rows} of every "
            "other row"
        )

    def _counts(self) -> str:
        rows = list(self.verdicts)
        counts = {"done": sum(row.done for row in rows), "diverged": sum(row.diverged for row in rows)}
        counts |= {"failed": sum(row.failed for row in rows), "missing": sum(row.missing for row in rows)}
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "done")
        return f"{sum(row.planned for row in rows)} planned: {states}"


def _early_step(records: list[dict[str, Any]]) -> float:
    """The step of the early loss, where it is the same in all runs; else 0."""
    steps = {number(record, "loss", "early_step") for record in records}
    return steps.pop() if len(steps) == 1 else 0.0


def _by_reason(rows: list[Row]) -> str:
    """Rows with the reason for their verdict; more than three with the same reason are only counted."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row.why, []).append(row.label)
    parts = []
    for why, labels in reasons.items():
        many = [f"{len(labels)} rows"] if len(labels) > 3 else map(md_escape, labels)
        parts += [f"{name} ({md_escape(why)})" for name in many]
    return listed(parts)


def headline(verdicts: Verdicts) -> str:
    """What the sweep found, in one line."""
    rows = verdicts.changes
    better, worse, same, undecided = (verdicts.of(word) for word in (BETTER, WORSE, SAME, UNDECIDED))
    parts = [f"{are(len(better))} better", f"{are(len(worse))} worse"]
    if same:
        parts.append(f"{are(len(same))} {same[0].words}")
    if undecided:
        size = significant(float(np.median([row.comparison.detectable for row in undecided])))
        parts.append(f"{are(len(undecided))} undecided (a difference of {size} nats is detectable)")
    if rest := len(rows) - len(better) - len(worse) - len(same) - len(undecided):
        parts.append(f"{rest} {'has' if rest == 1 else 'have'} no verdict")
    others = {label: sum(row.is_change for row in members) for label, members in verdicts.against.items()}
    against = listed([f"{count} against {shortened(label)}" for label, count in others.items() if count], 3)
    start = f"Of {counted(len(rows), 'change')} to {shortened(verdicts.baseline.label)}"
    return f"{start}{f' ({against})' if against else ''}, {listed(parts)}"


def expectation(verdicts: Verdicts) -> str:
    """How the verdicts on changes stand to what the sweep file expects of them; empty where it expects nothing."""
    rows = [row for row in verdicts.changes if row.expected]
    if not rows:
        return ""
    met, contrary, still = ([row for row in rows if row.is_as_expected is known] for known in (True, False, None))
    found = [f"{len(met) or 'none'} {'comes' if len(met) == 1 else 'come'} out as expected"]
    names = [f"{row.label} ({row.words} where {_expected(row)} was expected)" for row in contrary]
    found.append(f"{len(contrary) or 'none'} otherwise{f': {listed(names)}' if names else ''}")
    if names := [f"{row.label} ({_expected(row)} expected)" for row in still]:
        found.append(f"{len(still)} {'stays' if len(still) == 1 else 'stay'} open: {listed(names)}")
    start = f"The sweep file says, with a source for each, what to expect of {counted(len(rows), 'change')}"
    return f"{start}: {'; '.join(found)}."


def _expected(row: Row) -> str:
    return row.expected.word if row.expected else ""


def _names(rows: Iterable[Row]) -> str:
    return listed((md_escape(row.label) for row in rows), 20)
