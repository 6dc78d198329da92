"""The words of a report: every sentence that depends on what was measured, as text that is safe in Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ablate.record import DIVERGED, DONE, FAILED
from ablate.report.plots import headline, ordered
from ablate.report.reference import FEWEST_ROWS, Agreement, Published, base_of, join
from ablate.report.results import Results
from ablate.report.statistics import ALPHA, FEWEST_SEEDS
from ablate.report.text import (
    MISSING,
    counted,
    decimals,
    duration,
    fixed,
    interval,
    listed,
    md_code,
    md_escape,
    md_fenced,
    one_line,
    percent,
    probability,
    scaled,
    significant,
)
from ablate.report.verdicts import (
    BETTER,
    BUDGET_TOLERANCE,
    HAS_DIVERGED,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
    median,
    number,
    ratio,
    spread,
)

DEMONSTRATION = "builtin"  # the text that comes with the installation: for demonstrations
GIVEN = ("sweep", "row", "seed", "seed.base", "early")


class Words:
    """What the report of one sweep says; made once, read by the template."""

    def __init__(
        self,
        results: Results,
        verdicts: Verdicts,
        published: Published | None,
        agreements: list[Agreement],
        plots: list[tuple[str, str]],
    ) -> None:
        self.results, self.verdicts, self.published, self.agreements = results, verdicts, published, agreements
        self.sweep, self.records, self.base = results.sweep, results.records, verdicts.baseline
        self.plots = [{"file": file, "caption": md_escape(caption)} for file, caption in plots]
        self.places = decimals(verdicts.noise)
        self.speeds = comparable_speeds(verdicts)
        self.done = [record for record in self.records if record["status"] == DONE]

    # -- the question, what was found, what was run --------------------------------------------------------------------

    @property
    def question(self) -> str:
        """What the sweep asks."""
        return md_escape(self.sweep["question"])

    @property
    def notes(self) -> str:
        """What its author says of it."""
        return md_escape(self.sweep["notes"])

    @property
    def demonstration(self) -> str:
        """Why this is a demonstration; empty where it is not."""
        if not self.done or any((record.get("data") or {}).get("name") != DEMONSTRATION for record in self.done):
            return ""
        size, steps = scaled(self.base.parameters["total"]), fixed(self.base.steps, 0)
        return (
            f"a model of {size} parameters, {steps} steps, on the documentation that comes with the installation. It shows how a "
            "report reads, not which change is worth having, and its losses are not to be compared across machines."
        )

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        return f"{md_escape(headline(self.verdicts))}."

    @property
    def findings(self) -> list[str]:
        """What was found, verdict by verdict; how sure that is; what it cost."""
        found = []
        for verdict, heading in ((BETTER, "Better"), (WORSE, "Worse")):
            if rows := sorted(self.verdicts.of(verdict), key=lambda row: -abs(row.comparison.delta)):
                found.append(f"**{heading}:** {listed([self._finding(row) for row in rows], 8)}.")
        if rows := self.verdicts.of(UNDECIDED):
            sizes = [row.comparison.detectable for row in rows]
            low, high = significant(min(sizes)), significant(max(sizes))
            size = low if low == high else f"{low} to {high}"
            found.append(
                f"**No difference detected:** {_names(rows)}. That is not the same as no difference: of true differences of "
                f"{size} nats a token, depending on the row, this sweep finds four in five, and fewer of smaller ones."
            )
        for verdict, heading in ((HAS_DIVERGED, "Diverged"), (NOT_COMPARABLE, "Not comparable"), (NO_VERDICT, "No verdict")):
            if rows := self.verdicts.of(verdict):
                reasons = [f"{md_escape(row.label)} ({md_escape(row.why)})" for row in rows]
                found.append(f"**{heading}:** {listed(reasons)}.")
        found += [self._control(row) for row in self.verdicts.rows if row.is_control]
        if self.verdicts.noise > 0:
            found.append(
                f"**Noise floor:** the seed alone moves the baseline's final loss by {significant(self.verdicts.noise)} nats a "
                f"token (sd over {counted(self.base.done, 'seed')})."
            )
        seconds = sum(number(record, "seconds") for record in self.records if math.isfinite(number(record, "seconds")))
        found.append(f"**Cost:** {counted(len(self.records), 'run')}, {duration(seconds)} of computing in all.")
        return found

    def _finding(self, row: Row) -> str:
        comparison, relative = row.comparison, ratio(self.speeds[row.label], self.speeds[self.base.label])
        size = fixed(abs(comparison.delta), self.places)
        speed = f", {fixed(relative, 2)} × the speed" if math.isfinite(relative) and abs(relative - 1) >= 0.02 else ""
        return f"**{md_escape(row.label)}** by {size} nats ({interval(comparison.low, comparison.high, self.places)}{speed})"

    def _control(self, row: Row) -> str:
        told = f"**Control:** {md_escape(row.label)} changes nothing but seeds; its difference is "
        told += f"{fixed(row.comparison.delta, self.places, signed=True)} nats a token"
        if row.verdict == UNDECIDED:
            return f"{told}, and none is detected, as it should be."
        if row.verdict in (BETTER, WORSE):
            return f"{told}, and it comes out as **{row.verdict}**: a false alarm. Trust the other verdicts accordingly less."
        return f"{told}; {row.verdict} ({md_escape(row.why)})."

    @property
    def settings(self) -> list[tuple[str, str]]:
        """What was run and on what, as (name, value)."""
        settings, data = self.base.settings, self.base.data
        shape, trainer = settings.get("shape") or {}, settings.get("trainer") or {}
        told = [("Baseline", md_escape(self.base.label))]
        if shape:
            sizes = ", ".join(f"{key} {value}" for key, value in shape.items() if key not in ("length", "batch_tokens", "steps"))
            told.append(("Model", md_escape(f"{_kind(settings, 'topology')}: {sizes}; {scaled(self.base.parameters['total'])} parameters")))
        if objective := settings.get("objective"):
            told.append(("Objective", md_escape(f"{_kind(settings, 'objective')}, {objective.get('length')} input tokens")))
        if trainer:
            tokens = trainer.get("global_batch_tokens") or 0
            each = f"{fixed(self.base.steps, 0)} steps of {tokens:,} tokens = {scaled(tokens * self.base.steps)} tokens a run"
            recipe = f"{_kind(settings, 'optimizer')}, {_kind(settings, 'schedule')}, {trainer.get('precision')}"
            told.append(("Training", md_escape(f"{each}; {recipe}")))
        if data:
            size = f"{scaled(number({'data': data}, 'data', 'tokens'))} tokens to train on"
            held = (settings.get("evaluation") or {}).get("tokens")
            held_out = f"; losses on {held:,} held-out tokens, the same for every run" if isinstance(held, int) else ""
            told.append(("Text", f"{md_escape(data.get('name'))} ({md_code(str(data.get('sha256'))[:12], cell=True)}), {size}{held_out}"))
        told.append(("Seeds", f"{self.base.planned} of the baseline, {self._seeds()} of each other row; one seed gives every row the same batches in the same order"))
        told.append(("Runs", self._counts()))
        told.append(("Hardware", listed(md_escape(name) for name in self._all("hardware", "device")) or MISSING))
        if extras := self._extras():
            told.append(("Given on the command line", " ".join(md_code(extra, cell=True) for extra in extras)))
        return told

    def _seeds(self) -> str:
        sizes = sorted({row.planned for row in self.verdicts.rows})
        return " to ".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else "0"

    def _counts(self) -> str:
        rows = list(self.verdicts)
        counts = {"done": sum(row.done for row in rows), "diverged": sum(row.diverged for row in rows)}
        counts |= {"failed": sum(row.failed for row in rows), "missing": sum(row.missing for row in rows)}
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "done")
        return f"{sum(row.planned for row in rows)} planned: {told}"

    # -- verdicts ------------------------------------------------------------------------------------------------------

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The verdict tables: a heading (empty where there is one table) and its lines, the best row first."""
        tables = []
        for section in self.verdicts.sections:
            rows = [row for row in ordered(self.verdicts) if row.section == section]
            heading = md_escape(section) if len(self.verdicts.sections) > 1 else ""
            tables.append({"heading": heading, "lines": [self._verdict_line(row) for row in rows]})
        return tables

    @property
    def baseline_line(self) -> str:
        """The baseline's own losses."""
        return f"{md_escape(self.base.label)}: final loss {self._loss(self.base)}, {fixed(self.base.bits_per_byte, 3)} bits per byte, {counted(self.base.done, 'run')}"

    def _verdict_line(self, row: Row) -> list[str]:
        comparison = row.comparison
        bold = row.verdict in (BETTER, WORSE)
        return [
            md_escape(row.label),
            fixed(comparison.delta, self.places, signed=True),
            interval(comparison.low, comparison.high, self.places),
            probability(comparison.p_adjusted),
            f"**{row.verdict}**" if bold else row.verdict,
            significant(comparison.detectable) if row.verdict == UNDECIDED else "",
            self._loss(row),
            fixed(row.bits_per_byte, 3),
            f"{row.done} of {row.planned}",
            self._remarks(row),
        ]

    def _loss(self, row: Row) -> str:
        centre, width = mean(row.final), spread(row.final)
        return fixed(centre, self.places) + (f" ± {fixed(width, self.places)}" if math.isfinite(width) else "")

    def _remarks(self, row: Row) -> str:
        remarks = [md_escape(row.why)] if row.why else []
        if row.is_control:
            remarks.append("A/A control")
        if abs(row.budget) > BUDGET_TOLERANCE:
            remarks.append(f"⚑ {percent(row.budget)} FLOPs")
        return "; ".join(remarks)

    @property
    def has_flags(self) -> bool:
        """Whether any row's budget is flagged."""
        return any(abs(row.budget) > BUDGET_TOLERANCE for row in self.verdicts.rows)

    @property
    def few_seeds(self) -> bool:
        """Whether verdicts rest on fewer than five seeds."""
        return any(FEWEST_SEEDS <= row.comparison.seeds < 5 for row in self.verdicts.rows)

    @property
    def alpha(self) -> str:
        """The level at which a section's verdicts hold."""
        return f"{100 * ALPHA:.0f} %"

    @property
    def changes(self) -> list[list[str]]:
        """What each row changes against the baseline."""
        return [
            [md_escape(row.label), " ".join(md_code(override, cell=True) for override in row.overrides) or "nothing"]
            for row in self.verdicts
        ]

    @property
    def tasks(self) -> list[str]:
        """The downstream tasks."""
        return sorted({task for row in self.verdicts for task in row.downstream})

    @property
    def task_names(self) -> list[str]:
        """Their names as Markdown."""
        return [md_escape(task) for task in self.tasks]

    @property
    def scores(self) -> list[list[str]]:
        """A line a row: mean and sd of each downstream score over the seeds."""
        lines = []
        for row in (row for row in self.verdicts if row.downstream):
            cells = [(mean(row.downstream.get(task, [])), spread(row.downstream.get(task, []))) for task in self.tasks]
            told = [fixed(centre, 2) + (f" ± {fixed(width, 2)}" if math.isfinite(width) else "") for centre, width in cells]
            lines.append([md_escape(row.label), *told])
        return lines

    # -- published -----------------------------------------------------------------------------------------------------

    @property
    def agreement(self) -> dict[str, Any] | None:
        """How far the published table agrees, as a sentence, lines of figures and lines of rows; None where there is none."""
        if self.published is None:
            return None
        joined = join(self.verdicts, self.published)
        base = self.published.rows[base_of(self.verdicts, self.published)]
        return {
            "title": md_escape(self.published.title),
            "base": md_escape(base_of(self.verdicts, self.published)),
            "few": f"{counted(len(joined), 'row')} of ours {'is' if len(joined) == 1 else 'are'} in it, {FEWEST_ROWS} with a difference are needed for a correlation" if not self.agreements else "",
            "figures": [self._agreement_line(agreement) for agreement in self.agreements],
            "rows": [self._published_line(row, label, base) for row, label in joined],
        }

    def _agreement_line(self, agreement: Agreement) -> list[str]:
        told = [agreement.column.replace("_", " "), str(len(agreement.labels))]
        for name, value, limits in (
            ("spearman", agreement.spearman, agreement.spearman_interval),
            ("kendall", agreement.kendall, agreement.kendall_interval),
        ):
            told += [f"{fixed(value, 2)} ({interval(*limits, 2, signed=False)})", self._ceiling(agreement, name)]
        return [*told, f"{agreement.equal_signs} of {agreement.signs}", self._ceiling(agreement, "signs")]

    def _ceiling(self, agreement: Agreement, name: str) -> str:
        if name not in agreement.ceiling:
            return MISSING
        return " / ".join(fixed(value, 2) for value in agreement.ceiling[name])

    def _published_line(self, row: Row, label: str, base: dict[str, float]) -> list[str]:
        theirs, doubtful = self.published.rows[label], self.published.unconfirmed[label]
        cells = [md_escape(row.label), fixed(row.comparison.delta, self.places, signed=True), fixed(row.early_comparison.delta, self.places, signed=True)]
        for column in ("final_loss", "early_loss"):
            mark = "?" if column in doubtful else ""
            cells.append(fixed(theirs[column] - base[column], 3, signed=True) + mark)
        return cells

    # -- cost ----------------------------------------------------------------------------------------------------------

    @property
    def costs(self) -> list[list[str]]:
        """A line a row: parameters, operations, speed and memory, relative to the baseline where that is easier to read."""
        return [self._cost_line(row) for row in self.verdicts]

    def _cost_line(self, row: Row) -> list[str]:
        speed, base = self.speeds[row.label], self.speeds[self.base.label]
        active = row.parameters["active"]
        sparse = math.isfinite(active) and active != row.parameters["total"]
        return [
            md_escape(row.label),
            scaled(row.parameters["total"]) + (f" ({scaled(active)} active)" if sparse else ""),
            scaled(row.ops_paper),
            scaled(row.flops_per_step),
            percent(row.budget) if math.isfinite(row.budget) and abs(row.budget) >= 0.0005 else "0 %" if math.isfinite(row.budget) else MISSING,
            significant(speed, 3),
            f"{fixed(ratio(speed, base), 2)} ×" if math.isfinite(ratio(speed, base)) else MISSING,
            scaled(row.memory, "B"),
        ]

    @property
    def speed_is_exclusive(self) -> bool:
        """Whether the speeds were measured with nothing else running."""
        return self.base.is_exclusive

    # -- what went wrong -----------------------------------------------------------------------------------------------

    @property
    def troubles(self) -> list[str]:
        """Runs that diverged, failed or are missing, records that were left out, and what differs between runs."""
        return [*self._bad_runs(), *self._missing(), *self._skipped(), *self._mixed()]

    def _bad_runs(self) -> Iterable[str]:
        for status, word in ((DIVERGED, "diverged"), (FAILED, "failed")):
            reasons: dict[tuple[str, str], list[int]] = {}
            for record in self.records:
                if record["status"] == status:
                    reasons.setdefault((record["row"], one_line(record.get("reason") or "no reason given")), []).append(record["seed"])
            for (row, reason), seeds in reasons.items():
                yield f"**{md_escape(row)}** {word} ({_seed_list(seeds)}): {md_escape(reason)}"

    def _missing(self) -> Iterable[str]:
        for row in self.verdicts:
            if row.missing:
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
        names = sorted({name for record in self.done for name in record.get("versions") or {}})
        for name in names:
            if told := self._mixture(lambda record, name=name: (record.get("versions") or {}).get(name)):
                yield f"Runs were made with more than one version of {md_escape(name)}: {told}"
        for what, key in (("commit", "git"), ("device", "hardware"), ("record schema", "schema")):
            field = {"git": "sha", "hardware": "device"}.get(key)
            if told := self._mixture(lambda record, key=key, field=field: (record.get(key) or {}).get(field) if field else record.get(key)):
                yield f"Runs were made with more than one {what}: {told}"
        if told := self._mixture(lambda record: " ".join(_extras(record, self.sweep)) or "nothing"):
            yield f"Not all runs were given the same on the command line: {told}"
        if dirty := sum(bool((record.get("git") or {}).get("dirty")) for record in self.done):
            yield f"{counted(dirty, 'run')} used source files that differ from their commit"

    def _mixture(self, of: Callable[[dict[str, Any]], Any]) -> str:
        counts = Counter(str(of(record)) for record in self.done)
        if len(counts) < 2:
            return ""
        return ", ".join(f"{md_escape(value[:80])} ({counted(count, 'run')})" for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # -- how to repeat it ----------------------------------------------------------------------------------------------

    @property
    def commands(self) -> str:
        """What to type to make this again."""
        name, extras = self.sweep["name"], "".join(f" {_quoted(extra)}" for extra in self._extras())
        lines = [f"ablate report {name}    # this report from {name}'s records alone"]
        if self.sweep.get("file") is None:
            lines = [*lines, *dict.fromkeys(str(record.get("command")) for record in self.records if record.get("command"))]
        else:
            lines = [f"ablate sweep {name}{extras}    # all runs, then this report", *lines]
        return md_fenced(lines)

    @property
    def circumstances(self) -> list[tuple[str, str]]:
        """Versions, commit, text and machine of the runs, as (name, value)."""
        names = sorted({name for record in self.done for name in record.get("versions") or {}})
        versions = [f"{md_escape(name)} {listed(md_escape(value) for value in self._all('versions', name))}" for name in names]
        told = [("versions", ", ".join(versions) or MISSING)]
        told.append(("commit", listed(md_code(value) for value in self._all("git", "sha")) or "none: not a repository"))
        told.append(("text (sha256)", listed(md_code(value) for value in self._all("data", "sha256")) or MISSING))
        machine = [f"{device}, {kind}, {counted(int(devices), 'device')} a run" for device, kind, devices in self._machines()]
        told.append(("machine", listed(md_escape(value) for value in machine) or MISSING))
        return told

    @property
    def seconds_a_run(self) -> str:
        """The median time of one run."""
        value = median(number(record, "seconds") for record in self.done)
        return duration(value) if math.isfinite(value) else MISSING

    def _machines(self) -> list[tuple[Any, Any, Any]]:
        found = [record.get("hardware") or {} for record in self.done]
        return sorted({(str(each.get("device")), str(each.get("kind")), each.get("devices") or 1) for each in found})

    def _all(self, *keys: str) -> list[str]:
        """Every value of a field over the runs that are done, the most frequent first."""
        counts = Counter(str(value) for record in self.done if (value := (record.get(keys[0]) or {}).get(keys[1])) is not None)
        return sorted(counts, key=lambda value: (-counts[value], value))

    def _extras(self) -> list[str]:
        counts = Counter(_extras(record, self.sweep) for record in self.records)
        return list(max(counts, key=lambda extras: (counts[extras], extras))) if counts else []


def _extras(record: dict[str, Any], sweep: dict[str, Any]) -> tuple[str, ...]:
    """What a run was given beside what the sweep file says."""
    if sweep.get("file") is None:
        return ()
    asked = {override for row in sweep["rows"] if row["row"] == record["row"] for override in row["overrides"]} | set(sweep["base"])
    given = record.get("overrides")
    keys = [(text, text.partition("=")[0].strip().lstrip("+~")) for text in given if isinstance(text, str)] if isinstance(given, list) else []
    return tuple(text for text, key in keys if text not in asked and key not in GIVEN and not key.startswith("paths."))


def _kind(settings: dict[str, Any], part: str) -> str:
    """The class that fills a group, by its name: SpanCorruption."""
    return str((settings.get(part) or {}).get("_target_", part)).rpartition(".")[2]


def _names(rows: Iterable[Row]) -> str:
    return listed((md_escape(row.label) for row in rows), 20)


def _seed_list(seeds: list[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(str(seed) for seed in sorted(seeds))}"


def _quoted(override: str) -> str:
    import shlex

    return shlex.quote(override)
