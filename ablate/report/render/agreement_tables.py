"""The part of report.md that compares our numbers with published ones; all text is safe in Markdown."""

from __future__ import annotations

import numpy as np

from ablate.report.analysis import agreement
from ablate.report.analysis.agreement import SPEED, Agreement, Contradiction
from ablate.report.analysis.agreement_over_training import OWN, PARTS, AgreementOverTraining
from ablate.report.analysis.contrasts import base_of, compared_as, control_there, join, left_out
from ablate.report.analysis.reference import LOSSES, Published, findings
from ablate.report.analysis.verdicts import (
    HAS_DIVERGED,
    NOT_COMPARABLE,
    UNLEARNED,
    Row,
    Verdicts,
    mean,
    ratio,
    timed_speed,
)
from ablate.report.text import MISSING, counted, decimals, fixed, interval, listed, md_escape, significant
from ablate.statistics.comparison import FEWEST_SEEDS, Comparison
from ablate.statistics.ranks import FEWEST_ROWS


class AgreementTables:
    """What the report says about a published table: sentences, then lines of tables."""

    def __init__(
        self,
        verdicts: Verdicts,
        published: Published,
        agreements: list[Agreement],
        over_training: AgreementOverTraining | None = None,
    ) -> None:
        self.verdicts, self.published = verdicts, published
        self.agreements, self.over_training = agreements, over_training
        self.joined = join(verdicts, published)
        self.lacking, self.without_lacking = agreement.without_lacking(verdicts, published)
        self.base = base_of(verdicts, published)
        self.places = decimals(verdicts.noise)
        opposed = agreement.contradictions(verdicts, published)
        self.contradictions = [found for found in opposed if found.is_certain]
        self.within_their_noise = len(opposed) - len(self.contradictions)

    @property
    def title(self) -> str:
        """The paper and its table."""
        return md_escape(self.published.title)

    @property
    def baseline(self) -> str:
        """The published row that our baseline corresponds to."""
        return md_escape(self.base)

    @property
    def answer(self) -> str:
        """How well the final losses agree, and what that rests on; empty where there is no correlation of them."""
        if not self.agreements or self.agreements[0].column != self.agreements[0].published:
            return ""
        whole = self.agreements[0]
        if not np.isfinite(whole.spearman):
            return ""
        text = (
            f"Over {counted(len(whole.labels), 'row')}, our final losses and those of {self.title} have a rank "
            f"correlation (Spearman) of {_with_interval(whole)}"
        )
        if rest := agreement.without_section(self.verdicts, self.published):
            section, found = rest
            rows = counted(len(whole.labels) - len(found.labels), "row")
            text += f"; without the {rows} of *{md_escape(section)}*, on which it rests most, {_with_interval(found)}"
        if self.without_lacking and self.without_lacking[0].column == self.without_lacking[0].published:
            found = self.without_lacking[0]
            text += (
                f"; without the {counted(len(whole.labels) - len(found.labels), 'row')} that are compared here with "
                f"{listed(map(md_escape, self.lacking), 3)}, which that table lacks, {_with_interval(found)}"
            )
        return f"{text}."

    @property
    def few(self) -> str:
        """Why there are no correlations; empty where there are."""
        if self.agreements:
            return ""
        return f"{counted(len(self.joined), 'row')} can be compared with it; a correlation needs at least {FEWEST_ROWS}"

    @property
    def reading(self) -> list[str]:
        """How to interpret the agreement, one or two sentences per entry."""
        return [*self._order(), *self._over_training(), *self._sizes(), *self._contradicted(), *self._left_out()]

    def _order(self) -> list[str]:
        sentences = []
        for found in self.agreements:
            if not np.isfinite(found.spearman) or "spearman" not in found.ceiling:
                continue
            what = f"{_words(found.column)} against the published {_words(found.published)}"
            middle, low = found.ceiling["spearman"]
            if found.beyond_noise:
                why = (
                    f"with seed noise of both studies as the only difference it would be {fixed(low, 2)} or more in "
                    "95 % of cases, so something else separates the two: model size, length of training, data or recipe"
                )
            else:
                why = (
                    f"with seed noise of both studies as the only difference it would be about {fixed(middle, 2)}, so "
                    "seed noise can explain a value like this"
                )
            sentences.append(f"**Order:** {what}: Spearman {fixed(found.spearman, 2)}; {why}.")
        return sentences

    def _over_training(self) -> list[str]:
        if self.over_training is None:
            return []
        points = (1, (PARTS + 2) // 3, (2 * PARTS + 1) // 3, PARTS)
        by_reference = [
            f"{' · '.join(fixed(figures[point - 1], 2) for point in points)} with "
            f"{_words(against) if against == OWN else f'the published {_words(against)}'}"
            for against, figures in self.over_training.spearman.items()
        ]
        when = " · ".join(f"{self.over_training.steps[point - 1]:,}" for point in points)
        sentence = (
            "**Over training:** by the training losses over the tenths of training that end at steps "
            f"{when}, Spearman is {'; '.join(by_reference)}. Where it is still rising, more steps may bring the orders "
            "closer; where it has levelled off or falls, more steps alone are unlikely to."
        )
        return [sentence]

    def _sizes(self) -> list[str]:
        if not self.agreements or not np.isfinite(self.agreements[0].scale):
            return []
        scale = self.agreements[0].scale
        if not scale:
            return ["**Size:** our differences are no larger than our noise."]
        first = self.agreements[0]
        slope = float(first.ours @ first.theirs / (first.theirs @ first.theirs))
        sentence = (
            f"**Size:** our differences, noise removed, are {significant(scale)} times as large as the published ones "
            "(root mean squares); the regression of ours on theirs through the origin has slope "
            f"{fixed(slope, 2, signed=True)}."
        )
        return [sentence]

    def _contradicted(self) -> list[str]:
        tested = [row for row, _ in self.joined if np.isfinite(self._compared(row, "final_loss").p)]
        if not tested:
            return [f"**Rows:** none has been tested yet; a test needs {FEWEST_SEEDS} seeds shared with the baseline."]
        final, early = (sum(self._compared(row, column).differs for row in tested) for column in LOSSES[::-1])
        if not final + early:
            none = f"none of {counted(len(tested), 'tested row')} differs significantly from the baseline here"
            return [f"**Rows:** {none}, so none can disagree with the published table."]
        differ = (
            f"of {counted(len(tested), 'tested row')}, {final} differ significantly from the baseline here in the "
            f"final loss and {early} in the early loss"
        )
        if not self.contradictions:
            none = "none of them differs in the opposite direction in the published table by more than two standard "
            return [f"**Rows:** {differ}; {none}deviations of its runs{self._uncertain()}."]
        contradictions = listed(map(self._contradiction, self.contradictions), 30)
        sentence = (
            f"**Rows that disagree:** {differ}. In the opposite direction in the published table, by more than two "
            f"standard deviations of its runs: {contradictions}{self._uncertain()}. Seed noise does not explain this, "
            "but it holds for these settings only: a change may need more steps, more width or another learning rate "
            "to show its effect at the published size."
        )
        return [sentence]

    def _uncertain(self) -> str:
        return f" (by less: {self.within_their_noise})" if self.within_their_noise else ""

    def _left_out(self) -> list[str]:
        """Rows that no figure includes; one that trains in the published study and diverges here matters most."""
        left = [row for row, _ in left_out(self.verdicts, self.published)]
        diverged = [md_escape(row.label) for row in left if row.verdict in UNLEARNED]
        unlike = [md_escape(row.label) for row in left if row.verdict == NOT_COMPARABLE]
        groups = []
        if diverged:
            is_all = all(row.verdict == HAS_DIVERGED for row in left if row.verdict in UNLEARNED)
            how = "diverged" if is_all else "diverged or ended above chance"
            figure = fixed(agreement.with_diverged_last(self.verdicts, self.published), 2)
            groups.append(
                f"{listed(diverged, 30)}, which {how} here (ranked as the worst, Spearman of final losses "
                f"would be {figure})"
            )
        if unlike:
            groups.append(f"{listed(unlike, 30)}, which cannot be compared with our baseline")
        if rest := len(left) - len(diverged) - len(unlike):
            groups.append(f"{counted(rest, 'row')} without a run to compare")
        return [f"**Left out of the comparison:** {'; '.join(groups)}."] if groups else []

    def _contradiction(self, found: Contradiction) -> str:
        ours = fixed(found.ours, self.places, signed=True)
        theirs = fixed(found.theirs, 3, signed=True)
        lacks = f", both against the baseline, since the table lacks {md_escape(found.lacks)}" if found.lacks else ""
        return f"{md_escape(found.label)} ({_words(found.column)} {ours} here, {theirs} published{lacks})"

    def _compared(self, row: Row, column: str) -> Comparison:
        return compared_as(self.verdicts, self.published, row, column)

    @property
    def figures(self) -> list[list[str]]:
        """A line for each pair of columns, then one for speed."""
        speed = agreement.of_speed(self.verdicts, self.published)
        without = f"without rows against {listed(map(md_escape, self.lacking), 3)}"
        lines = [self._line(_pair(found), found) for found in self.agreements]
        lines += [self._line(f"{_pair(found)}, {without}", found) for found in self.without_lacking]
        return lines + [self._line(_pair(found), found) for found in filter(None, [speed])]

    @property
    def sections(self) -> list[list[str]]:
        """A line for each section, of final losses; empty where there is one section."""
        found = agreement.by_section(self.verdicts, self.published)
        return [self._line(md_escape(one.section), one) for one in found] if len(found) > 1 else []

    def _line(self, name: str, found: Agreement) -> list[str]:
        cells = [name, str(len(found.labels))]
        for figure, value, limits in (
            ("spearman", found.spearman, found.spearman_interval),
            ("kendall", found.kendall, found.kendall_interval),
        ):
            known = np.isfinite(value)
            limit = f" ({interval(*limits, 2, signed=False)})" if np.isfinite(limits[0]) else ""
            cells.append(f"{fixed(value, 2)}{limit}" if known else MISSING)
            cells.append(_ceiling(found, figure))
        signs = f"{found.equal_signs} of {found.signs} ({fixed(found.by_chance, 0)} by chance)"
        return [*cells, signs, _ceiling(found, "signs", 0)]

    @property
    def rows(self) -> list[list[str]]:
        """A line per row: loss, difference and speed, ours and theirs."""
        contradicted = {found.label for found in self.contradictions}
        lines = [self._row(self.verdicts.baseline, self.base, False)]
        return lines + [self._row(row, label, row.label in contradicted) for row, label in self.joined]

    def _row(self, row: Row, label: str, contradicted: bool) -> list[str]:
        theirs = self.published.rows[label]
        control = control_there(self.verdicts, self.published, row)
        base = self.published.rows[self.base if label == self.base or not control else control]
        doubtful, is_base = self.published.unconfirmed[label], row.label == self.verdicts.baseline.label
        cells = [md_escape(row.label) + (" ✗" if contradicted else "")]
        for column, values in (("final_loss", row.final), ("early_loss", row.early)):
            comparison = self._compared(row, column)
            mark = "?" if column in doubtful else ""
            there = theirs.get(column, np.nan)
            cells += [
                fixed(mean(values), self.places),
                "" if is_base else fixed(comparison.delta, self.places, signed=True),
                fixed(there, 3) + mark,
                "" if is_base else fixed(there - base.get(column, np.nan), 3, signed=True) + mark,
            ]
        published_speed = ratio(theirs.get(SPEED, np.nan), self.published.rows[self.base].get(SPEED, np.nan))
        return [*cells, self._speed(row), fixed(published_speed, 2)]

    def _speed(self, row: Row) -> str:
        """Our speed relative to the baseline's, with its interval, where the timing pass measured one."""
        if row.label == self.verdicts.baseline.label:
            return fixed(1.0, 2)
        found = timed_speed(row, self.verdicts.baseline)
        if not np.isfinite(found.ratio):
            return MISSING
        return f"{fixed(found.ratio, 2)} ({interval(found.low, found.high, 2, signed=False)})"

    @property
    def findings(self) -> list[list[str]]:
        """A line for each finding of a study as a whole, theirs and ours, computed the same way over the same rows."""
        shared = {self.base, *(label for _, label in self.joined)}
        rows = {label: row for label, row in self.published.rows.items() if label in shared}
        theirs = findings(rows, self.base, self.published.scores)
        metrics = self.verdicts.metrics
        lower = (*LOSSES, *(name for name, metric in metrics.items() if not metric.higher_is_better))
        ours = findings(self._ours(), self.verdicts.baseline.label, tuple(metrics), lower)
        lines = []
        for column in (*LOSSES, *self.published.scores):
            if column in theirs.better:
                cells = [
                    f"{have[0]} of {have[1]}" if (have := one.better.get(column)) else MISSING for one in (theirs, ours)
                ]
                lines.append([f"Rows that beat the baseline: {_words(column)}", *cells])
        for column in ("early_loss", *self.published.scores):
            if column in theirs.correlations:
                cells = [fixed(one.correlations.get(column), 2) for one in (theirs, ours)]
                lines.append([f"Spearman of final loss with {_words(column)}", *cells])
        return lines

    def _ours(self) -> dict[str, dict[str, float]]:
        """Our rows in the form of a published table, {label: {column: number}}; diverged rows are left out."""
        base = self.verdicts.baseline
        losses = {base.label: (0.0, 0.0)}
        losses |= {row.label: (row.early_to_baseline.delta, row.to_baseline.delta) for row, _ in self.joined}
        return {
            row.label: {
                "early_loss": losses[row.label][0],
                "final_loss": losses[row.label][1],
                **{task: mean(scores) for task, scores in row.downstream.items()},
            }
            for row in (base, *(row for row, _ in self.joined))
        }


def _with_interval(found: Agreement) -> str:
    low, high = found.spearman_interval
    limits = f" ({interval(low, high, 2, signed=False)})" if np.isfinite(low) else ""
    return f"{fixed(found.spearman, 2)}{limits}"


def _words(column: str) -> str:
    return {SPEED: "speed"}.get(column, md_escape(column.replace("_", " ")))


def _pair(found: Agreement) -> str:
    if found.column == found.published:
        return _words(found.column)
    return f"{_words(found.column)}, published {_words(found.published)}"


def _ceiling(found: Agreement, name: str, places: int = 2) -> str:
    return " / ".join(fixed(value, places) for value in found.ceiling[name]) if name in found.ceiling else MISSING
