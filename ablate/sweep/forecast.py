"""What a sweep will take and what it can show, judged by runs that are there already."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.run.files import read_json
from ablate.run.folder import RunFolder, run_folders
from ablate.run.record import DONE
from ablate.study.definition import Sweep

SHAPE = ("d_model", "n_layers", "d_ff", "vocab_size", "length")  # what a run's speed hangs on
LOOKED_AT = 40  # runs of other sweeps, at most: a plan is to answer at once


@dataclass(frozen=True)
class Past:
    """A finished run of any sweep."""

    sweep: str
    row: str
    seed: int
    folder: Path
    record: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        value = self.record.get("seconds")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def final(self) -> float:
        value = (self.record.get("loss") or {}).get("final")
        return float(value) if isinstance(value, (int, float)) else math.nan


def past(runs_folder: Path, sweep: str = "*") -> list[Past]:
    """The finished runs under `runs_folder`, of one sweep or of all, in the order of their paths."""
    found = []
    for folder in run_folders(runs_folder, sweep):
        record = read_json(RunFolder(folder).record)
        if record.get("status") == DONE and isinstance(record.get("seed"), int):
            found.append(Past(str(record.get("sweep")), str(record.get("row")), record["seed"], folder, record))
    return found


def seconds_of_a_run(known: Sequence[Past], others: Sequence[Past], cfg: Any) -> tuple[float | None, str]:
    """How long a run of `cfg` takes, and how that is known: from this sweep's runs, or from others of its shape."""
    if times := [run.seconds for run in known if run.seconds]:
        return statistics.mean(times), f"as {_runs(len(times))} of this sweep did"
    shape = dict(cfg.shape)
    times = []
    for run in others[-LOOKED_AT:]:
        try:
            config = RunFolder(run.folder).read_config()
            same = all(config["shape"][key] == shape[key] for key in SHAPE)
            same = same and config["trainer"]["global_batch_tokens"] == cfg.trainer.global_batch_tokens
            steps = config["trainer"]["steps"]
        except (UserError, KeyError, TypeError):
            continue
        if same and run.seconds:
            times.append(run.seconds * cfg.trainer.steps / steps)
    if times:
        return statistics.mean(times), f"judged by {_runs(len(times))} of the same shape in other sweeps"
    return None, "unknown until the first run is done"


def noise(known: Sequence[Past], others: Sequence[Past]) -> tuple[float, str]:
    """The standard deviation of one run's final loss within a seed, and whose it is; NaN where nothing tells."""
    tables: dict[str, list[Past]] = defaultdict(list)
    for run in others:
        tables[run.sweep].append(run)
    candidates = [("this sweep", known)] if known else []
    candidates += sorted(tables.items(), key=lambda item: -len(item[1]))
    for name, members in candidates:
        value = _noise_of(members)
        if not math.isnan(value):
            return value, name if name == "this sweep" else f"the sweep {name}"
    return math.nan, ""


def _noise_of(members: Sequence[Past]) -> float:
    rows, seeds = sorted({run.row for run in members}), sorted({run.seed for run in members})
    if len(rows) < 2 or len(seeds) < 2:
        return math.nan
    import numpy as np

    from ablate.statistics.moderated import estimate_noise

    table = np.full((len(rows), len(seeds)), np.nan)
    for run in members:
        table[rows.index(run.row), seeds.index(run.seed)] = run.final
    variances = estimate_noise(table).variance
    variances = variances[~np.isnan(variances)]
    return float(np.sqrt(np.median(variances))) if len(variances) else math.nan


def detectable(sweep: Sweep, sd: float) -> float:
    """The smallest true difference of final loss that the sweep finds four times in five; NaN below three seeds."""
    from ablate.statistics.moderated import planned_effect

    sizes = Counter(section for row, section in sweep.sections.items() if row != sweep.baseline)
    # A single row is judged by the seeds that it shares with the baseline, and by no others.
    of_baseline = sweep.seeds.rows if sizes.total() == 1 else sweep.seeds.baseline
    return planned_effect(sd, max(sizes.values()), sweep.seeds.rows, of_baseline)


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"
