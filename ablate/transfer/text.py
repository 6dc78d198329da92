"""What the analysis says, as sentences and tables that are safe in Markdown, and as CSV."""

from __future__ import annotations

import math

from ablate.report.render.csv_tables import csv_of
from ablate.report.text import MISSING, fixed, interval, listed, md_escape, percent, probability, scaled
from ablate.statistics.context_pairs import Agreement
from ablate.statistics.random_effects import FEWEST_FOR_PREDICTION
from ablate.statistics.transfer import FADES, FLIPS, TRANSFERS, UNDECIDED, RowAcross
from ablate.transfer.analysis import GAIN, Transfer
from ablate.transfer.context import Context

WORDS = (TRANSFERS, FADES, FLIPS, UNDECIDED)
COLUMNS = (
    *("row", "verdict", "unit", "contexts", "mean", "low", "high", "p_adjusted", "tau"),
    *("predicted_low", "predicted_high", "depends_on"),
)


class TransferText:
    """The words of one transfer report."""

    def __init__(self, found: Transfer, name: str) -> None:
        self.found, self.name = found, name
        self.is_gain = found.unit == GAIN

    @property
    def headline(self) -> str:
        """How many changes carry over."""
        counts = [sum(row.verdict == word for row in self.found.rows) for word in WORDS]
        of = {TRANSFERS: ("transfers", "transfer"), FADES: ("fades", "fade"), FLIPS: ("flips", "flip")}
        of[UNDECIDED] = ("is undecided", "are undecided")
        known = [(count, word) for count, word in zip(counts, WORDS, strict=True) if count]
        parts = [f"{count} {of[word][count > 1]}" for count, word in known]
        return f"Of {len(self.found.changes)} changes in {len(self.found.contexts)} contexts, {listed(parts)}."

    @property
    def findings(self) -> list[str]:
        """The changes by verdict, and what the pairs and axes say."""
        lines = []
        for word in WORDS:
            labels = [md_escape(label) for label, row in self._rows if row.verdict == word]
            if labels:
                lines.append(f"**{word[0].upper()}{word[1:]}:** {listed(labels, 20)}.")
        depends = {label: [axis for axis, one in row.depends.items() if one.is_found] for label, row in self._rows}
        named = [f"{md_escape(label)} on {listed(axes)}" for label, axes in depends.items() if axes]
        if named:
            lines.append(f"**Depends on the context:** {listed(named, 20)}.")
        if self.found.moved and self.found.moved[0].beyond > 0:
            most = self.found.moved[0]
            lines.append(
                f"**What moves effects most** is the {most.axis}: between {md_escape(most.first)} and "
                f"{md_escape(most.second)} they change by {self._size(most.beyond)} (root mean square, noise removed)."
            )
        return lines

    @property
    def unit(self) -> str:
        """What the figures are."""
        if self.is_gain:
            return (
                "Effects are gains: how many times the tokens its control would need to end as low. A mean of gains is "
                "geometric. All contexts have rungs of their baseline."
            )
        without = [context.name for context in self.found.contexts if not context.has_rungs]
        return (
            "Effects are in nats a token by which the loss is lower than that of the row's control; positive is better."
            f" They are not in tokens, because {listed(list(map(md_escape, without)), 6)}"
            f" {'has' if len(without) == 1 else 'have'} no rungs of the baseline: nats of different objectives, texts"
            " or sizes are not worth the same."
        )

    @property
    def few(self) -> str:
        """What too few contexts cannot tell; empty with enough of them."""
        if len(self.found.contexts) >= FEWEST_FOR_PREDICTION:
            return ""
        return (
            f"With fewer than {FEWEST_FOR_PREDICTION} contexts there is no prediction interval, and no change can be"
            " said to transfer."
        )

    @property
    def _rows(self) -> list[tuple[str, RowAcross]]:
        return [*zip(self.found.labels, self.found.rows, strict=True)]

    def _size(self, value: float) -> str:
        return f"{fixed(math.exp(value), 2)} ×" if self.is_gain else f"{fixed(value, 3)} nats"

    def _value(self, value: float) -> str:
        if not math.isfinite(value):
            return MISSING
        return f"{fixed(math.exp(value), 2)} ×" if self.is_gain else fixed(value, 3, signed=True)

    def _interval(self, low: float, high: float) -> str:
        if self.is_gain:
            return interval(math.exp(low), math.exp(high), 2, signed=False) if math.isfinite(low + high) else MISSING
        return interval(low, high, 3)

    @property
    def row_heads(self) -> list[str]:
        """The heads of `row_lines`."""
        return ["Change", "Verdict", "Mean", "Interval", "p (adjusted)", "Spread", "Prediction", "Contexts", "Remarks"]

    @property
    def row_lines(self) -> list[list[str]]:
        """A line a change, the best mean first."""
        order = sorted(
            self._rows, key=lambda pair: -(pair[1].together.mean if pair[1].together.contexts else -math.inf)
        )
        return [self._row_line(label, row) for label, row in order]

    def _row_line(self, label: str, row: RowAcross) -> list[str]:
        found = row.together
        remarks = []
        if row.flips_between:
            low, high = (md_escape(self.found.contexts[place].name) for place in row.flips_between)
            remarks.append(f"worse in {low}, better in {high}")
        for axis, one in row.slopes.items():
            if math.isfinite(one.slope):
                remarks.append(f"{fixed(one.slope, 3, signed=True)} ± {fixed(one.error, 3)} per factor e of {axis}")
        remarks += [
            f"depends on {axis} (p {probability(one.p_adjusted)})" for axis, one in row.depends.items() if one.is_found
        ]
        bold = row.verdict != UNDECIDED
        return [
            md_escape(label),
            f"**{row.verdict}**" if bold else row.verdict,
            self._value(found.mean),
            self._interval(found.low, found.high),
            probability(row.p_adjusted),
            fixed(found.tau, 3),
            self._interval(found.predicted_low, found.predicted_high),
            str(found.contexts),
            "; ".join(remarks),
        ]

    @property
    def context_lines(self) -> list[list[str]]:
        """A line a context: what it is, and how well it foretells the dearest."""
        dearest = self.found.dearest
        most = self.found.contexts[dearest].flops
        lines = []
        for place, context in enumerate(self.found.contexts):
            found = self._pair(place, dearest)
            lines.append(
                [
                    md_escape(context.name),
                    scaled(context.size),
                    scaled(context.tokens),
                    md_escape(" ".join(sorted(_overrides(context) - self._common))) or "as all",
                    percent(context.flops / most).lstrip("+"),
                    *(["the dearest", "", ""] if place == dearest else _orders(found)),
                ]
            )
        return lines

    @property
    def _common(self) -> frozenset[str]:
        """The overrides that all contexts have."""
        return frozenset.intersection(*map(_overrides, self.found.contexts))

    @property
    def pair_lines(self) -> list[list[str]]:
        """A line a pair of contexts, early losses and published tables included."""
        lines = []
        for (first, second), found in self.found.pairs.items():
            names = [md_escape(self.found.all[place].name) for place in (first, second)]
            if found.rows < 3 or math.isnan(found.decisions):
                continue
            lines.append(
                [
                    *names,
                    str(found.rows),
                    fixed(found.signs, 2),
                    *_orders(found),
                    fixed(found.spearman, 2),
                    fixed(found.corrected, 2),
                    fixed(found.ratio, 2),
                ]
            )
        return lines

    @property
    def moved_lines(self) -> list[list[str]]:
        """A line for every two contexts that differ in one axis alone."""
        return [
            [
                one.axis,
                md_escape(one.first),
                md_escape(one.second),
                str(one.rows),
                self._size(one.spread) if one.spread else MISSING,
                self._size(one.beyond) if one.beyond else "none beyond noise",
            ]
            for one in self.found.moved
        ]

    def _pair(self, first: int, second: int) -> Agreement:
        return self.found.pairs.get((min(first, second), max(first, second)), Agreement(0))


def _overrides(context: Context) -> frozenset[str]:
    """What says what a context is, on whatever axis."""
    return frozenset().union(*context.settings.values())


def _orders(found: Agreement) -> list[str]:
    """The share of pairs of rows ordered alike, and its ceiling."""
    if math.isnan(found.decisions):
        return [MISSING, MISSING]
    return [fixed(found.decisions, 2), f"{fixed(found.ceiling, 2)} / {fixed(found.ceiling_low, 2)}"]


def transfer_csv(found: Transfer) -> str:
    """A line a change: its verdict and figures (of gains the logarithm), then its effect and error in each context."""
    names = [context.name for context in found.contexts]
    columns = [*COLUMNS, *(column for name in names for column in (name, f"{name} error"))]
    lines = []
    for place, (label, row) in enumerate(zip(found.labels, found.rows, strict=True)):
        together = row.together
        depends = " ".join(axis for axis, one in row.depends.items() if one.is_found)
        figures = (together.mean, together.low, together.high, row.p_adjusted, together.tau)
        cells = [label, row.verdict, found.unit, together.contexts, *figures]
        cells += [together.predicted_low, together.predicted_high, depends]
        pairs = zip(found.effects[place], found.errors[place], strict=True)
        lines.append([*cells, *(value for pair in pairs for value in pair)])
    return csv_of(columns, lines)
