"""The runs of a sweep, gathered in two files in the folder of the report.

    runs/<sweep>/*/seed-*/  ->  records.jsonl   first line: the sweep as its file defines it; then one line per run
                            ->  curves.csv      loss curves, 48 points over the steps of the baseline

Everything else in a report is a function of these two files. Records that cannot be read are left out, and listed in
the first line.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.config.identity import is_without_effect
from ablate.config.overrides import key_of
from ablate.errors import UserError
from ablate.report.analysis import curves_csv
from ablate.report.analysis.curves_csv import Point
from ablate.report.text import is_number, one_line
from ablate.run import json_text
from ablate.run.files import atomic_write, refuse_links
from ablate.run.folder import RunFolder, run_folders, run_path, was_set_aside
from ablate.run.json_object import DamagedJSON
from ablate.run.record import Record
from ablate.study import definition, inheritance
from ablate.study.definition import Sweep
from ablate.study.membership import Membership

if TYPE_CHECKING:
    import pandas

RECORDS, CURVES = "records.jsonl", curves_csv.FILE
CURVE_POINTS = 48
MOST_BYTES = 512 * 2**20  # of records.jsonl
RUN_NUMBERS = {
    "parameters": ("parameters", "total"),
    "parameters_non_embedding": ("parameters", "non_embedding"),
    "parameters_active": ("parameters", "active"),
    "ops_paper": ("ops_paper",),
    "flops_per_step": ("flops_per_step",),
    "steps_per_second": ("steps_per_second", "median"),
    "steps_per_second_p25": ("steps_per_second", "p25"),
    "steps_per_second_p75": ("steps_per_second", "p75"),
    "steps_per_second_exclusive": ("steps_per_second", "exclusive"),
    "tokens_per_second": ("tokens_per_second",),
    "mfu": ("mfu",),
    "peak_memory_bytes": ("peak_memory_bytes",),
    "early_step": ("loss", "early_step"),
    "final_step": ("loss", "final_step"),
    "early_loss": ("loss", "early"),
    "final_loss": ("loss", "final"),
    "bits_per_byte": ("loss", "bits_per_byte"),
    "seconds": ("seconds",),
    "attempts": ("attempts",),
}
RUN_TEXTS = {
    "identity": ("identity",),
    "data": ("data", "name"),
    "data_sha256": ("data", "sha256"),
    "device": ("hardware", "device"),
    "git": ("git", "sha"),
    "torch": ("versions", "torch"),
    "reason": ("reason",),
    "overrides": ("overrides",),
}
_SETTINGS = (
    *("topology", "objective", "tokenizer", "evaluation", "shape", "optimizer", "schedule"),
    *("early_fraction", "early", "dropout"),  # `early` in the configs of earlier versions
)
_TRAINER = ("precision", "compile", "threads", "micro_batch", "global_batch_tokens", "steps", "clip_norm")


@dataclass(frozen=True)
class Results:
    """A sweep and its runs: `sweep` is the first line of records.jsonl, `records` the other lines.

    `curves` maps (row, seed, kind) to a list of points: (step, loss) where the kind is train or validation, else (x, y)
    of the curve of the score with the kind's name.
    """

    sweep: dict[str, Any]
    records: list[dict[str, Any]]
    curves: dict[tuple[str, int, str], list[Point]] = field(default_factory=dict)

    def frame(self) -> pandas.DataFrame:
        """A line a run: row, section, seed, status, then numbers (NaN where unknown), downstream scores, and texts."""
        import pandas

        sections = {row["row"]: row["section"] for row in self.sweep["rows"]}
        tasks = sorted({task for record in self.records for task in record.get("downstream") or {}})
        lines = [
            {
                "row": record["row"],
                "section": sections[record["row"]],
                "seed": record["seed"],
                "status": record["status"],
            }
            | {name: number(record, *keys) for name, keys in RUN_NUMBERS.items()}
            | {task: number(record, "downstream", task) for task in tasks}
            | {name: _text(record, *keys) for name, keys in RUN_TEXTS.items()}
            for record in self.records
        ]
        return pandas.DataFrame(lines, columns=["row", "section", "seed", "status", *RUN_NUMBERS, *tasks, *RUN_TEXTS])


def collect(name: str, runs_dir: Path | str, sweeps_dir: Path | str, older: Results | None = None) -> Results:
    """Gather the records and curves of the sweep `name`; raises `UserError` where there is no such sweep.

    Runs that have no folder come from `older`, where they match the sweep as it is now: a fresh clone that trains one
    more run does not lose the others.
    """
    folder = Path(runs_dir) / name
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    found: dict[tuple[str, int], tuple[Record, RunFolder]] = {}
    skipped: list[dict[str, str]] = []

    def skip(path: str, reason: str) -> None:
        skipped.append({"path": path, "reason": one_line(reason)})

    for path in run_folders(runs_dir, name):
        reading = RunFolder(path).examine()
        if reading.problem:
            skip(path.relative_to(folder).as_posix(), reading.problem)
        elif reading.record is not None:
            run = reading.record.row, reading.record.seed
            found[run], lines[run] = (reading.record, RunFolder(path)), _line_of(reading.record, RunFolder(path))
    older = older or Results({}, [])
    without_folder = [line for line in older.records if (line["row"], line["seed"]) not in found]
    sweep = _sweep(name, Path(sweeps_dir), required=not (lines or without_folder))
    header = _header(sweep) if sweep else _header_of_runs(name, [*lines.values(), *without_folder])
    membership = Membership(sweep) if sweep else None
    steps = _steps([*lines.values()], header["baseline"])
    kept: list[dict[str, Any]] = []
    curves: dict[tuple[str, int, str], list[Point]] = {}
    for run, (record, its_folder) in found.items():
        if reason := membership.reason(record, its_folder) if membership else "":
            skip(its_folder.path.relative_to(folder).as_posix(), reason)
            continue
        kept.append(lines[run])
        curves |= {(*run, kind): points for kind, points in _read_curves(its_folder.metrics, steps).items()}
        curves |= {(*run, name): points for name, points in _score_curves(lines[run]).items()}
    for line in without_folder:
        run = line["row"], line["seed"]
        reason = _replaced(run_path(runs_dir, name, *run))
        if reason := reason or (membership.reason(Record.from_json(line)) if membership else ""):
            skip(f"{RECORDS}: {line['row']}, seed {line['seed']}", reason)
        else:
            kept.append(line)
            curves |= {key: points for key, points in older.curves.items() if key[:2] == run}
    order = {row["row"]: number for number, row in enumerate(header["rows"])}
    kept.sort(key=lambda record: (order[record["row"]], record["seed"]))
    header["skipped"] = sorted(skipped, key=lambda problem: problem["path"])
    return Results(header, kept, {key: curves[key] for key in sorted(curves, key=str)})


def write(results: Results, folder: Path | str) -> None:
    """Write records.jsonl and curves.csv, canonically: the same results give the same bytes."""
    folder = Path(folder)
    refuse_links(folder)  # plots are written in place
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_canonical(line) for line in (results.sweep, *results.records)]
    atomic_write(folder / RECORDS, "".join(f"{line}\n" for line in lines))
    atomic_write(folder / CURVES, curves_csv.text_of(results.curves))


def read(folder: Path | str) -> Results:
    """Read what `write` wrote; raises `UserError` naming the file and line that cannot be read."""
    folder = Path(folder)
    path = folder / RECORDS
    try:
        texts = json_text.read_text(path, MOST_BYTES).splitlines()
    except FileNotFoundError:
        raise UserError(f"no {RECORDS} in {folder}: nothing was collected there") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json_text.parse(text))
        except ValueError as error:
            what = "not JSON" if isinstance(error, json.JSONDecodeError) else f"cannot be used: {error}"
            raise UserError(f"{path}, line {number}: {what}") from None
    if not lines or not _describes_sweep(lines[0]):
        raise UserError(f"{path}, line 1: must describe the sweep")
    rows = {row["row"] for row in lines[0]["rows"]}
    for number, line in enumerate(lines[1:], start=2):
        if problem := _problem_of(line, rows):
            raise UserError(f"{path}, line {number}: cannot be used: {problem}")
    sweep, records = _without_repeats(lines[0], lines[1:])
    return Results(sweep, records, curves_csv.read(folder / CURVES))


def _describes_sweep(line: Any) -> bool:
    """Whether the first line of records.jsonl has what a report reads of it."""
    if not isinstance(line, dict) or line.get("kind") != "sweep" or not isinstance(line.get("rows"), list):
        return False
    texts = all(isinstance(line.get(key), str) for key in ("name", "question", "baseline"))
    rows = all(
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("row", "section"))
        and isinstance(row.get("overrides"), list)
        and type(row.get("seeds")) is int
        for row in line["rows"]
    )
    skipped = line.get("skipped", [])
    listed = isinstance(skipped, list) and all(
        isinstance(part, dict) and {"path", "reason"} <= {*part} for part in skipped
    )
    return texts and rows and listed and isinstance(line.get("base"), list)


def _problem_of(line: Any, rows: set[str]) -> str:
    """What is wrong with a line of records.jsonl that should be a run's record; empty where nothing is."""
    if not isinstance(line, dict):
        return "must be a mapping"
    try:
        record = Record.from_json(line)
    except DamagedJSON as error:
        return str(error)
    if not isinstance(line.get("settings", {}), dict):
        return "settings must be a mapping"
    return "" if record.row in rows else f"the sweep has no row {record.row!r}"


def _without_repeats(
    sweep: dict[str, Any], records: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Each run once, the first of its lines; the sweep's line says where another one differs from that."""
    first: dict[tuple[str, int], dict[str, Any]] = {}
    skipped = []
    for record in records:
        known = first.setdefault((record["row"], record["seed"]), record)
        if known != record:
            path = f"{RECORDS}: {record['row']}, seed {record['seed']}"
            skipped.append({"path": path, "reason": "is there twice, and differs; the first is taken"})
    if skipped:
        sweep = {**sweep, "skipped": [*sweep.get("skipped", []), *skipped]}
    return sweep, [*first.values()]


def number(record: dict[str, Any], *keys: str) -> float:
    """The number under nested `keys` of a record; NaN where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if is_number(value) else np.nan


def identity_schema(record: dict[str, Any]) -> int:
    """Under which schema the identity of a run was made; older records do not say it."""
    schema = number(record, "identity_schema")
    return 1 if np.isnan(schema) else int(schema)


def _line_of(record: Record, folder: RunFolder) -> dict[str, Any]:
    """The line of records.jsonl for one run: its record, with what its config adds."""
    return {**_finite_values(record.to_json()), "kind": "run", "settings": _read_settings(folder)}


def _read_settings(folder: RunFolder) -> dict[str, Any]:
    """What the report needs of a run's config; empty where it cannot be read."""
    try:
        if (config := folder.read_config()) is None:
            return {}
        trainer = config.get("trainer") or {}
        chosen = {key: config[key] for key in _SETTINGS if key in config}
        return _finite_values({**chosen, "trainer": {key: trainer[key] for key in _TRAINER if key in trainer}})
    except (UserError, ValueError, AttributeError, TypeError):
        return {}


def _steps(records: list[dict[str, Any]], baseline: str) -> int:
    """How many steps the sweep trains for: those of its baseline, else of another run; 0 where none is known."""
    known = [
        (record["row"] == baseline, steps)
        for record in records
        if is_number(steps := number(record, "settings", "trainer", "steps"))
    ]
    return int(max(known)[1]) if known else 0


def _read_curves(path: Path, steps: int) -> dict[str, list[Point]]:
    """Thinned (step, loss) by kind; an incomplete last line and what is no loss are left out."""
    found: dict[str, list[Point]] = {}
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(line.replace("\0", "") for line in file):
                try:
                    step, loss = int(row["step"]), float(row["loss"])
                except (KeyError, TypeError, ValueError):
                    continue
                kind = row.get("kind")
                if kind in curves_csv.LOSSES and curves_csv.is_point(kind, step, loss):
                    found.setdefault(kind, []).append((step, loss))
    except (OSError, csv.Error):
        pass
    return {kind: _thinned(points, steps) for kind, points in found.items()}


def _score_curves(record: dict[str, Any]) -> dict[str, list[Point]]:
    """The points of each score that has a curve; one with numbers too large to draw is left out."""
    curves = {name: score.get("curve") for name, score in (record.get("scores") or {}).items()}
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


def _sweep(name: str, sweeps_dir: Path, required: bool) -> Sweep | None:
    """The sweep as its file defines it; None for runs without a sweep file, where it is not `required`."""
    if inheritance.find(name, sweeps_dir) is None and not required:
        return None
    return definition.load(name, sweeps_dir)


def _header(sweep: Sweep) -> dict[str, Any]:
    rows = [
        {"row": row, "section": sweep.sections[row], "overrides": list(overrides), "seeds": sweep.seeds_of(row)}
        for row, overrides in sweep.rows.items()
    ]
    return {
        "kind": "sweep",
        "name": sweep.name,
        "question": sweep.question,
        "base": list(sweep.base),
        "baseline": sweep.baseline,
        "rows": rows,
        "reference": sweep.reference,
        "early": sweep.early_fraction,
        "notes": sweep.notes,
        "file": sweep.text,
    }


def _header_of_runs(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A sweep as the runs themselves imply it."""
    labels = sorted({record["row"] for record in records}, key=lambda label: (label != "baseline", label))
    rows = [
        {
            "row": label,
            "section": "rows",
            "overrides": _overrides_of(mine),
            "seeds": len({record["seed"] for record in mine}),
        }
        for label in labels
        for mine in [[record for record in records if record["row"] == label]]
    ]
    question = "Runs that were started one by one, outside any sweep"
    fixed = {"kind": "sweep", "name": name, "question": question, "base": [], "baseline": "baseline"}
    return {**fixed, "rows": rows, "reference": None, "early": None, "notes": "", "file": None}


def _overrides_of(records: list[dict[str, Any]]) -> list[str]:
    """What the runs of one row were given, as they were started, but for what cannot change a result and the seed."""
    given = dict.fromkeys(str(text) for record in records for text in record.get("overrides") or [])
    return [text for text in given if not (is_without_effect(key := key_of(text)) or key in ("seed", "seed.base"))]


def _replaced(folder: Path) -> str:
    """Why the older record of a run without a folder is left out; empty where it may be kept."""
    return "moved aside for a run with a different config, which has not been made yet" if was_set_aside(folder) else ""


def _text(record: dict[str, Any], *keys: str) -> str:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


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
