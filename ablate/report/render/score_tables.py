"""The part of report.md about the scores of evaluations; all text is safe in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ablate.report.analysis.items_jsonl import ItemValues, Run
from ablate.report.analysis.reference import Published
from ablate.report.analysis.score_power import power_of
from ablate.report.analysis.score_ranks import Correlation, loss_and_scores
from ablate.report.analysis.score_verdicts import AT_CHANCE, PAIRED, UNPAIRED, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import BETTER, UNDECIDED, WORSE, Row, Verdicts, mean
from ablate.report.render.markdown_tables import kinds_of
from ablate.report.render.score_text import (
    best_below_chance,
    chance_of,
    detectable_of,
    difference_of,
    distance_of,
    forest_files,
    has_values,
    limits_of,
    number_of,
    size_of,
    value_of,
)
from ablate.report.text import MISSING, are, counted, fixed, interval, listed, md_escape, probability, significant
from ablate.statistics.ranks import FEWEST_FOR_AN_INTERVAL, FEWEST_ROWS

OPEN_TABLES = 3  # of primary scores that are not folded
COLUMNS = 8  # scores side by side
MOST_VERDICTS, MOST_NAMED = 12, 5  # exploratory verdicts, and scores, in a sentence
MOST_REASONS = 6
ITEM_NOISE = {  # where the items' part of a standard error comes from
    PAIRED: "from differences item by item, as all models are asked the same items",
    UNPAIRED: (
        "from the standard errors of both scores, as the outcomes of the items are not known, which is too wide where "
        "two models answer alike"
    ),
}

RANK_HEADS = ("Score", "Rows", "Spearman", "Kendall", "Rows, published", "Spearman", "Kendall")
POWER_HEADS = (
    *("Score", "Items", "Chance", "Baseline", "At chance", "Signal", "Noise: seeds", "Noise: items"),
    *("Signal / noise", "Detectable"),
)


class ScoreTables:
    """What the report says of scores: sentences, and lines of tables."""

    def __init__(self, verdicts: Verdicts, published: Published, items: Mapping[Run, ItemValues] | None = None) -> None:
        self.verdicts, self.scores, self.published = verdicts, verdicts.scores, published
        self.power = {name: power_of(verdicts, table, items) for name, table in self.scores.tables.items()}

    @property
    def error_rates(self) -> list[str]:
        """How often a verdict is false, by family."""
        sentences = []
        primary, exploratory = self.scores.primary, self.scores.exploratory
        if primary:
            names = listed((_name(table) for table in primary), MOST_VERDICTS)
            start = f"The primary {'score' if len(primary) == 1 else 'scores'}: {names}. "
            if len(primary) == 1:
                family = (
                    f"In at most about {_rate(primary)} of reports like this one any row gets a false verdict on it."
                )
            else:
                family = (
                    f"With all rows they are one family: in at most about {_rate(primary)} of reports like this one "
                    f"any row gets a false verdict on any of them ({_rate(primary[:1])} for each)."
                )
            sentences.append(start + family)
        if exploratory:
            scores = counted(len(exploratory), "exploratory score")
            sentences.append(
                f"{scores}: single tasks, and further figures of a task. They are another family, of rows × scores, in "
                f"which at most about {_rate(exploratory)} of such reports have any false verdict. What they show is a "
                "question for another experiment, not an answer of this one."
            )
        return sentences

    @property
    def reading(self) -> list[str]:
        """How the tables are to be read, an entry for each thing to know."""
        than = "the row that it is compared with" if self.verdicts.against else "the baseline"
        entries = [
            (
                f"**Difference** is the score minus that of {than}, the mean over the seeds that both have, in the "
                "score's own unit. It is positive where the score is higher; whether that is better, the heading says."
            ),
            (
                "**Interval** is simultaneous: those of all rows and of all scores of a family hold together with 95 % "
                "confidence. One excludes zero exactly where the test finds a difference."
            ),
            self._noise(),
        ]
        if any(found.verdict == AT_CHANCE for _, found in self._all()):
            entries.append(
                "**At chance**: the 95 % interval of the row's own score, from seeds and items, includes the chance "
                "level, and so does that of the score it is compared with. Then neither is known to do the task at "
                "all, and there is no verdict on the difference, however large it is."
            )
        return [*entries, *self._below_chance(), *self._constant(), *self._not_comparable()]

    def _noise(self) -> str:
        """Where the standard errors come from, and for which scores the items' part is known how well."""
        tables = [*self.scores.tables.values()]
        text = (
            "**Standard error** has two parts, and the interval both. *Seeds*: another run would score otherwise. "
            "*Items*: another set of as many items would score otherwise, however many seeds there are"
        )
        for how, words in ITEM_NOISE.items():
            if found := [table for table in tables if table.item_noise == how]:
                text += f"; {words}{_where(found, tables)}"
        if unknown := [table for table in tables if table.item_noise not in (PAIRED, UNPAIRED)]:
            which = "here" if len(unknown) == len(tables) else f"for {_names(unknown)}"
            text += (
                f". The part of the items is not known {which}: the intervals are those of the seeds only, too narrow"
            )
        return f"{text}."

    def _below_chance(self) -> list[str]:
        """Scores on which no row reaches the chance level."""
        found = [
            f"{_name(table)} (at most {number_of(table, best)}, chance {chance_of(table)})"
            for table in self.scores.tables.values()
            if math.isfinite(best := best_below_chance(table))
        ]
        if not found:
            return []
        text = (
            f"**Below chance:** no row reaches the chance level on {listed(found, MOST_NAMED)}. A model whose answers "
            "follow something else than the question, such as their length, may score below chance, and a difference "
            "then says little of what it has learned."
        )
        return [text]

    def _constant(self) -> list[str]:
        """Scores that so many runs have alike that a constant answer explains them."""
        nothing: list[str] = []
        alike: list[str] = []
        for name, table in self.scores.tables.items():
            power = self.power[name]
            if power.is_constant:
                value, runs = number_of(table, power.common), counted(power.runs, "run")
                is_nothing = power.common == 0 and table.metric.higher_is_better
                (nothing if is_nothing else alike).append(f"{_name(table)} ({value} in {power.alike} of {runs})")
        entries = []
        if nothing:
            entries.append(f"**Nothing right:** in most runs, no item was right on {listed(nothing, MOST_NAMED)}.")
        if alike:
            entries.append(
                f"**Alike:** most runs have the very same result on {listed(alike, MOST_NAMED)}. Models do that give "
                "every item the same answer, or choose it without regard to the question; such a score says how often "
                "that answer is right, and nothing of the change."
            )
        return entries

    def _not_comparable(self) -> list[str]:
        reasons: dict[str, list[ScoreTable]] = {}
        for table in self.scores.tables.values():
            if table.not_comparable:
                reasons.setdefault(table.not_comparable, []).append(table)
        if not reasons:
            return []
        parts = [f"{_names(tables)} ({md_escape(why)})" for why, tables in [*reasons.items()][:MOST_REASONS]]
        more = (
            f"; and {len(reasons) - MOST_REASONS} more reasons in records.jsonl" if len(reasons) > MOST_REASONS else ""
        )
        return [f"**Not comparable with published figures:** {'; '.join(parts)}{more}."]

    @property
    def primary(self) -> list[dict[str, Any]]:
        """A table for each primary score: heading, sentence, lines, and whether it is folded."""
        folded, files = len(self.scores.primary) > OPEN_TABLES, forest_files(self.scores.primary)
        return [
            {
                "heading": md_escape(table.metric.described),
                "baseline": self._baseline_of(table),
                "forest": files[table.metric.name],
                "lines": [self._line(table, row) for row in self._ordered(table)],
                "folded": folded,
            }
            for table in self.scores.primary
        ]

    @property
    def forests(self) -> list[str]:
        """The pictures of primary scores."""
        return [*forest_files(self.scores.primary).values()]

    @property
    def heads(self) -> list[str]:
        """The headings of a primary score's table."""
        against = ["Against"] if self.verdicts.against else []
        return [
            *("Row", *against, "Difference", "Interval", "p (adjusted)", "Verdict", "Detectable", "Score"),
            *("Standard error: seeds", "items", "Seeds", "Remarks"),
        ]

    @property
    def aligns(self) -> list[str]:
        """How its columns are aligned."""
        against = ["---"] if self.verdicts.against else []
        return ["---", *against, "--:", ":-:", "--:", "---", "--:", "--:", "--:", "--:", "--:", "---"]

    def _baseline_of(self, table: ScoreTable) -> str:
        base = self.verdicts.baseline.label
        runs = int(np.isfinite(table.values.get(base, np.zeros(0))).sum())
        text = f"Baseline {md_escape(base)}: {value_of(table, base)}, {counted(runs, 'run')}"
        if math.isfinite(table.chance):
            text += f". Chance level: {chance_of(table)}"
        if math.isfinite(table.items):
            text += f". {counted(int(table.items), 'item')}"
        if lacking := [row for row in self.verdicts.rows if not has_values(table, row.label)]:
            text += f". Without this score: {listed((md_escape(row.label) for row in lacking), MOST_VERDICTS)}"
        notes = self._common_notes(table)
        return f"{text}.{''.join(f' Items: {md_escape(note)}.' for note in notes)}"

    def _common_notes(self, table: ScoreTable) -> set[str]:
        """The note on the noise of items that all tested rows share; empty where they differ."""
        tested = [found for found in table.verdicts.values() if math.isfinite(found.comparison.error)]
        notes = {found.item_note for found in tested}
        return notes - {""} if len(notes) == 1 and len(tested) > 1 else set()

    def _ordered(self, table: ScoreTable) -> list[Row]:
        """The rows that have the score, the best first, those without a difference last."""
        rows = [row for row in self.verdicts.rows if row.label in table.verdicts and has_values(table, row.label)]
        deltas = {row.label: table.metric.sign * table.verdicts[row.label].comparison.delta for row in rows}
        known = {label: math.isfinite(delta) for label, delta in deltas.items()}
        return sorted(rows, key=lambda row: (not known[row.label], deltas[row.label] if known[row.label] else 0.0))

    def _line(self, table: ScoreTable, row: Row) -> list[str]:
        found = table.verdicts[row.label]
        comparison = found.comparison
        control = "the baseline" if row.control == self.verdicts.baseline.label else md_escape(row.control)
        note = "" if found.item_note in self._common_notes(table) else found.item_note
        remarks = [md_escape(text) for text in (found.why, note) if text]
        return [
            md_escape(row.label),
            *([control] if self.verdicts.against else []),
            difference_of(table, found),
            limits_of(table, found),
            probability(comparison.p_adjusted),
            f"**{found.verdict}**" if found.verdict in (BETTER, WORSE) else found.verdict,
            detectable_of(table, comparison.detectable) if found.verdict == UNDECIDED else "",
            value_of(table, row.label),
            distance_of(table, comparison.error),
            distance_of(table, comparison.item_error),
            str(comparison.seeds),
            "; ".join([*remarks, *kinds_of(row)]),
        ]

    def _all(self) -> Iterator[tuple[ScoreTable, ScoreVerdict]]:
        """Every verdict on a score, with its table."""
        for table in self.scores.tables.values():
            yield from ((table, found) for found in table.verdicts.values())

    @property
    def exploratory_verdicts(self) -> str:
        """How many of the exploratory comparisons have which verdict, and which these are."""
        all_found = [(table, found) for table, found in self._all() if not table.is_primary and _is_compared(found)]
        decided = [(table, found) for table, found in all_found if found.verdict in (BETTER, WORSE)]
        counts = {word: sum(found.verdict == word for _, found in all_found) for word in (BETTER, WORSE, AT_CHANCE)}
        counts["undecided"] = sum(found.verdict == UNDECIDED for _, found in all_found)
        start = f"Of {counted(len(all_found), 'comparison')} of a row on an exploratory score, "
        text = start + listed(f"{are(number)} {word}" for word, number in counts.items())
        decided.sort(key=lambda pair: -abs(pair[1].comparison.delta / pair[1].comparison.detectable or 1))
        names = [
            f"{md_escape(found.row)} on {_name(table)} ({found.verdict} by {size_of(table, found)})"
            for table, found in decided
        ]
        return f"{text}{f'. Exploratory: {listed(names, MOST_VERDICTS)}' if names else ''}."

    @property
    def exploratory(self) -> list[dict[str, Any]]:
        """Tables of exploratory scores, some columns each: value, difference, and the verdict if there is one."""
        tables, found = self.scores.exploratory, []
        for first in range(0, len(tables), COLUMNS):
            some = tables[first : first + COLUMNS]
            rows = [row for row in self.verdicts if any(has_values(table, row.label) for table in some)]
            lines = [[md_escape(row.label), *(_cell(table, row.label) for table in some)] for row in rows]
            found.append({"heads": ["Row", *(md_escape(table.metric.described) for table in some)], "lines": lines})
        return found

    @property
    def power_heads(self) -> tuple[str, ...]:
        """The headings of the table of what the scores can tell."""
        return POWER_HEADS

    @property
    def power_lines(self) -> list[list[str]]:
        """A line for each primary score."""
        return [self._power_line(table) for table in self.scores.primary]

    @property
    def exploratory_power_lines(self) -> list[list[str]]:
        """A line for each exploratory score."""
        return [self._power_line(table) for table in self.scores.exploratory]

    def _power_line(self, table: ScoreTable) -> list[str]:
        power = self.power[table.metric.name]
        signal = power.signal
        return [
            _name(table),
            fixed(table.items, 0),
            chance_of(table),
            value_of(table, self.verdicts.baseline.label),
            f"{power.at_chance} of {counted(power.compared, 'row')}" if math.isfinite(table.chance) else MISSING,
            distance_of(table, signal.spread),
            distance_of(table, signal.seed_noise),
            distance_of(table, signal.item_noise),
            significant(signal.ratio),
            detectable_of(table, power.detectable),
        ]

    @property
    def rank_title(self) -> str:
        """The published table."""
        return md_escape(self.published.title)

    @property
    def rank_heads(self) -> tuple[str, ...]:
        """The headings of the table of rank correlations."""
        return RANK_HEADS

    @property
    def rank_lines(self) -> list[list[str]]:
        """A line for each score that has a correlation, here or there."""
        return [
            [md_escape(one.score), *_correlation(one.ours), *_correlation(one.published)]
            for one in loss_and_scores(self.verdicts, self.published)
            if math.isfinite(one.ours.spearman) or one.published.rows
        ]

    @property
    def without_ranks(self) -> str:
        """How many of our scores have no correlation, and why; empty where each has one."""
        found = [one for one in loss_and_scores(self.verdicts, self.published) if one.score in self.scores.tables]
        lacking = [one for one in found if not math.isfinite(one.ours.spearman)]
        if not lacking:
            return ""
        few = sum(one.ours.rows < FEWEST_ROWS for one in lacking)
        reasons = {"too few rows": few, "the same in all rows": len(lacking) - few}
        known = [f"{why}: {number}" for why, number in reasons.items() if number]
        return f"Without a correlation here: {counted(len(lacking), 'score')} ({', '.join(known)})."

    @property
    def fewest_rows(self) -> tuple[int, int]:
        """How many rows a correlation needs, and its interval."""
        return FEWEST_ROWS, FEWEST_FOR_AN_INTERVAL


def _cell(table: ScoreTable, label: str) -> str:
    """The value of a row, and its difference with the verdict."""
    found = table.verdicts.get(label)
    value = number_of(table, mean(table.values.get(label, ())))
    if found is None or not _is_compared(found):
        return value
    words = {BETTER: " **better**", WORSE: " **worse**", AT_CHANCE: " at chance"}.get(found.verdict, "")
    return f"{value} ({difference_of(table, found)}{words})"


def _is_compared(found: ScoreVerdict) -> bool:
    return math.isfinite(found.comparison.delta)


def _correlation(found: Correlation) -> list[str]:
    """Rows, Spearman and Kendall, each with its interval in brackets where there is one."""
    cells = [str(found.rows) if found.rows else MISSING]
    for value, limits in ((found.spearman, found.spearman_interval), (found.kendall, found.kendall_interval)):
        within = f" ({interval(*limits, 2, signed=False)})" if math.isfinite(limits[0]) else ""
        cells.append(f"{fixed(value, 2)}{within}")
    return cells


def _name(table: ScoreTable) -> str:
    return md_escape(table.metric.name)


def _names(tables: Iterable[ScoreTable]) -> str:
    return listed(map(_name, tables), MOST_NAMED)


def _where(found: list[ScoreTable], tables: list[ScoreTable]) -> str:
    """For which scores something holds; empty where it holds for all."""
    return f" (for {_names(found)})" if len(found) < len(tables) else ""


def _rate(tables: list[ScoreTable]) -> str:
    """The error rate of these scores together."""
    return f"{100 * sum(table.alpha for table in tables):.2g} %"
