"""What a sweep will take and what it can show, judged by runs that are there already."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.run.folder import RunFolder, run_folders
from ablate.run.record import DONE, Record
from ablate.study.definition import Sweep

SHAPE = ("d_model", "n_layers", "d_ff", "vocab_size", "length")  # what a run's speed hangs on
LOOKED_AT = 40  # runs of other sweeps, at most: a plan is to answer at once
REPORT, REPORT_OF_A_RUN = 5.0, 0.004  # seconds that a report takes, and more for each run


@dataclass(frozen=True)
class Seconds:
    """How long a run of each row takes, and how that is known; no rows where it is not."""

    rows: dict[str, float]
    source: str


def of_this_sweep(records: Iterable[Record], rows: Iterable[str]) -> Seconds:
    """As the finished runs of the sweep took: those of the row itself, else all of them on average."""
    times: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.status == DONE and record.seconds:
            times[record.row].append(record.seconds)
    every = [seconds for row in times.values() for seconds in row]
    if not every:
        return Seconds({}, "")
    means = {row: statistics.mean(times.get(row, every)) for row in rows}
    return Seconds(means, f"as {_runs(len(every))} of this sweep did")


def of_other_sweeps(runs_folder: Path, name: str, configs: Mapping[str, dict[str, Any]]) -> Seconds:
    """As runs of other sweeps took that have the shape and the batch of the first row, the newest of them.

    What a run takes besides its steps, to start and to evaluate, does not grow with their number.
    """
    config = next(iter(configs.values()))
    folders = [folder for folder in run_folders(runs_folder) if folder.parents[1] != runs_folder / name]
    times = [seconds for folder in folders[-LOOKED_AT:] if (seconds := _as_in(folder, config))]
    if not times:
        return Seconds({}, "")
    mean = statistics.mean(times)
    return Seconds(dict.fromkeys(configs, mean), f"judged by {_runs(len(times))} of the same shape in other sweeps")


def _as_in(folder: Path, config: dict[str, Any]) -> float | None:
    """How long a run of `config` takes by the finished one in `folder`; None where that is another kind of run."""
    record, trainer = RunFolder(folder).examine().record, config["trainer"]
    speed = record.steps_per_second.median if record and record.steps_per_second else None
    if not record or record.status != DONE or not (record.seconds and record.step and speed):
        return None
    try:
        other = RunFolder(folder).read_config() or {}
        same = all(other["shape"][key] == config["shape"][key] for key in SHAPE)
        same = same and other["trainer"]["global_batch_tokens"] == trainer["global_batch_tokens"]
    except (UserError, KeyError, TypeError):
        return None
    besides = max(0.0, record.seconds - record.step / speed)
    return besides + trainer["steps"] / speed if same else None


def report(runs: int) -> float:
    """The seconds that the report of so many runs takes."""
    return REPORT + REPORT_OF_A_RUN * runs


def noise(known: Sequence[Record]) -> float:
    """The standard deviation of one run's final loss within a seed, as the sweep's own runs have it; NaN where not."""
    members = [record for record in known if record.status == DONE]
    rows, seeds = sorted({record.row for record in members}), sorted({record.seed for record in members})
    if len(rows) < 2 or len(seeds) < 2:
        return math.nan
    import numpy as np

    from ablate.statistics.noise import typical_noise

    table = np.full((len(rows), len(seeds)), np.nan)
    for record in members:
        table[rows.index(record.row), seeds.index(record.seed)] = record.final_loss
    return typical_noise(table)


def detectable(sweep: Sweep, sd: float) -> float:
    """The smallest true difference of final loss that the sweep finds four times in five; NaN below three seeds."""
    from ablate.statistics.planned import planned_effect

    return planned_effect(sd, len(sweep.rows) - 1, sweep.seeds.rows, sweep.seeds.baseline)


def worth(difference: float, baseline: Mapping[float, Sequence[Record]]) -> float:
    """The factor of tokens that an improvement is worth by the `baseline`'s runs at several factors; NaN if unknown."""
    if len(baseline) < 2:
        return math.nan
    import numpy as np

    from ablate.statistics.gain import Rungs, detectable_gain

    seeds = sorted({record.seed for records in baseline.values() for record in records})
    losses = np.full((len(baseline), len(seeds)), np.nan)
    for place, records in enumerate(baseline.values()):
        for record in records:
            losses[place, seeds.index(record.seed)] = record.final_loss
    return detectable_gain(difference, Rungs.of(np.array([*baseline]), losses))


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"
