"""Foresee the next size of a sweep from those that have run, and write that down before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate.errors import UserError, nearest
from ablate.naming import context_of
from ablate.report import build as report
from ablate.report.analysis.forecast import LEVEL, Forecast, Predicted, RowForecast, Source, digest, read
from ablate.report.analysis.judge import judge
from ablate.report.analysis.ladder import Size, size_of
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.forecast_text import document
from ablate.run.files import atomic_write
from ablate.run.folder import run_folders, set_file_aside
from ablate.run.record import DONE, now
from ablate.statistics.comparison import FEWEST_SEEDS
from ablate.statistics.ladder import FEWEST_SIZES, PRIOR_SD, Ladder, Noise, Prediction, trend
from ablate.study import definition, runs
from ablate.study.definition import Sweep
from ablate.study.paths import Paths
from ablate.study.standing import standing
from ablate.text import plural
from ablate.transfer.context import Context, Effect, of_results

PRIOR_SD_NATS = 0.03  # of the slopes' sd: that of logarithms of gains, at a loss that falls by .3 per factor e


@dataclass(frozen=True)
class Known:
    """A size that has run: its context of effects, its baseline, and its runs."""

    context: Context
    baseline: Size
    results: Results

    @property
    def source(self) -> Source:
        """What a forecast says of it."""
        parts = [self.results, *self.results.rungs.values()]
        done = sum(record["status"] == DONE for part in parts for record in part.records)
        size = self.baseline
        return Source(self.context.name, size.parameters, size.tokens, size.flops, done, digest(self.results))


def forecast(name: str, paths: Paths, *, replace: bool = False) -> tuple[Path, Forecast]:
    """Write ``reports/NAME/SIZE/forecast.json``, and forecast.md beside it.

    `name` is that of a sweep, for its next size, or NAME/SIZE. Where the same forecast is there already it stays as it
    is; one that rests on other runs is moved aside if to `replace`.
    Raises `UserError` where the size, or a larger one, has begun, and where fewer than two smaller ones have results.
    """
    sweep = definition.load(name.partition("/")[0], paths.sweeps)
    size = _size(sweep, context_of(name), paths)
    target = standing(sweep.in_context(size), paths.runs)
    path = paths.reports / target.name / report.FORECAST
    known = _known(sweep, size, paths)
    found = _foreseen(target, known)
    if path.exists():
        older = _older(path)
        if older and _basis(older) == _basis(found):
            return path, older
        if not replace:
            why = "rests on other runs, or is of another size" if older else "is damaged, or was changed"
            raise UserError(f"{path} {why}; replace=true moves it aside and writes another")
        set_file_aside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path.with_suffix(".md"), document(found))
    atomic_write(path, found.text())
    return path, found


def _basis(found: Forecast) -> tuple[float, list[str], list[str]]:
    """What decides whether two forecasts are the same one."""
    return found.flops, [*found.rows], [source.sha256 for source in found.rests_on]


def _older(path: Path) -> Forecast | None:
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(sweep: Sweep, asked: str, paths: Paths) -> str:
    """The size to foresee: the one asked for, else the first behind those that have begun."""
    if sweep.scale is None:
        raise UserError(f"{sweep.name}: its sweep file has no scale:, so there is no next size")
    sizes = [*sweep.scale.sizes]
    if asked and asked not in sizes:
        raise UserError(f"no size {asked!r} in {sweep.name}{nearest(asked, sizes)} (there are: {', '.join(sizes)})")
    begun = [size for size in sizes if _runs_of(sweep.in_context(size), paths)]
    behind = sizes[max((sizes.index(size) + 1 for size in begun), default=0) :]
    if not asked and not behind:
        raise UserError(f"{sweep.name}: every size has begun, so there is none to foresee ({', '.join(sizes)})")
    chosen = asked or behind[0]
    if chosen in begun:
        raise UserError(
            f"{sweep.name}/{chosen} has begun ({plural(_runs_of(sweep.in_context(chosen), paths), 'run')}): "
            "a forecast is made before"
        )
    if chosen not in behind:
        raise UserError(f"{sweep.name}/{chosen}: a larger size has begun: {begun[-1]}; a forecast is made before")
    return chosen


def _runs_of(table: Sweep, paths: Paths) -> int:
    """How many runs of a size, its rungs included, have a folder or a stored record."""
    count = 0
    for part in (table, *table.at_rungs()):
        folders = sum(1 for _ in run_folders(paths.runs, part.name))
        records = paths.reports / part.name / report.RECORDS
        lines = records.read_bytes().count(b"\n") - 1 if records.exists() else 0
        count += max(folders, lines)
    return count


def _known(sweep: Sweep, size: str, paths: Paths) -> list[Known]:
    """The smaller sizes that can tell something; raises `UserError` where they are too few."""
    assert sweep.scale is not None
    sizes = [*sweep.scale.sizes]
    found, lacking = [], []
    for smaller in sizes[: sizes.index(size)]:
        table = f"{sweep.name}/{smaller}"
        if not _runs_of(sweep.in_context(smaller), paths):
            continue
        results = report.gathered(table, paths.runs, paths.reports, paths.sweeps)
        known = _of(results, judge(results))
        if known:
            found.append(known)
        else:
            lacking.append(smaller)
    if len(found) < FEWEST_SIZES:
        few = f"; too few finished seeds at {', '.join(lacking)}" if lacking else ""
        raise UserError(
            f"{sweep.name}/{size}: a forecast needs {FEWEST_SIZES} smaller sizes with {FEWEST_SEEDS} seeds of the "
            f"baseline and of a row; there {'is' if len(found) == 1 else 'are'} {len(found)}{few}"
        )
    return sorted(found, key=lambda one: one.baseline.flops)


def _of(results: Results, verdicts: Verdicts) -> Known | None:
    context, *_ = of_results(results, verdicts)
    baseline = size_of(results)
    usable = any(_is_usable(effect) for effect in context.effects.values())
    if baseline is None or len(baseline.losses) < FEWEST_SEEDS or not usable:
        return None
    return Known(context, baseline, results)


def _is_usable(effect: Effect) -> bool:
    return effect.seeds >= FEWEST_SEEDS and math.isfinite(effect.nats) and effect.error > 0


def _foreseen(target: Sweep, known: Sequence[Known]) -> Forecast:
    flops, steps = _cost(target)
    if flops <= known[-1].baseline.flops:
        raise UserError(f"{target.name} takes no more FLOPs a run than {known[-1].context.name}: it is no larger size")
    x, at = np.log([one.baseline.flops for one in known]), math.log(flops)
    effects = [_by_label(one.context) for one in known]
    labels = [label for label in target.rows if any(label in of_size for of_size in effects)]
    seeds = target.seeds.rows
    nats = _ladder(labels, effects, [one.context.control_error for one in known], x, at, seeds, in_gains=False)
    has_gains = all(one.context.has_rungs for one in known)
    controls = [_control_of_gains(of_size, one.context) for of_size, one in zip(effects, known, strict=True)]
    gains = _ladder(labels, effects, controls, x, at, seeds, in_gains=True) if has_gains else {}
    last = effects[-1]
    rows = {
        label: RowForecast(
            nats[label],
            last[label].nats if label in last else math.nan,
            gains.get(label),
            last[label].gain if label in last and label in gains else math.nan,
        )
        for label in labels
        if label in nats
    }
    baseline = _baseline([one.baseline for one in known], x, at, target.seeds.baseline)
    return Forecast(target.name, now(), steps, flops, baseline, rows, [one.source for one in known])


def _cost(target: Sweep) -> tuple[float, int]:
    """The FLOPs of a run of the baseline of a size, and its steps."""
    from ablate.config import compose
    from ablate.cost import cost

    config = compose(runs.overrides(target, target.baseline, 0))
    steps = int(config.trainer.steps)
    return float(cost(config)["flops_per_step"]) * steps, steps


def _by_label(context: Context) -> dict[str, Effect]:
    return {effect.label: effect for effect in context.effects.values() if _is_usable(effect)}


def _control_of_gains(effects: Mapping[str, Effect], context: Context) -> float:
    """As `control_error`, in logarithms of gains."""
    scales = [effect.gain_error / effect.error for effect in effects.values() if math.isfinite(effect.gain_error)]
    return context.control_error * float(np.median(scales)) if scales else 0.0


def _ladder(
    labels: Sequence[str],
    effects: Sequence[Mapping[str, Effect]],
    controls: Sequence[float],
    x: np.ndarray,
    at: float,
    planned: int,
    *,
    in_gains: bool,
) -> dict[str, Predicted]:
    """What `planned` seeds of each row will show at the size exp(at), in nats or in logarithms of gains."""
    shape = len(labels), len(effects)
    values, own, seeds = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape)
    for column, of_size in enumerate(effects):
        for line, label in enumerate(labels):
            if (effect := of_size.get(label)) is None:
                continue
            scale = effect.gain_error / effect.error if in_gains else 1.0
            value = effect.gain if in_gains else effect.nats
            error = math.sqrt(max(effect.own_error**2, effect.error**2 - _square(controls, column, scale)))
            if math.isfinite(value) and math.isfinite(scale) and error > 0:
                values[line, column], own[line, column] = value, error * scale
                seeds[line, column] = effect.seeds
    if np.count_nonzero(~np.isnan(values).all(0)) < FEWEST_SIZES:
        return {}
    noise = Noise.pooled(own, np.asarray(controls), seeds)
    of_runs = noise.errors * np.sqrt(seeds)  # the sd of one run, the same at every size
    there = np.nanmax(np.where(np.isnan(of_runs), -np.inf, of_runs), axis=1) / math.sqrt(planned)
    control = float(noise.control[-1]) * math.sqrt(float(np.median(seeds[~np.isnan(values)])) / planned)
    ladder = Ladder(values, noise.errors, noise.control, x, PRIOR_SD if in_gains else PRIOR_SD_NATS)
    found = ladder.predict(at, np.where(np.isfinite(there), there, np.nan), control, LEVEL, noise.degrees)
    return {label: _predicted(found, line) for line, label in enumerate(labels) if math.isfinite(found.mean[line])}


def _square(controls: Sequence[float], column: int, scale: float) -> float:
    """The variance of a control's mean, in nats."""
    return (controls[column] / scale) ** 2 if scale else 0.0


def _baseline(sizes: Sequence[Size], x: np.ndarray, at: float, planned: int) -> Predicted:
    """What `planned` seeds of the baseline will end at."""
    degrees = [len(size.losses) - 1 for size in sizes]
    variance = float(np.average([size.losses.var(ddof=1) for size in sizes], weights=degrees))
    errors = np.sqrt([variance / len(size.losses) for size in sizes])
    losses = np.array([size.losses.mean() for size in sizes])
    return _predicted(trend(losses, errors, x, at, math.sqrt(variance / planned), LEVEL, sum(degrees)), 0)


def _predicted(found: Prediction, place: int) -> Predicted:
    return Predicted(*(float(of[place]) for of in (found.mean, found.sd, found.low, found.high)))
