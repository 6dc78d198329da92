"""The process that shows a run, or a sweep's report, on W&B: it reads files, writes an offline run, and has it sent.

`python -m ablate.integrations.wandb_mirror JSON`, started by `Mirror`; what it says goes to wandb.log.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ablate.background import insist
from ablate.errors import UserError
from ablate.integrations.wandb import Mirror, by_hand, lock_file, report_tables, state_file, write_problem
from ablate.integrations.wandb_sync import KEY, Sync, may_send, services_step_back
from ablate.run.files import atomic_write, read_json
from ablate.run.folder import RunFolder
from ablate.run.lock import held_in_turn, is_held
from ablate.run.record import DONE, FINISHED, RUNNING, Record

POLL_SECONDS = 1.0
START_SECONDS = 10.0  # of training, before W&B is loaded, which takes seconds of the processor
SHORT_SECONDS = 40.0  # a run that will be over sooner is shown at its end
FLUSH_SECONDS = 5.0  # until what is logged is in the file that is sent from, every 15 s
NO_KEY = "written offline: there is no key, or sync_seconds is 0"
UNFINISHED_SECONDS = 20.0  # to send a run that was stopped, or failed: its next attempt sends all of it


def mirror_run(mirror: Mirror, folder: Path, key: str | None) -> str:
    """Write the run in `folder` to W&B as it goes on, until its record says that it has ended or its process is gone.

    Returns why it could not be sent; empty where it was. Raises `UserError` where there is no run.
    """
    run_folder = RunFolder(folder)
    record, config = run_folder.read(), run_folder.read_config()
    if record is None or config is None:
        raise UserError(f"{folder}: no run to mirror (no record.json or no config.yaml)")
    parameters = record.parameters.to_json() if record.parameters else None
    _let_it_begin(run_folder)
    run = _init(
        mirror,
        folder,
        id=run_id(record),
        group=record.sweep,
        job_type=record.row[:64],
        name=f"{record.row} · seed {record.seed}",
        tags=[tag[:64] for tag in (*record.tags, *rate_tags(config))],
        config={**config, "sweep": record.sweep, "row": record.row, "parameters": parameters},
    )
    for kind in ("train", "validation", "first_steps"):
        run.define_metric(f"{kind}/*", step_metric="step")
    sync = _sync(mirror, run, key)
    for row in _rows(run_folder.metrics, lambda: _has_ended(run_folder), sync.keep_on if sync else lambda: None):
        # A line of its own, which is shown at once; with `step=` it would wait for the next step.
        run.log({"step": int(row["step"]), **{f"{row['kind']}/{name}": value for name, value in _numbers(row).items()}})
    record = run_folder.read() or record
    run.summary.update(_summary(record))
    run.finish(exit_code=0 if record.status == DONE else 1)
    most = mirror.sync_seconds if record.status in FINISHED else min(UNFINISHED_SECONDS, mirror.sync_seconds)
    return sync.finish(most) if sync else NO_KEY


def run_id(record: Record) -> str:
    """What W&B knows a run by."""
    return _id(record.sweep, record.row, record.seed, record.identity)


def rate_tags(config: dict[str, Any]) -> list[str]:
    """The learning rate in a config as `schedule.peak:0.01`, and by what it is scaled, if it is; [] without such keys.

    Runs that differ in nothing else are told apart by it.
    """
    schedule = config.get("schedule") or {}
    rates = {key: schedule.get(key) for key in ("peak", "rate_scale")}
    return [
        f"schedule.{key}:{value:g}"
        for key, value in rates.items()
        if isinstance(value, (int, float)) and not (key == "rate_scale" and value == 1)
    ]


def mirror_report(mirror: Mirror, folder: Path, sweep: str, report: Path, state: str, key: str | None) -> str:
    """Write a sweep's tables and plots to W&B as the run `report` of its group; returns the same as `mirror_run`.

    `state` says which results they are of. What can again not be sent is not written again.
    """
    import wandb

    known = read_json(state_file(folder))
    if known.get("state") == state and not _may_send(mirror, key):
        return str(known.get("problem"))
    name, identifier = f"{sweep} · report", _id(sweep, "report")
    run = _init(mirror, folder, id=identifier, group=sweep, job_type="report", name=name, tags=["report"])
    sync = _sync(mirror, run, key)
    for path in report_tables(report):
        header, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        data = [[_value(cell) for cell in row] for row in rows]
        run.log({path.stem: wandb.Table(columns=[*header], data=[*data], allow_mixed_types=True)})
    for path in sorted(report.glob("*.png")):
        run.log({f"plots/{path.stem}": wandb.Image(str(path))})
    run.finish()
    problem = sync.finish(mirror.sync_seconds) if sync else NO_KEY
    atomic_write(state_file(folder), json.dumps({"state": state, "problem": problem}))
    return problem


def _id(*words: str | int | None) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _init(mirror: Mirror, folder: Path, **options: Any) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        silent=True,
        x_disable_stats=True,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
    )
    run = wandb.init(
        mode="offline", dir=str(folder), project=mirror.project, entity=mirror.entity, settings=settings, **options
    )
    services_step_back(os.getpid())
    return run


def _may_send(mirror: Mirror, key: str | None) -> bool:
    return bool(mirror.sync_seconds) and may_send(key)


def _sync(mirror: Mirror, run: Any, key: str | None) -> Sync | None:
    return Sync(Path(run.settings.sync_dir), key) if _may_send(mirror, key) else None


def _let_it_begin(folder: RunFolder) -> None:
    """Wait until a run has trained for a while, or has ended; for one that is short, until it has ended.

    Until it trains, metrics.csv may have lines of an earlier attempt that it does not keep.
    """
    began = None
    while not _has_ended(folder):
        if began is None and folder.progress.exists():
            began = time.monotonic()
        if began is not None and _is_time(time.monotonic() - began, read_json(folder.progress)):
            return
        time.sleep(POLL_SECONDS)


def _is_time(seconds: float, progress: dict[str, Any]) -> bool:
    """Whether W&B is to be loaded after so many seconds of training, with so much done."""
    part = (progress.get("step") or 0) / (progress.get("steps") or 1)
    is_short = seconds < SHORT_SECONDS * part
    return seconds >= SHORT_SECONDS or (seconds >= START_SECONDS and not is_short)


def _rows(path: Path, has_ended: Callable[[], bool], meanwhile: Callable[[], None]) -> Iterator[dict[str, str]]:
    """The rows of metrics.csv as they are written; the last line counts once it is whole."""
    seen = 0  # bytes
    header: list[str] = []
    while True:
        meanwhile()
        ended = has_ended()
        whole, newline, _ = _read_from(path, seen).rpartition(b"\n")
        seen += len(whole) + len(newline)
        lines = whole.decode().splitlines()
        if lines and not header:
            header = lines.pop(0).split(",")
        for line in lines:
            yield dict(zip(header, line.split(","), strict=False))
        if ended:
            return
        time.sleep(POLL_SECONDS)


def _read_from(path: Path, place: int) -> bytes:
    """What a file has from a place on; nothing where there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(place)
            return file.read()
    except FileNotFoundError:
        return b""


def _has_ended(folder: RunFolder) -> bool:
    record = folder.read()
    return record is None or record.status != RUNNING or not is_held(folder.lock_file)


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value and name not in ("step", "kind")}


def _value(cell: str) -> float | str | None:
    try:
        return float(cell)
    except ValueError:
        return cell or None


SUMMARY = (
    "status reason seconds ops_paper flops_per_step mfu tokens_per_second peak_memory_bytes data_wait_fraction".split()
)
SUMMARY_GROUPS = ("loss", "parameters", "steps_per_second", "downstream")


def _summary(record: Record) -> dict[str, Any]:
    """The record's numbers, flat: `loss/final`, `parameters/total`, `steps_per_second/median` ..."""
    content = record.to_json()
    found = {key: content.get(key) for key in SUMMARY}
    for group in SUMMARY_GROUPS:
        found |= {f"{group}/{key}": value for key, value in (content.get(group) or {}).items()}
    return {key: value for key, value in found.items() if value is not None}


def _work(job: dict[str, Any], key: str | None) -> str:
    mirror, folder = Mirror(**job["mirror"]), Path(job["folder"])
    if job["what"] == "run":
        return mirror_run(mirror, folder, key)
    sweep, report, state = job["more"]
    return mirror_report(mirror, folder, sweep, Path(report), state, key)


def main() -> None:
    """Do what the command line says, out of everybody's way, after an earlier mirror of the same folder."""
    insist(os.getpid())
    key = os.environ.pop(KEY, None)
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    with held_in_turn(lock_file(folder)):
        try:
            problem = _work(job, key)
        except Exception as error:
            write_problem(folder, " ".join(f"nothing was written: {error}".split())[:200])
            raise
        write_problem(folder, problem)
    print(f"not sent ({problem}); `{by_hand(folder / 'wandb')}` sends it" if problem else "sent", flush=True)
    os._exit(0)  # at a usual exit W&B would wait for a service that hangs; all is written


if __name__ == "__main__":
    main()
