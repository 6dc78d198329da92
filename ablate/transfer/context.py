"""One context in which changes were tried: a table of a sweep, its early losses, or a published table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablate.config.overrides import key_of
from ablate.config.renamed import renamed
from ablate.report.analysis.gains import Gains
from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.results import Results, number
from ablate.report.analysis.verdicts import Row, Verdicts
from ablate.statistics.comparison import Comparison

Change = tuple[tuple[str, ...], tuple[str, ...]]  # what a row changes, and what its control changes

SIZE, TOKENS, OBJECTIVE, TEXT, RECIPE, ARCHITECTURE = "size", "tokens", "objective", "text", "recipe", "architecture"
AXES = (SIZE, TOKENS, OBJECTIVE, TEXT, RECIPE, ARCHITECTURE)
_AXIS_OF_GROUP = {
    "topology": OBJECTIVE,
    "objective": OBJECTIVE,
    "data": TEXT,
    "tokenizer": TEXT,
    "optimizer": RECIPE,
    "schedule": RECIPE,
    "init": RECIPE,
    "dropout": RECIPE,
    "parameter_groups": RECIPE,
}
_AXIS_OF_KEY = {
    "shape.steps": TOKENS,
    "trainer.steps": TOKENS,
    "shape.length": OBJECTIVE,
    "objective.length": OBJECTIVE,
    "trainer.clip_norm": RECIPE,
    "shape.batch_tokens": RECIPE,
    "trainer.global_batch_tokens": RECIPE,
}
EARLY, FINAL = LOSSES
_WITHOUT_AXIS = ("seed", "evaluation", "early_fraction", "logger", "keep_checkpoints")


@dataclass(frozen=True)
class Effect:
    """A row's difference from its control in one context, in nats where lower is better, and in ln of tokens gained.

    Errors are standard errors over seeds; `own_error` is the row's part of it. NaN is what is not known.
    """

    label: str
    nats: float = math.nan
    error: float = math.nan
    own_error: float = math.nan
    p_adjusted: float = math.nan
    gain: float = math.nan
    gain_error: float = math.nan
    degrees: int = 0  # of freedom of the error: those of the row's and of its control's own seeds
    seeds: int = 0  # that the row shares with its control


@dataclass(frozen=True)
class Context:
    """The effects of changes in one context, by what they change.

    `base` are the overrides of all its runs, `size` the baseline's parameters outside the tables of tokens, `tokens`
    those of a run, `flops` what a run of the baseline takes. `of` names the context that this one is an earlier part
    of; `is_published` marks a table from the literature.
    """

    name: str
    base: tuple[str, ...]
    effects: Mapping[Change, Effect]
    size: float = math.nan
    tokens: float = math.nan
    flops: float = math.nan
    has_rungs: bool = False
    of: str = ""
    is_published: bool = False

    @property
    def control_error(self) -> float:
        """The standard error of the controls' means, which is in all differences from them: the median over rows."""
        squares = [effect.error**2 - effect.own_error**2 for effect in self.effects.values()]
        known = [square for square in squares if math.isfinite(square)]
        return math.sqrt(max(0.0, statistics.median(known))) if known else 0.0

    @property
    def settings(self) -> dict[str, frozenset[str]]:
        """Its overrides by the axis that they belong to."""
        found: dict[str, set[str]] = {axis: set() for axis in AXES}
        for override in map(renamed, self.base):
            if axis := axis_of(key_of(override)):
                found[axis].add(override)
        return {axis: frozenset(overrides) for axis, overrides in found.items()}

    def differs_in(self, other: Context) -> list[str]:
        """The axes in which two trained contexts differ."""
        mine, theirs = self.settings, other.settings
        differing = [axis for axis in AXES if mine[axis] != theirs[axis]]
        if TOKENS not in differing and self.tokens != other.tokens and RECIPE not in differing:
            differing.append(TOKENS)
        return differing


def axis_of(key: str) -> str:
    """The axis that an override belongs to; empty for one that says nothing of the context."""
    if key in _AXIS_OF_KEY:
        return _AXIS_OF_KEY[key]
    group = key.partition(".")[0]
    if group in _WITHOUT_AXIS:
        return ""
    return _AXIS_OF_GROUP.get(group, SIZE if group == "shape" else "" if group == "trainer" else ARCHITECTURE)


def of_results(results: Results, verdicts: Verdicts) -> list[Context]:
    """The context of one judged table by its final losses, and the one by its early losses."""
    head, baseline = results.sweep, verdicts.baseline
    name, base = head["name"], tuple(head["base"])
    tokens = baseline.steps * number(baseline.settings, "trainer", "global_batch_tokens")
    flops = baseline.flops_per_step * baseline.steps
    size = baseline.parameters["non_embedding"]
    rows = {row.label: row for row in verdicts}
    changes = {row.label: _change(row, rows[row.control], baseline) for row in verdicts.rows if row.is_change}
    final, early = {}, {}
    for row in verdicts.rows:
        if row.label in changes:
            control = rows[row.control]
            final[changes[row.label]] = _effect(row, control, row.comparison, verdicts.gains, control is baseline)
            early[changes[row.label]] = _effect(row, control, row.early_comparison, None, control is baseline)
    has_rungs = verdicts.gains is not None and verdicts.gains.rungs is not None
    found = [Context(name, base, final, size, tokens, flops, has_rungs)]
    if any(math.isfinite(effect.error) for effect in early.values()):
        part = number(head, "early")
        found.append(Context(f"{name}, early", base, early, size, tokens * part, flops * part, of=name))
    return found


def _change(row: Row, control: Row, baseline: Row) -> Change:
    of_control = () if control is baseline else _normalised(control.overrides)
    return _normalised(row.overrides), of_control


def _normalised(overrides: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(map(renamed, overrides)))


def _effect(row: Row, control: Row, found: Comparison, gains: Gains | None, is_of_baseline: bool) -> Effect:
    log, log_error = math.nan, math.nan
    if gains is not None and gains.rungs is not None:
        log = gains.rows[row.label].tokens.log
        if math.isfinite(log):
            log_error = gains.rungs.error(log, found, is_of_baseline) / gains.rungs.slope
    degrees = max(0, row.learned - 1) + max(0, control.learned - 1)
    return Effect(
        row.label, found.delta, found.error, found.own_error, found.p_adjusted, log, log_error, degrees, found.seeds
    )


def of_published(table: Published, labels: Mapping[Change, str]) -> list[Context]:
    """A published table by its final and its early losses, for the changes whose `labels` it knows.

    Final losses are of one run each, whose error is not printed: theirs is that of one run by the early losses.
    """
    found = []
    for column, name in ((FINAL, table.name), (EARLY, f"{table.name}, early")):
        runs = 1.0 if column == FINAL else math.nan
        base = table.rows[table.baseline]
        effects = {}
        for change, label in labels.items():
            row = table.find(label) if not change[1] else None
            delta = table.rows[row][column] - base[column] if row else math.nan
            if row and math.isfinite(delta):
                own, of_base = _published_error(table.rows[row], runs), _published_error(base, runs)
                effects[change] = Effect(label, delta, math.hypot(own, of_base), own)
        found.append(Context(name, (), effects, of=table.name if column == EARLY else "", is_published=True))
    return found


def _published_error(row: Mapping[str, float], runs: float) -> float:
    """Of a row's mean loss, by the printed sd of its early losses over so many `runs`, NaN for as many as these."""
    sd, printed = row.get(f"{EARLY}_std", math.nan), row.get(f"{EARLY}_runs", math.nan)
    runs = printed if math.isnan(runs) else runs
    return sd / math.sqrt(runs) if math.isfinite(sd) and runs > 0 else 0.0


def matched(contexts: Sequence[Context]) -> list[Change]:
    """The changes that two contexts or more have, in the order of the first context that has them."""
    counts: dict[Change, int] = {}
    for context in contexts:
        for change in context.effects:
            counts[change] = counts.get(change, 0) + (not context.of)
    return [change for change, count in counts.items() if count > 1]
