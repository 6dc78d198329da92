"""A stand-in for training: runs that take moments, and go wrong when their row is told to.

The behaviour of each row stands in the JSON file named by $FAKE_BEHAVIOUR; each finished run adds a line to `trace`
beside it.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from ablate.config import identity, resolved, restored
from ablate.config.identity import SCHEMA as IDENTITY_SCHEMA
from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder, run_path, set_content_aside
from ablate.run.lock import Busy
from ablate.run.record import SCHEMA, Data, Loss, Record

DATA = "a" * 64


def prepare(job):
    """Pretend that every corpus is there."""
    errors = _behaviours().get("preparing")
    unfit = _behaviours().get("unfit", {})  # by topology, the rows that do not fit it, and why
    refused = {row: why for row, why in (unfit.get(_topology(job)) or {}).items() if row in job["rows"]}
    if needed := [row for row in refused if row in job["needed"]]:
        errors = [f"{row}: {refused[row]}" for row in needed]
    found = {"errors": errors} if errors else {"sha256": [DATA for _ in job["configs"]], "refused": refused}
    atomic_write(Path(job["result"]), json.dumps(found))
    return 2 if errors else 0


def _topology(job):
    return next(iter(job["rows"].values()))["topology"]["_target_"].rpartition(".")[2]


def measure(job):
    """A made-up speed: a list of them, one a round, where the row is told to, then the last of them again."""
    row = job["config"]["row"]
    _trace("measure", row)
    if _behaviours().get("measuring") == "slow":
        time.sleep(1000)
    measured = (Path(os.environ["FAKE_BEHAVIOUR"]).parent / "trace").read_text().splitlines().count(f"measure {row}")
    speeds = (_behaviours().get("speeds") or {}).get(row, [100.0])
    atomic_write(Path(job["result"]), json.dumps({"steps_per_second": speeds[min(measured, len(speeds)) - 1]}))


def try_out(job):
    """A run that would start in 2 s, with steps of 0.1 s and evaluations of 1 s; twice that for Rms."""
    _trace("try", job["config"]["row"])
    if _behaviours().get(job["config"]["row"]) == "exit":
        sys.exit(7)
    factor = 2 if job["config"]["row"] == "Rms" else 1
    atomic_write(Path(job["result"]), json.dumps({"start": 2.0, "step": 0.1 * factor, "evaluation": 1.0}))


def train(job):
    """Beat ten times, then finish, unless the row behaves otherwise."""
    cfg = restored(job["config"])
    folder = RunFolder(run_path(Path(cfg.paths.runs), cfg.sweep, cfg.row, cfg.seed.base))
    try:
        with folder.lock():
            return _train(cfg, job, folder)
    except Busy:
        return 75


def _train(cfg, job, folder):
    import yaml

    record = Record(
        schema=SCHEMA, sweep=cfg.sweep, row=cfg.row, seed=cfg.seed.base, overrides=tuple(job["overrides"]),
        command=job["command"], status="running", identity=identity(cfg, DATA), identity_schema=IDENTITY_SCHEMA,
        data=Data(sha256=DATA),
    )  # fmt: skip
    if folder.examine().is_damaged:
        set_content_aside(folder.path)
    old = folder.read()
    if old and old.status in ("done", "diverged"):
        _trace("again", cfg.row, cfg.seed.base)
        return 0
    (folder.path / "config.yaml").write_text(yaml.safe_dump(resolved(cfg)))
    folder.write(record)
    behaviour = _behaviours().get(cfg.row, "")
    if isinstance(behaviour, dict):
        behaviour = behaviour.get(str(cfg.seed.base), "")
    _trace("start", cfg.row, cfg.seed.base)

    def preempt(*_):
        folder.write(replace(record, status="preempted"))
        os._exit(143)

    signal.signal(signal.SIGTERM, preempt)
    if behaviour == "stuck":
        time.sleep(1000)
    steps, pause = (1000, 0.05) if behaviour == "slow" else (10, 0.005)
    for step in range(1, steps + 1):
        _beat(folder.path, step, steps)
        time.sleep(pause)
        if step == 5:
            _misbehave(behaviour, folder, record)
    final = 5.0 + cfg.seed.base / 100 + len(cfg.row) / 1000
    folder.write(replace(record, status="done", seconds=steps * pause, loss=Loss(early=6.0, final=final)))
    _trace("done", cfg.row, cfg.seed.base)
    return 0


def _misbehave(behaviour, folder, record):
    if behaviour == "raise":
        raise ValueError("the sky fell\non two lines")
    if behaviour == "exit":
        sys.exit(7)
    if behaviour == "exit 0":
        sys.exit(0)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:  # with a child of its own, which has to go as well
            time.sleep(1000)
        time.sleep(1000)
    if behaviour == "fill":
        with open(folder.path / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    if behaviour == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    if behaviour == "failed":
        folder.write(replace(record, status="failed", reason="OutOfMemoryError: no room"))
        os._exit(1)
    if behaviour == "diverged":
        folder.write(replace(record, status="diverged", reason="the loss was nan at step 5"))
        _trace("done", record.row, record.seed)
        os._exit(3)


def _beat(folder, step, steps):
    beat = {"step": step, "steps": steps, "time": time.time(), "loss": 9.0 - step / steps}
    atomic_write(folder / "progress.json", json.dumps(beat))


def _behaviours():
    try:
        return json.loads(Path(os.environ["FAKE_BEHAVIOUR"]).read_text())
    except (KeyError, FileNotFoundError):
        return {}


def _trace(*words):
    if "FAKE_BEHAVIOUR" in os.environ:
        with open(Path(os.environ["FAKE_BEHAVIOUR"]).with_name("trace"), "a") as file:
            file.write(" ".join(map(str, words)) + "\n")
