"""What a record says of a run."""

from __future__ import annotations

import time

SCHEMA = 1  # of record.json; raised when a key changes its meaning

RUNNING, DONE, DIVERGED, FAILED, PREEMPTED = "running", "done", "diverged", "failed", "preempted"
STATES = (RUNNING, DONE, DIVERGED, FAILED, PREEMPTED)
FINISHED = (DONE, DIVERGED)  # a divergence is a result
STARTING = "starting"  # in progress.json, the phase of a run, begun or resumed, that has not yet taken a step


def now() -> str:
    """The time, UTC, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
