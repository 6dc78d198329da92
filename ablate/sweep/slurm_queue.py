"""Which jobs Slurm still has, as `squeue` tells it; it needs no accounting, which many clusters do without.

submitit asks `sacct` alone, and waits for ever for a job that was killed where there is none.
"""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Callable, Sequence

from ablate.duration import duration

ASK_EVERY = 10.0  # seconds
CALL_LIMIT = 30.0  # seconds that a command of Slurm may take, in which nothing else is done
GONE_AFTER = 120.0  # seconds out of the queue until a job without a result counts as ended: files take time to appear
SILENT_AFTER = 3600.0  # seconds without any answer of Slurm after which its jobs count as ended


class Queue:
    """The states of this user's jobs; `state` and `gone` ask Slurm once in a while, for all jobs together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.states: dict[str, str] = {}
        self.missing: dict[str, float] = {}  # since when a job has not been in the queue
        self.has_accounting = True  # until sacct does not answer
        self.asked = float("-inf")
        self.answered = clock()

    def state(self, job: str) -> str:
        """PENDING, RUNNING ... as Slurm calls it; empty where the job is not in the queue, or no answer came yet."""
        self._ask()
        return self.states.get(job, "")

    def gone(self, job: str) -> str:
        """Why a job that has left no result has to be taken for ended; empty as long as it may live."""
        state, now = self.state(job), self.clock()
        if now - self.answered > SILENT_AFTER:
            return f"Slurm has not answered for {duration(now - self.answered)}"
        if state:
            self.missing.pop(job, None)
        if state or self.asked != self.answered:
            return ""
        if now - self.missing.setdefault(job, now) < GONE_AFTER:
            return ""
        known = self._accounted(job)
        return f"vanished from the queue without a result{f' ({known})' if known else ''}"

    def _ask(self) -> None:
        now = self.clock()
        if now - self.asked < ASK_EVERY:
            return
        answer = call("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T")
        self.asked = self.clock()  # one that takes its time is not asked again at once
        if answer is not None:
            self.answered = self.asked
            pairs = (line.split(maxsplit=1) for line in answer.splitlines() if line.strip())
            self.states = {pair[0]: pair[-1].strip() for pair in pairs}

    def _accounted(self, job: str) -> str:
        """The state of a job that has ended, such as OUT_OF_MEMORY, where the cluster keeps account of it."""
        if not self.has_accounting:
            return ""
        answer = call("sacct", "-n", "-X", "-P", "-o", "State", "-j", job)
        self.has_accounting = answer is not None
        return answer.split("\n")[0].strip() if answer else ""


def cancel(jobs: Sequence[str]) -> str:
    """Let Slurm end jobs, all in one call: SIGTERM, and SIGKILL after its KillWait; what to do where that failed."""
    if not jobs or call("scancel", *jobs) is not None:
        return ""
    return f"scancel failed or did not answer, jobs may go on; by hand: scancel {' '.join(jobs)}"


def call(*command: str) -> str | None:
    """What a command of Slurm prints; None where it is absent, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
