"""From the runs of a baseline at other budgets to what the differences of its sweep are worth in compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablate.report.analysis.gains import Gains, RowGain
from ablate.report.analysis.results import Results, number
from ablate.report.analysis.verdicts import Row, ratio, timed_speed
from ablate.run.record import DONE
from ablate.statistics.gain import FEWEST_SEEDS, Gain, Rungs, gain


def gains(results: Results, baseline: Row, rows: Sequence[Row]) -> Gains | None:
    """The gains of the judged `rows`; None where the sweep asks for no rungs."""
    if not results.sweep.get("rungs"):
        return None
    seeds = sorted({record["seed"] for record in results.records})
    losses = {1.0: baseline.final}
    for rung in results.rungs.values():
        factor, of_rung = _of_rung(rung.records, baseline, seeds)
        if factor > 0:
            losses[factor] = of_rung
    runs = {factor: int(np.isfinite(losses[factor]).sum()) for factor in sorted(losses)}
    rungs = Rungs.of(np.array([*losses]), np.array([*losses.values()]))
    problem = _problem(rungs, runs)
    known = None if problem else rungs
    found = {row.label: _gain(row, _control(row, baseline, rows), known, baseline) for row in rows}
    return Gains(runs, known, problem, found)


def _of_rung(records: Sequence[dict[str, Any]], baseline: Row, seeds: Sequence[int]) -> tuple[float, np.ndarray]:
    """How many times the baseline's steps the runs of a rung had, NaN if unknown, and their final losses (seeds,)."""
    losses = np.full(len(seeds), np.nan)
    factor = math.nan
    for record in records:
        if record["status"] == DONE and record["seed"] in seeds:
            factor = ratio(number(record, "settings", "trainer", "steps"), baseline.steps)
            loss = number(record, "loss", "final")
            losses[seeds.index(record["seed"])] = math.nan if loss > baseline.chance else loss
    return factor, losses


def _problem(rungs: Rungs | None, runs: Mapping[float, int]) -> str:
    if rungs is None:
        few = [f"{factor:g} times the tokens" for factor, count in runs.items() if count < FEWEST_SEEDS]
        if few or len(runs) < 2:
            return f"the baseline has too few runs at {' and '.join(few) or 'any other number of tokens'}"
        return "the baseline's runs at its rungs share fewer than two seeds"
    return "" if rungs.falls else "the baseline does not end lower with more tokens at every rung"


def _control(row: Row, baseline: Row, rows: Sequence[Row]) -> Row:
    return next((other for other in rows if other.label == row.control), baseline)


def _gain(row: Row, control: Row, rungs: Rungs | None, baseline: Row) -> RowGain:
    tokens = gain(row.comparison, rungs, control is baseline)
    if math.isnan(tokens.low):
        return RowGain(tokens)
    # as many tokens cost flops_per_step / flops_per_step of the control
    cost = ratio(control.flops_per_step, row.flops_per_step)
    speed = timed_speed(row, control)
    return RowGain(
        tokens,
        tokens.times(cost) if cost > 0 else Gain(),
        tokens.times(speed.ratio, speed.low, speed.high) if speed.ratio > 0 else Gain(),
    )
