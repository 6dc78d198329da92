"""From the runs of a sweep to the verdict on each of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ablate.naming import context_of
from ablate.report.analysis import metrics
from ablate.report.analysis.comparability import difference
from ablate.report.analysis.copies import copies
from ablate.report.analysis.gain_judge import gains
from ablate.report.analysis.results import Results
from ablate.report.analysis.rows import row_of
from ablate.report.analysis.score_judge import score_verdicts
from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BASELINE,
    BETTER,
    HAS_DIVERGED,
    NOT_COMPARABLE,
    SAME,
    UNDECIDED,
    UNKNOWN,
    WORSE,
    Row,
    Verdicts,
    ratio,
)
from ablate.run.record import DONE
from ablate.statistics.apart import one_seed_lies_apart
from ablate.statistics.comparison import FEWEST_SEEDS, Comparison, compare
from ablate.statistics.noise import noise_floor
from ablate.statistics.residuals import residuals


def judge(results: Results) -> Verdicts:
    """Compare every row of the sweep with its control: the baseline, or the row that the sweep file names."""
    sweep = results.sweep
    rows = _rows(results)
    baseline = rows[sweep["baseline"]]
    table = Table.of(rows, baseline)
    margin = sweep.get("same_within")
    compared = table.compared(margin)
    judged = []
    for row in (row for row in rows.values() if row is not baseline):
        control = rows[row.control]
        differing = _difference(row, control, baseline)
        row = replace(compared.get(row.label, row), budget=_budget(row, control))
        if row.diverged or row.lost:
            row = replace(
                row,
                comparison=_partial(row, control, differing),
                to_baseline=_partial(row, baseline, _difference(row, baseline, baseline)),
            )
        judged.append(_judged(row, control, differing, margin))
    baseline = replace(baseline, verdict=BASELINE, budget=0.0, is_apart=bool(table.is_apart[0]))
    measured = metrics.downstream(record for record in results.records if record["status"] == DONE)
    noise, seed_variance = noise_floor(baseline.final), residuals(table.final, table.kept_out).seed_variance
    worth = gains(results, baseline, judged)
    verdicts = Verdicts(
        baseline, judged, noise, seed_variance, measured, gains=worth, context=context_of(sweep["name"])
    )
    return replace(verdicts, scores=score_verdicts(results, verdicts)) if measured else verdicts


def _rows(results: Results) -> dict[str, Row]:
    """The rows by label, the baseline first. Of a row that others are compared with, only runs that learned count."""
    sweep, base = results.sweep, results.sweep["baseline"]
    planned = {row["row"]: row for row in sweep["rows"]}
    # runs without a sweep file may lack the baseline
    planned.setdefault(base, {"row": base, "section": BASELINE, "overrides": [], "seeds": 0})
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in (base, *planned)}
    for record in results.records:
        runs[record["row"]].append(record)
    seeds = sorted({record["seed"] for record in results.records})
    repeated = copies(runs)
    rows = {label: row_of(planned[label], members, seeds, base) for label, members in runs.items()}
    named = {row.control for row in rows.values()}
    return {
        label: replace(_learned(row) if label in named else row, copy_of=repeated.get(label, ""))
        for label, row in rows.items()
    }


def _learned(row: Row) -> Row:
    """The row without the losses of runs that ended above chance."""
    valid = ~(row.final > row.chance)
    return replace(row, early=np.where(valid, row.early, np.nan), final=np.where(valid, row.final, np.nan))


def _difference(row: Row, control: Row, baseline: Row) -> str:
    return difference(row, control, "the baseline's" if control is baseline else f"{control.label}'s")


@dataclass(frozen=True)
class Table:
    """The rows that are tested together: the baseline first, then `members`, those with a comparison or needed for one.

    `controls` are the places of the members' controls in the table. The rows `kept_out` repeat another one: they are
    tested, and nothing is learned of the noise from them.
    """

    members: Sequence[Row]
    is_tested: Sequence[bool]  # of the members; the others are only controls
    controls: Sequence[int]
    is_of_baseline: Sequence[bool]  # whether a member can be compared with the baseline
    kept_out: np.ndarray
    final: np.ndarray
    early: np.ndarray

    @classmethod
    def of(cls, rows: Mapping[str, Row], baseline: Row) -> Table:
        """The table of a sweep's rows, by label."""
        others = [row for row in rows.values() if row is not baseline and row.done]
        named = {row.control for row in others}
        tested = {
            row.label
            for row in others
            if not row.diverged + row.lost and not _difference(row, rows[row.control], baseline)
        }
        members = [row for row in others if row.label in tested or row.label in named]
        place = {row.label: number for number, row in enumerate((baseline, *members))}
        return cls(
            members,
            [row.label in tested and row.control in place for row in members],
            [place.get(row.control, 0) for row in members],
            [not _difference(row, baseline, baseline) for row in members],
            np.array([bool(row.copy_of) for row in (baseline, *members)]),
            np.array([row.final for row in (baseline, *members)]),
            np.array([row.early for row in (baseline, *members)]),
        )

    @property
    def is_apart(self) -> np.ndarray:
        """(rows,): whether one seed of the row lies apart."""
        return one_seed_lies_apart(self.final, self.kept_out)

    def compared(self, margin: float | None) -> dict[str, Row]:
        """The tested rows by label, with their comparisons."""
        final, early = (compare(of, self.controls, self.kept_out, margin=margin) for of in (self.final, self.early))
        to_baseline, early_to_baseline = final, early
        if any(self.controls):
            to_baseline, early_to_baseline = (compare(of, None, self.kept_out) for of in (self.final, self.early))
        found, is_apart = {}, self.is_apart
        for number, row in enumerate(self.members):
            if self.is_tested[number]:
                is_of_baseline = self.is_of_baseline[number]
                found[row.label] = replace(
                    row,
                    comparison=final[number],
                    early_comparison=early[number],
                    to_baseline=to_baseline[number] if is_of_baseline else UNKNOWN,
                    early_to_baseline=early_to_baseline[number] if is_of_baseline else UNKNOWN,
                    is_apart=bool(is_apart[number + 1]),
                )
        return found


def _budget(row: Row, control: Row) -> float:
    return ratio(row.flops_per_step * row.steps, control.flops_per_step * control.steps) - 1


def _partial(row: Row, other: Row, differing: str) -> Comparison:
    """The mean difference over the seeds that are left of a row; it is not tested."""
    shared = row.final - other.final
    known = shared[~np.isnan(shared)] if not differing else shared[:0]
    return Comparison(seeds=len(known), delta=float(known.mean()) if len(known) else np.nan)


def _judged(row: Row, control: Row, differing: str, margin: float | None) -> Row:
    if row.diverged or row.lost:
        verdict = HAS_DIVERGED if row.diverged + row.rising else ABOVE_CHANCE
        reasons = [f"{row.diverged} of {row.planned} seeds"] if row.diverged else []
        return replace(row, verdict=verdict, why="; ".join([*reasons, *row.above_chance]))
    if differing:
        return replace(row, verdict=NOT_COMPARABLE, why=differing)
    found = row.comparison
    if found.seeds < FEWEST_SEEDS:
        return replace(row, why=_too_few(row, control))
    if found.same_within and margin is not None:
        return replace(row, verdict=SAME, within=margin)
    return replace(row, verdict=UNDECIDED if not found.differs else BETTER if found.delta < 0 else WORSE)


def _too_few(row: Row, control: Row) -> str:
    """Why a row has too few seeds for a verdict; where its control lost them, how."""
    shared = row.comparison.seeds
    text = f"{shared} shared seed{'' if shared == 1 else 's'}, {FEWEST_SEEDS} are needed"
    lost = [f"{control.diverged} of {control.planned} seeds diverged"] if control.diverged else []
    if row.learned > shared and (lost := [*lost, *control.above_chance]):
        text += f"; of {control.label}, {' and '.join(lost)}"
    return text
