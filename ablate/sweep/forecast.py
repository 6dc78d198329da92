"""What a sweep will take and what it can show, judged by runs that are there already."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.run.folder import RunFolder, run_folders
from ablate.run.record import DONE, Record
from ablate.study.definition import Sweep

SHAPE = ("d_model", "n_layers", "d_ff", "vocab_size", "length")  # what a run's speed hangs on
LOOKED_AT = 40  # runs of other sweeps, at most: a plan is to answer at once


def finished_runs(runs_folder: Path) -> dict[Path, Record]:
    """The records of the runs that are done, of all sweeps under `runs_folder`, in the order of their paths."""
    found = {folder: RunFolder(folder).examine().record for folder in run_folders(runs_folder)}
    return {folder: record for folder, record in found.items() if record and record.status == DONE}


def seconds_of_a_run(
    known: Mapping[Path, Record], others: Mapping[Path, Record], config: dict[str, Any]
) -> tuple[float | None, str]:
    """How long a run of `config` takes, and how that is known: from this sweep's runs, or from others of its shape."""
    if times := [record.seconds for record in known.values() if record.seconds]:
        return statistics.mean(times), f"as {_runs(len(times))} of this sweep did"
    shape, trainer = config["shape"], config["trainer"]
    times = []
    for folder, record in list(others.items())[-LOOKED_AT:]:
        try:
            other = RunFolder(folder).read_config() or {}
            same = all(other["shape"][key] == shape[key] for key in SHAPE)
            same = same and other["trainer"]["global_batch_tokens"] == trainer["global_batch_tokens"]
            steps = other["trainer"]["steps"]
        except (UserError, KeyError, TypeError):
            continue
        if same and record.seconds:
            times.append(record.seconds * trainer["steps"] / steps)
    if times:
        return statistics.mean(times), f"judged by {_runs(len(times))} of the same shape in other sweeps"
    return None, "unknown until the first run is done"


def noise(known: Sequence[Record], others: Sequence[Record]) -> tuple[float, str]:
    """The standard deviation of one run's final loss within a seed, and whose it is; NaN where it is not known."""
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in others:
        sweeps[record.sweep].append(record)
    candidates: list[tuple[str, Sequence[Record]]] = [("this sweep", known)] if known else []
    candidates += sorted(sweeps.items(), key=lambda item: -len(item[1]))
    for name, members in candidates:
        value = _noise_of(members)
        if not math.isnan(value):
            return value, name if name == "this sweep" else f"the sweep {name}"
    return math.nan, ""


def _noise_of(members: Sequence[Record]) -> float:
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


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"
