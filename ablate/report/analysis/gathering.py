"""The runs of a sweep, gathered from their folders: runs/<sweep>/*/seed-*/.

Records that cannot be read are left out, and listed with the reason.
"""

from __future__ import annotations

import contextlib
import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.report.analysis import curves_csv
from ablate.report.analysis.header import header, header_of_runs, renewed, sweep_of, within_budget
from ablate.report.analysis.outcome_files import GatheredItems
from ablate.report.analysis.records_file import GROUPS, Damage, problem_of_settings
from ablate.report.analysis.results import Point, Results, number
from ablate.report.text import is_number, one_line
from ablate.run.folder import RunFolder, run_folders, run_path, was_set_aside
from ablate.run.record import Record
from ablate.study import budget
from ablate.study.membership import Membership
from ablate.study.paths import RECORDS, Paths
from ablate.study.settled import Settled
from ablate.study.standing import standing
from ablate.yaml_text import SharedBlocks

CURVE_POINTS = 48
FIRST_NORMS = f"{curves_csv.GRADIENT_NORM} of the first steps"
_CURVES = {  # of each kind of line in metrics.csv: the curves that it is a point of, and the column with the value
    "train": (("train", "loss"), (curves_csv.GRADIENT_NORM, "grad_norm")),
    "validation": (("validation", "loss"),),
    "first_steps": ((FIRST_NORMS, "grad_norm"),),
}
_SETTINGS = (*GROUPS, "early_fraction", "early", "dropout")  # `early` in the configs of earlier versions
_TRAINER = ("precision", "compile", "threads", "micro_batch", "global_batch_tokens", "steps", "clip_norm")


def collect(
    name: str,
    runs_dir: Path | str,
    sweeps_dir: Path | str,
    older: Results | None = None,
    damage: Damage | None = None,
) -> Results:
    """Gather the records, curves and items of the sweep `name`; raises `UserError` where there is no such sweep.

    Runs that have no folder come from `older`, where they match the sweep as it is now: a fresh clone that trains one
    more run does not lose the others. `damage` says what is wrong with lines that `older` lacks for that.
    """
    folder = Path(runs_dir) / name
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    found: dict[tuple[str, int], tuple[Record, RunFolder]] = {}
    skipped: list[dict[str, str]] = []
    settings = _SettingsReader()

    def skip(path: str, reason: str) -> None:
        skipped.append({"path": path, "reason": one_line(reason)})

    for damaged, problem in (damage or Damage()).lines.items():
        skip(damaged, problem)
    for path in run_folders(runs_dir, name):
        reading = RunFolder(path).examine()
        if reading.problem:
            skip(path.relative_to(folder).as_posix(), reading.problem)
        elif reading.record is not None:
            run = reading.record.row, reading.record.seed
            found[run] = reading.record, RunFolder(path)
            lines[run] = _line_of(reading.record, settings.of(RunFolder(path)))
    older = older or Results({}, [])
    without_folder = [line for line in older.records if (line["row"], line["seed"]) not in found]
    without_folder = [line for line in without_folder if not _of_line(runs_dir, name, line).examine().problem]
    sweep = sweep_of(name, Path(sweeps_dir), required=not (lines or without_folder))
    sweep = sweep and standing(sweep, Path(runs_dir))
    head = header(sweep) if sweep else header_of_runs(name, [*lines.values(), *without_folder])
    head = within_budget(head, budget.read(folder))
    paths = replace(Paths.of(), runs=Path(runs_dir), sweeps=Path(sweeps_dir))
    membership = Membership(sweep, settled=Settled(sweep, paths, stored=False)) if sweep else None
    steps = _steps([*lines.values()], head["baseline"])
    kept: list[dict[str, Any]] = []
    curves: dict[tuple[str, int, str], list[Point]] = {}
    items = GatheredItems(older)
    for run, (record, its_folder) in found.items():
        if reason := membership.reason(record, its_folder) if membership else "":
            skip(its_folder.path.relative_to(folder).as_posix(), reason)
            continue
        kept.append(lines[run])
        curves |= {(*run, kind): points for kind, points in _read_curves(its_folder.metrics, steps).items()}
        curves |= {(*run, name): points for name, points in _score_curves(lines[run]).items()}
        for file, problem in items.read(lines[run], its_folder.path).items():
            skip(f"{its_folder.path.relative_to(folder).as_posix()}/{file}", problem)
    for line in without_folder:
        run = line["row"], line["seed"]
        reason = _replaced(_of_line(runs_dir, name, line).path)
        if reason := reason or (membership.reason(Record.from_json(line)) if membership else ""):
            skip(f"{RECORDS}: {line['row']}, seed {line['seed']}", reason)
        else:
            kept.append(line)
            curves |= {key: points for key, points in older.curves.items() if key[:2] == run}
            items.keep(line)
    order = {row["row"]: number for number, row in enumerate(head["rows"])}
    kept.sort(key=lambda record: (order[record["row"]], record["seed"]))
    head["skipped"] = sorted(skipped, key=lambda problem: problem["path"])
    return Results(head, kept, {key: curves[key] for key in sorted(curves, key=str)}, items.in_order())


def reread(older: Results, sweeps_dir: Path | str) -> Results:
    """Results whose runs are no longer there, read as the sweep file, where there is one, says today."""
    sweep = sweep_of(older.sweep["name"], Path(sweeps_dir), required=False)
    return replace(older, sweep=renewed(older.sweep, sweep))


def _line_of(record: Record, settings: dict[str, Any]) -> dict[str, Any]:
    """The line of records.jsonl for one run: its record, with what its config adds."""
    return {**_finite_values(record.to_json()), "kind": "run", "settings": settings}


class _SettingsReader:
    """What the report needs of the configs of runs; groups that are the same in many are there once."""

    def __init__(self) -> None:
        self._blocks = SharedBlocks()
        self._groups: dict[int, tuple[Any, Any]] = {}  # by its id, a group and what is kept of it

    def of(self, folder: RunFolder) -> dict[str, Any]:
        """The settings of one run; empty where they cannot be read."""
        try:
            config = folder.read_config(self._blocks.parse)
            if config is None or problem_of_settings(config):
                return {}
            chosen = {key: self._kept(config[key]) for key in _SETTINGS if key in config}
            return chosen | {"trainer": self._kept(config.get("trainer") or {}, _TRAINER)}
        except (UserError, ValueError, AttributeError, TypeError):
            return {}

    def _kept(self, group: Any, keys: tuple[str, ...] = ()) -> Any:
        """A group as JSON, of these `keys` where some are given."""
        if id(group) not in self._groups:
            chosen = {key: group[key] for key in keys if key in group} if keys else group
            self._groups[id(group)] = group, _finite(chosen)  # kept with the group, so that its id stays its own
        return self._groups[id(group)][1]


def _steps(records: list[dict[str, Any]], baseline: str) -> int:
    """How many steps the sweep trains for: those of its baseline, else of another run; 0 where none is known."""
    known = [
        (record["row"] == baseline, steps)
        for record in records
        if is_number(steps := number(record, "settings", "trainer", "steps"))
    ]
    return int(max(known)[1]) if known else 0


def _read_curves(path: Path, steps: int) -> dict[str, list[Point]]:
    """Thinned (step, loss) by kind, and (step, gradient norm); what is neither, and broken lines, are left out.

    Of each of the first steps, where the file has them, the norm is kept as it is.
    """
    found: dict[str, list[Point]] = {}
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(line.replace("\0", "") for line in file):
                for kind, column in _CURVES.get(row.get("kind") or "", ()):
                    with contextlib.suppress(KeyError, TypeError, ValueError):
                        point = int(row["step"]), float(row[column])
                        if curves_csv.is_point(kind, *point):
                            found.setdefault(kind, []).append(point)
    except (OSError, csv.Error):
        pass
    first = found.pop(FIRST_NORMS, [])
    curves = {kind: _thinned(points, steps) for kind, points in found.items()}
    if first:
        later = [point for point in curves.get(curves_csv.GRADIENT_NORM, []) if point[0] > first[-1][0]]
        curves[curves_csv.GRADIENT_NORM] = [*first, *later]
    return curves


def _score_curves(record: dict[str, Any]) -> dict[str, list[Point]]:
    """The points of each score that has a curve or a history, by kind; numbers too large to draw are left out."""
    scores = (record.get("scores") or {}).items()
    curves = {name: score.get("curve") for name, score in scores}
    curves |= {curves_csv.kind_of_history(name): score.get("history") for name, score in scores}
    found = {name: [*zip(curve["xs"], curve["ys"], strict=True)] for name, curve in curves.items() if curve}
    return {
        name: points
        for name, points in found.items()
        if all(is_number(x) and is_number(y) and curves_csv.is_point(name, x, y) for x, y in points)
    }


def _thinned(points: list[Point], steps: int) -> list[Point]:
    """Mean losses over 48 equal bins of a sweep's `steps`, each at the last step of its bin.

    A run that diverged half-way has the same bins, so that losses over the same batches are compared.
    """
    last = steps or points[-1][0]
    bins: dict[float, list[Point]] = {}
    for step, loss in points:
        bins.setdefault((step - 1) * CURVE_POINTS // last, []).append((step, loss))
    return [(members[-1][0], sum(loss for _, loss in members) / len(members)) for members in bins.values()]


def _of_line(runs_dir: Path | str, name: str, line: dict[str, Any]) -> RunFolder:
    """The folder of the run that a line of records.jsonl is about, whether it is there or not."""
    return RunFolder(run_path(runs_dir, name, line["row"], line["seed"]))


def _replaced(folder: Path) -> str:
    """Why the older record of a run without a folder is left out; empty where it may be kept."""
    return "moved aside for a run with a different config, which has not been made yet" if was_set_aside(folder) else ""


def _finite_values(content: dict[str, Any]) -> dict[str, Any]:
    return {str(key): _finite(value) for key, value in content.items()}


def _finite(value: Any) -> Any:
    """The value as JSON: keys as strings, NaN and infinities as null, other objects as strings."""
    if isinstance(value, dict):
        return _finite_values(value)
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
