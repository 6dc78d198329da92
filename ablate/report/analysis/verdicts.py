"""From runs to rows: what each change costs, what it does to the loss, and the verdict that the evidence supports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ablate.config import evaluations
from ablate.config.identity import SCHEMA
from ablate.report.analysis import metrics
from ablate.report.analysis.metrics import Metric
from ablate.report.analysis.results import Results, identity_schema, number
from ablate.report.text import decimals
from ablate.run.record import DIVERGED, DONE, FAILED
from ablate.statistics.apart import one_seed_lies_apart
from ablate.statistics.comparison import FEWEST_SEEDS, Comparison, compare
from ablate.statistics.noise import noise_floor
from ablate.statistics.residuals import residuals

BASELINE = "baseline"
BETTER, WORSE, UNDECIDED = "better", "worse", "no difference detected"
NO_VERDICT, NOT_COMPARABLE, HAS_DIVERGED = "no verdict", "not comparable", "diverged"
BUDGET_TOLERANCE = 0.02  # of the baseline's FLOPs; rows that differ by more are flagged


@dataclass(frozen=True)
class Row:
    """One row of the sweep over all its seeds; losses in nats a token, NaN where unknown.

    Of the finished runs, `lost` ended above `chance`, the loss of a uniform guess: they learned nothing and count as
    diverged. `speed` is in steps a second, measured with nothing else running where `is_exclusive`; `budget` is the
    relative difference of a whole run's FLOPs to the baseline's; `is_control` marks rows that change only seeds (A/A).
    """

    label: str
    section: str
    overrides: tuple[str, ...]
    planned: int
    done: int
    diverged: int
    failed: int
    lost: int
    chance: float
    early: np.ndarray  # (seeds,), in the order of all seeds of the sweep, as `final`
    final: np.ndarray
    parameters: dict[str, float]
    ops_paper: float
    flops_per_step: float
    steps: float
    speed: float
    is_exclusive: bool
    memory: float
    bits_per_byte: float
    downstream: dict[str, list[float]]
    settings: dict[str, Any]
    data: dict[str, Any]
    schema: int  # of the identity of its runs
    mixed: str = ""  # why its own runs are not repetitions of one another, such as "different data"
    comparison: Comparison = field(default_factory=lambda: Comparison(seeds=0))
    early_comparison: Comparison = field(default_factory=lambda: Comparison(seeds=0))
    verdict: str = NO_VERDICT
    why: str = ""
    budget: float = np.nan
    is_control: bool = False
    is_apart: bool = False  # one of its seeds lies apart from the others

    @property
    def learned(self) -> int:
        """Runs with a valid final loss."""
        return int(np.isfinite(self.final).sum())

    @property
    def missing(self) -> int:
        """Planned runs without a result: not started, stopped or still running."""
        return max(0, self.planned - self.done - self.diverged - self.failed)


@dataclass(frozen=True)
class Verdicts:
    """The rows of a sweep in the order of its file; `noise` is the sd of the baseline's final loss over its seeds.

    `metrics` says of each downstream score, by name, what it measures.
    """

    baseline: Row
    rows: list[Row]
    noise: float
    seed_variance: float
    metrics: dict[str, Metric] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return iter((self.baseline, *self.rows))

    @property
    def sections(self) -> list[str]:
        """The sections in the order of the sweep file."""
        return list(dict.fromkeys(row.section for row in self.rows))

    def ordered(self) -> list[Row]:
        """The rows by section, the best first within each, those without a difference last."""
        place = {section: number for number, section in enumerate(self.sections)}
        known = [math.isfinite(row.comparison.delta) for row in self.rows]
        keys = [
            (place[row.section], not is_known, row.comparison.delta if is_known else 0.0)
            for row, is_known in zip(self.rows, known, strict=True)
        ]
        return [row for _, row in sorted(zip(keys, self.rows, strict=True), key=lambda pair: pair[0])]

    def of(self, *verdicts: str) -> list[Row]:
        """The rows with one of these verdicts, controls left out."""
        return [row for row in self.rows if row.verdict in verdicts and not row.is_control]


def judge(results: Results) -> Verdicts:
    """Compare every row of the sweep with its baseline."""
    sweep = results.sweep
    runs: dict[str, list[dict[str, Any]]] = {row["row"]: [] for row in sweep["rows"]}
    for record in results.records:
        runs[record["row"]].append(record)
    seeds = sorted({record["seed"] for record in results.records})
    planned = {row["row"]: row for row in sweep["rows"]}
    if sweep["baseline"] not in planned:  # runs without a sweep file, the baseline not among them
        planned[sweep["baseline"]] = {"row": sweep["baseline"], "section": BASELINE, "overrides": [], "seeds": 0}
    baseline = _row(planned[sweep["baseline"]], runs.get(sweep["baseline"], []), seeds)
    learned = ~(baseline.final > baseline.chance)
    baseline = replace(
        baseline, early=np.where(learned, baseline.early, np.nan), final=np.where(learned, baseline.final, np.nan)
    )
    others = [_row(planned[label], members, seeds) for label, members in runs.items() if label != baseline.label]
    differing = {row.label: difference(row, baseline) for row in others}
    tested = [row for row in others if row.done and not differing[row.label] and not row.diverged + row.lost]
    final, early = (np.array([getattr(row, name) for row in (baseline, *tested)]) for name in ("final", "early"))
    apart = one_seed_lies_apart(final)
    compared = {
        row.label: replace(row, comparison=of_final, early_comparison=of_early, is_apart=bool(is_apart))
        for row, of_final, of_early, is_apart in zip(tested, compare(final), compare(early), apart[1:], strict=True)
    }
    judged = [_judged(compared.get(row.label, row), baseline, differing[row.label]) for row in others]
    baseline = replace(baseline, verdict=BASELINE, budget=0.0, is_apart=bool(apart[0]))
    measured = metrics.downstream(record for record in results.records if record["status"] == DONE)
    return Verdicts(baseline, judged, noise_floor(baseline.final), residuals(final).seed_variance, measured)


def difference(row: Row, baseline: Row) -> str:
    """Why the losses of two rows cannot be compared; empty where they can."""
    if not row.done or not baseline.done:
        return ""
    for who, mixed in (("its own runs", row.mixed), ("the baseline's runs", baseline.mixed)):
        if mixed:
            return f"{mixed} in some of {who}"
    return _unlike((row.settings, row.data, row.schema), (baseline.settings, baseline.data, baseline.schema))


Made = tuple[dict[str, Any], dict[str, Any], int]  # the settings of a run, its data, the schema of its identity


def _unlike(one: Made, other: Made) -> str:
    """Why two runs cannot be compared; empty where they can."""
    if one[2] != other[2]:
        return "different identity schema"
    if one[0] and other[0]:
        for part in ("tokenizer", "objective", "length", "evaluation"):
            if _part(one[0], part) != _part(other[0], part):
                return f"different {part}"
    return "different data" if one[1].get("sha256") != other[1].get("sha256") else ""


def _part(settings: dict[str, Any], part: str) -> Any:
    objective = settings.get("objective") or {}
    if part == "length":
        return objective.get("length")
    if part == "objective":
        return {key: value for key, value in objective.items() if key != "length"}
    if part == evaluations.GROUP:  # what is measured after training makes no losses incomparable
        return evaluations.measured_in_training(settings.get(part) or {})
    return settings.get(part)


def _judged(row: Row, baseline: Row, differing: str) -> Row:
    budget = ratio(row.flops_per_step * row.steps, baseline.flops_per_step * baseline.steps) - 1
    row = replace(
        row, budget=budget, is_control=bool(row.overrides) and all(_only_seed(text) for text in row.overrides)
    )
    if row.diverged or row.lost:
        shared = row.final - baseline.final
        known = shared[~np.isnan(shared)] if not differing else shared[:0]
        partial = Comparison(seeds=len(known), delta=float(known.mean()) if len(known) else np.nan)
        return replace(row, comparison=partial, verdict=HAS_DIVERGED, why=_how_diverged(row))
    if differing:
        return replace(row, verdict=NOT_COMPARABLE, why=differing)
    if row.comparison.seeds < FEWEST_SEEDS:
        shared = row.comparison.seeds
        return replace(row, why=f"{shared} shared seed{'' if shared == 1 else 's'}, {FEWEST_SEEDS} are needed")
    word = UNDECIDED if not row.comparison.differs else BETTER if row.comparison.delta < 0 else WORSE
    return replace(row, verdict=word)


def _how_diverged(row: Row) -> str:
    reasons = [f"{row.diverged} of {row.planned} seeds"] if row.diverged else []
    if row.lost:
        reasons.append(f"{row.lost} of {row.planned} seeds ended above the loss of a uniform guess, {row.chance:.2f}")
    return "; ".join(reasons)


def _row(planned: dict[str, Any], records: list[dict[str, Any]], seeds: list[int]) -> Row:
    done = [record for record in records if record["status"] == DONE]
    early, final = np.full(len(seeds), np.nan), np.full(len(seeds), np.nan)
    for record in done:
        place = seeds.index(record["seed"])
        early[place] = number(record, "loss", "early")
        final[place] = number(record, "loss", "final")
    known = done or [record for record in records if record.get("parameters")]
    chance = float(np.log(_middle(known, "data", "vocab_size")))
    speeds = [number(record, "steps_per_second", "median") for record in done]
    exclusive = [number(record, "steps_per_second", "exclusive") for record in done]
    tasks = sorted({task for record in done for task in record.get("downstream") or {}})
    made = [(record.get("settings") or {}, record.get("data") or {}, identity_schema(record)) for record in done]
    return Row(
        label=planned["row"],
        section=planned["section"],
        overrides=tuple(planned["overrides"]),
        planned=max(planned["seeds"], len(records)),
        done=len(done),
        diverged=sum(record["status"] == DIVERGED for record in records),
        failed=sum(record["status"] == FAILED for record in records),
        lost=int((final > chance).sum()),
        chance=chance,
        early=early,
        final=final,
        parameters={kind: _middle(known, "parameters", kind) for kind in ("total", "non_embedding", "active")},
        ops_paper=_middle(known, "ops_paper"),
        flops_per_step=_middle(known, "flops_per_step"),
        steps=_middle(done, "loss", "final_step"),
        speed=median(exclusive) if not np.isnan(median(exclusive)) else median(speeds),
        is_exclusive=not np.isnan(median(exclusive)),
        memory=_middle(done, "peak_memory_bytes"),
        bits_per_byte=mean(number(record, "loss", "bits_per_byte") for record in done),
        downstream={task: [number(record, "downstream", task) for record in done] for task in tasks},
        settings=known[0].get("settings") or {} if known else {},
        data=known[0].get("data") or {} if known else {},
        schema=identity_schema(known[0]) if known else SCHEMA,
        mixed=next(filter(None, (_unlike(run, made[0]) for run in made)), ""),
    )


def score_places(verdicts: Verdicts, name: str) -> int:
    """With how many decimals a downstream score is shown: enough for its spread over the baseline's seeds.

    Of scores without a unit, as older records have them, two.
    """
    if not verdicts.metrics[name].unit:
        return 2
    return decimals(spread(verdicts.baseline.downstream.get(name, [])))


def comparable_speeds(verdicts: Verdicts) -> dict[str, float]:
    """Steps a second by row, all measured like the baseline's: with nothing else running, or during training.

    NaN for a row that was measured the other way.
    """
    alone = verdicts.baseline.is_exclusive
    return {row.label: row.speed if row.is_exclusive == alone else np.nan for row in verdicts}


def ratio(value: float, base: float) -> float:
    """`value` over `base`; NaN where `base` is zero."""
    return value / base if base else np.nan


def mean(values: Iterable[float]) -> float:
    """The mean of the known values; NaN where there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def spread(values: Iterable[float]) -> float:
    """The sample sd of the known values; NaN for fewer than two."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else np.nan


def median(values: Iterable[float]) -> float:
    """The median of the known values; NaN where there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else np.nan


def _middle(records: list[dict[str, Any]], *keys: str) -> float:
    return median(number(record, *keys) for record in records)


def _only_seed(override: str) -> bool:
    return override.lstrip("+").partition("=")[0].strip().startswith("seed")
