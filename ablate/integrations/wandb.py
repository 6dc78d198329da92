"""W&B as a mirror: the content of a run's folder, shown on a dashboard.

    training process              detached process, one an attempt           afterwards, where there is a key
    metrics.csv, record.json ───> reads them, writes an offline W&B run ───> wandb sync

The training process never talks to W&B and does not wait for the one that does, so that no network, no key or a wrong
key can slow or end it. The key is taken out of the environment before W&B starts, and handed to `wandb sync` alone.

On the dashboard: group = sweep, job type = row, tags = axes; the id is of sweep, row, seed and identity, so that a run
that is resumed goes on in its own place, and the same model in two sweeps has two.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ablate.errors import UserError
from ablate.run.files import read_json
from ablate.run.folder import RunFolder
from ablate.run.lock import is_held
from ablate.run.record import DONE, RUNNING, Record
from ablate.terminal import say

KEY = "WANDB_API_KEY"
POLL_SECONDS = 1.0
STATE = "mirrored.json"  # up to which step earlier attempts were mirrored


@dataclass(frozen=True)
class Mirror:
    """Where runs are shown, and for how many seconds at most they are sent there when they have ended (0: never)."""

    project: str
    entity: str | None
    sync_seconds: float

    def follow(self, folder: Path) -> None:
        """Start the process that mirrors the run in `folder` until it ends; returns at once."""
        self._detach("follow", folder)

    def close_sweep(self, sweep: str, runs: Path, reports: Path) -> None:
        """Start the process that shows a sweep's table and plots as a run of their own; returns at once."""
        self._detach("close", Path(runs) / sweep, sweep, str(Path(reports) / sweep))

    def _detach(self, what: str, folder: Path, *more: str) -> None:
        job = json.dumps({"mirror": asdict(self), "what": what, "folder": str(folder), "more": more})
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            with open(Path(folder) / "wandb.log", "ab") as log:
                subprocess.Popen(
                    [sys.executable, "-m", "ablate.integrations.wandb", job],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    close_fds=True,
                    env={**os.environ, "PYTHONPATH": path},
                )
        except OSError as error:  # a mirror that cannot be hung up breaks nothing
            say(f"this run is not mirrored to W&B: {error}")


def close_sweep(logger: Any, sweep: str, runs: Path, reports: Path) -> None:
    """Show a finished sweep's table and plots, where `logger` (the config's group) has a mirror; returns at once."""
    from ablate.config import fill

    if (mirror := fill({"logger": logger}, "logger.mirror")) is not None:
        mirror.close_sweep(sweep, runs, reports)


# --- what the detached process does ---


def mirror_run(mirror: Mirror, folder: Path, key: str | None) -> None:
    """Write the run in `folder` to W&B as it goes on, until its record says that it has ended or its process is gone.

    Raises `UserError` where there is no run.
    """
    run_folder = RunFolder(folder)
    record, config = run_folder.read(), run_folder.read_config()
    if record is None or config is None:
        raise UserError(f"{folder}: no run to mirror (no record.json or no config.yaml)")
    parameters = record.parameters.to_json() if record.parameters else None
    run = _init(
        mirror,
        folder,
        id=run_id(record),
        group=record.sweep,
        job_type=record.row[:64],
        name=f"{record.row} · seed {record.seed}",
        tags=[tag[:64] for tag in record.tags],
        config={**config, "sweep": record.sweep, "row": record.row, "parameters": parameters},
    )
    for kind in ("train", "validation"):
        run.define_metric(f"{kind}/*", step_metric="step")
    state = folder / "wandb" / STATE
    done = step if isinstance(step := read_json(state).get("step"), int) else 0
    for row in _rows(run_folder.metrics, lambda: _has_ended(run_folder)):
        step = int(row["step"])
        if step >= done:
            numbers = {f"{row['kind']}/{name}": value for name, value in _numbers(row).items()}
            run.log({"step": step, **numbers}, step=step)
        done = max(done, step)
    record = run_folder.read() or record
    run.summary.update(_summary(record))
    run.finish(exit_code=0 if record.status == DONE else 1)
    state.write_text(json.dumps({"step": done + 1}))
    _send(mirror, Path(run.settings.sync_dir), key)


def run_id(record: Record) -> str:
    """What W&B knows a run by."""
    words = [record.sweep, record.row, record.seed, record.identity]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def mirror_report(mirror: Mirror, folder: Path, sweep: str, report: Path, key: str | None) -> None:
    """Write a sweep's tables and plots to W&B as the run `report` of its group; once for each state of its results."""
    import wandb

    tables = [path for path in (report / "results.csv", report / "runs.csv") if path.exists()]
    state = hashlib.sha256(b"".join([sweep.encode(), *(path.read_bytes() for path in tables)])).hexdigest()[:16]
    if list((folder / "wandb").glob(f"offline-run-*-{state}")):
        return
    run = _init(mirror, folder, id=state, group=sweep, job_type="report", name=f"{sweep} · report", tags=["report"])
    for path in tables:
        header, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        data = [[_value(cell) for cell in row] for row in rows]
        run.log({path.stem: wandb.Table(columns=[*header], data=[*data], allow_mixed_types=True)})
    for path in sorted(report.glob("*.png")):
        run.log({f"plots/{path.stem}": wandb.Image(str(path))})
    run.finish()
    _send(mirror, Path(run.settings.sync_dir), key)


def _init(mirror: Mirror, folder: Path, **options: Any) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off", disable_git=True, disable_code=True, save_code=False, silent=True, x_disable_stats=True
    )
    return wandb.init(
        mode="offline", dir=str(folder), project=mirror.project, entity=mirror.entity, settings=settings, **options
    )


def _rows(path: Path, has_ended: Callable[[], bool]) -> Iterator[dict[str, str]]:
    """The rows of metrics.csv as they are written; the last line counts once it is whole."""
    seen = 0
    header: list[str] = []
    while True:
        ended = has_ended()
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        if lines and not header:
            header, seen = lines[0].split(","), 1
        for line in lines[seen:]:
            yield dict(zip(header, line.split(","), strict=False))
        seen = max(seen, len(lines))
        if ended:
            return
        time.sleep(POLL_SECONDS)


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


def _send(mirror: Mirror, folder: Path, key: str | None) -> None:
    """Hand an offline run to `wandb sync`, which alone is given the key."""
    by_hand = f"`wandb sync {folder}` sends it"
    if not mirror.sync_seconds or not (key or _has_login()):
        say(f"written offline; {by_hand}")
        return
    sender = subprocess.Popen(
        [sys.executable, "-m", "wandb", "sync", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **({KEY: key} if key else {})},
    )
    try:
        code = sender.wait(mirror.sync_seconds)
        outcome = "sent" if code == 0 else f"not sent (exit code {code})"
    except subprocess.TimeoutExpired:
        os.killpg(sender.pid, signal.SIGKILL)
        outcome = f"not sent within {mirror.sync_seconds:g} s"
    say(f"{outcome}; {by_hand}")


def _has_login() -> bool:
    import netrc

    import wandb

    try:
        return netrc.netrc().authenticators(urlparse(wandb.Settings().base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def main() -> int:
    """Do what the command line says, out of everybody's way."""
    os.nice(10)
    key = os.environ.pop(KEY, None)
    job = json.loads(sys.argv[1])
    mirror, folder = Mirror(**job["mirror"]), Path(job["folder"])
    if job["what"] == "follow":
        mirror_run(mirror, folder, key)
    else:
        sweep, report = job["more"]
        mirror_report(mirror, folder, sweep, Path(report), key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
