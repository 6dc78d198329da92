"""A forecast, and how right it was, as sentences and a table that are safe in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable

from ablate.report.analysis.forecast import FARTHEST, Forecast, Predicted, Score
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.text import MISSING, counted, fixed, interval, listed, md_escape, scaled, significant
from ablate.statistics.ladder import FEWEST_SIZES
from ablate.text import aligned

HEADS = ["Row", "Foreseen", "Interval", "Measured", "Held", "At the last size"]
COLUMNS = ("forecast", "forecast_low", "forecast_high")


def basis(forecast: Forecast, escape: Callable[[object], str] = str) -> list[str]:
    """What a forecast rests on, and how far it reaches."""
    sources = [
        f"{escape(source.context)} ({scaled(source.parameters)} parameters, {scaled(source.tokens)} tokens, "
        f"{counted(source.runs, 'run')})"
        for source in forecast.rests_on
    ]
    times = significant(forecast.factor, 2)
    made = f"Made on {escape(forecast.made)} from {listed(sources)}."
    found = [f"{made} A run of {escape(forecast.context)} takes {times} times the FLOPs of one of the last of these."]
    if forecast.is_far:
        found.append(
            f"That is further than the factor of {FARTHEST:g} up to which a forecast is made without these words: "
            "effects may level off, or turn, on the way."
        )
    if len(forecast.rests_on) == FEWEST_SIZES:
        found.append("Two sizes cannot tell how an effect bends: how far a row may move is learned from all rows.")
    return found


def lines(forecast: Forecast) -> list[str]:
    """The forecast for a terminal."""
    loss = forecast.baseline
    cells = [["baseline's loss", fixed(loss.mean, 3), interval(loss.low, loss.high, 3, signed=False)]]
    cells += [
        [label, fixed(row.nats.mean, 3, signed=True), _interval(row.nats)] for label, row in forecast.rows.items()
    ]
    heads = [forecast.context, "foreseen", "95 % interval"]
    return [*aligned([heads, *cells], right=(1,)), *basis(forecast)]


def document(forecast: Forecast) -> str:
    """The forecast as Markdown, to be read before its size has run."""
    loss = forecast.baseline
    rows = [
        [md_escape(label), fixed(row.nats.mean, 3, signed=True), _interval(row.nats), _factor(row.gain)]
        for label, row in forecast.rows.items()
    ]
    heads = [["Row", "Difference", "95 % interval", "Gain in tokens"], ["---", "--:", ":-:", "--:"]]
    table = [f"| {' | '.join(cells)} |" for cells in (*heads, *rows)]
    limits = interval(loss.low, loss.high, 3, signed=False)
    of_baseline = f"final loss after {forecast.steps:,} steps: {fixed(loss.mean, 3)} nats a token ({limits})"
    of_rows = "Each row's final loss minus that of its control, in nats a token, as it will be measured there"
    text = [
        f"# Forecast of {md_escape(forecast.context)}",
        *basis(forecast, md_escape),
        f"The baseline's {of_baseline}.",
        f"{of_rows}; each interval holds with 95 % probability by itself.",
        "\n".join(table),
        "`forecast.json` holds the same with the hashes of the runs that it rests on.",
    ]
    return "\n\n".join(text) + "\n"


class ForecastText:
    """The part of report.md on a forecast of its size, made before it ran."""

    heads = HEADS

    def __init__(self, score: Score, verdicts: Verdicts) -> None:
        self.score, self.verdicts, self.forecast = score, verdicts, score.forecast

    @property
    def sentence(self) -> str:
        """How many intervals held, and how large the errors were; empty before any row has run."""
        score, rows = self.score, len(self.score.rows)
        if not rows:
            return ""
        text = (
            f"Foreseen before it ran: {score.held} of {counted(rows, 'interval')} held "
            f"(95 % of them should); the error is {fixed(score.error, 3)} nats (root mean square)"
        )
        if math.isfinite(score.error_of_last):
            text += f", {fixed(score.error_of_last, 3)} if each row had been taken to stay as at the last size"
        return f"{text}."

    @property
    def how(self) -> list[str]:
        """What it rests on, whether that has changed, and how the baseline's loss was foreseen."""
        found = basis(self.forecast, md_escape)
        if self.score.early:
            begun = counted(self.score.early, "run")
            found.append(f"**{begun} of this size began before it was made**: it foresaw none of these.")
        if self.score.changed:
            changed = listed([md_escape(name) for name in self.score.changed])
            found.append(f"The runs of {changed} are no longer those that it rests on.")
        loss, measured = self.forecast.baseline, self.score.loss
        if math.isfinite(measured):
            found.append(
                f"The baseline's loss: foreseen {fixed(loss.mean, 3)} "
                f"({interval(loss.low, loss.high, 3, signed=False)}), measured {fixed(measured, 3)}, "
                f"{'held' if loss.holds(measured) else '**not held**'}."
            )
        if math.isfinite(self.score.crps):
            found.append(
                f"The continuous ranked probability score of the rows is {fixed(self.score.crps, 4)} nats on average."
            )
        return found

    @property
    def lines(self) -> list[list[str]]:
        """A line a row that was foreseen, in the order of the report."""
        order = [row.label for row in self.verdicts.ordered() if row.label in self.forecast.rows]
        return [self._line(label) for label in order]

    def _line(self, label: str) -> list[str]:
        row, measured = self.forecast.rows[label], self.score.nats.get(label, math.nan)
        held = MISSING if math.isnan(measured) else "✓" if row.nats.holds(measured) else "✗"
        return [
            md_escape(label),
            fixed(row.nats.mean, 3, signed=True),
            _interval(row.nats),
            fixed(measured, 3, signed=True),
            held,
            fixed(row.last, 3, signed=True),
        ]


def figures(score: Score, label: str) -> list[float]:
    """The cells of `COLUMNS`."""
    row = score.forecast.rows.get(label)
    return [row.nats.mean, row.nats.low, row.nats.high] if row else [math.nan] * 3


def _interval(found: Predicted) -> str:
    return interval(found.low, found.high, 3)


def _factor(found: Predicted | None) -> str:
    if found is None:
        return MISSING
    limits = interval(math.exp(found.low), math.exp(found.high), 2, signed=False)
    return f"{fixed(math.exp(found.mean), 2)} × ({limits})"
