"""torchrun with a word on what went wrong: `python -m ablate.agent JSON` starts the processes of one run and waits.

torchrun ends all processes when one dies, and each of those may fail first for want of the other: what a run died of
is known here, where the exit codes are. It goes to the run's folder (`RunFolder.death`) and to standard error.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.errors import print_error
from ablate.orphans import AGENT, die_with_parent
from ablate.process_tree import descendants, is_stopped, parent_of, variable
from ablate.run.folder import RunFolder
from ablate.termination import likely_cause, signal_name

NOTICED_AFTER = 10.0  # seconds that a process is stopped until the run's log says so
ENDED_AFTER = 300.0  # seconds that a process is stopped until the run is ended
TO_SAVE = 110  # seconds that the processes have to save after a SIGTERM
LOOK_EVERY = 1.0


def main() -> int:
    """Start `processes` times the module of the job {"processes", "module", "arguments", "folder"}; the exit code."""
    die_with_parent()
    job = json.loads(sys.argv[1])
    os.environ[AGENT] = str(os.getpid())
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    watch = Watch(job["folder"] and RunFolder(job["folder"]))
    watch.start()
    options = ["--standalone", "--nproc_per_node", str(job["processes"]), "--shutdown_timeout", str(TO_SAVE)]
    try:
        run.run(run.parse_args([*options, "-m", job["module"], *job["arguments"]]))
    except SignalException as ended:
        watch.forget()
        return 128 + ended.sigval
    except ChildFailedError as error:
        watch.conclude(watch.verdict or verdict(error.failures, watch.reported()))
        return min(error.failures.values(), key=lambda failure: failure.timestamp).exitcode
    return 0


def verdict(failures: Mapping[int, Any], reported: str) -> str:
    """Which process a run died of, where none has said so: `failures` are torch's, by process; the first come first.

    `reported` is what the processes themselves say. One that was killed has said nothing, and the others wait for it
    or lose their connection. One that hangs says nothing either: the others run into the time limit of a collective
    operation, and it has to be killed after them.
    """
    first = min(failure.timestamp for failure in failures.values())
    for process, failure in failures.items():
        if failure.timestamp <= first + 1 and failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            number = -failure.exitcode
            return f"process {process} was killed ({signal_name(number)}){likely_cause(number)}"
    silent = [str(process) for process, failure in failures.items() if failure.exitcode == -signal.SIGKILL]
    if silent and re.search("time(d )?out", reported, re.IGNORECASE):
        return f"process {' and '.join(silent)} did not answer; the others waited until their time limit"
    return ""


class Watch(threading.Thread):
    """Looks for processes of the run that are stopped, which the others would wait for; ends the run after a while."""

    def __init__(self, folder: RunFolder | None) -> None:
        super().__init__(daemon=True)
        self.folder, self.verdict = folder, ""
        self.seconds: dict[int, float] = {}  # that a process has been seen stopped, one look after the other

    def run(self) -> None:
        """Look until this process ends."""
        while True:
            time.sleep(LOOK_EVERY)
            self.look(workers())

    def look(self, found: Mapping[int, int]) -> None:
        """Judge the processes, {pid: number}, as they are now; time in which this process did not run counts once."""
        stopped = {pid for pid in found if is_stopped(pid)}
        was_noticed = max(self.seconds.values(), default=0.0) >= NOTICED_AFTER
        if was_noticed and not stopped and not self.verdict:
            print_error("no process is stopped any more")
            self.forget()
        self.seconds = {pid: self.seconds.get(pid, 0.0) + LOOK_EVERY for pid in stopped}
        for pid, seconds in self.seconds.items():
            what = f"process {found[pid]} is stopped (SIGSTOP)"
            if NOTICED_AFTER <= seconds < NOTICED_AFTER + LOOK_EVERY:
                print_error(f"{what}; all wait for it, {duration(ENDED_AFTER)} at most")
                self._note(what)
            elif seconds >= ENDED_AFTER and not self.verdict:
                self.verdict = f"process {found[pid]} was stopped (SIGSTOP) for {duration(ENDED_AFTER)}"
                os.kill(pid, signal.SIGKILL)  # torchrun ends the others

    def conclude(self, reason: str) -> None:
        """Say what the run died of, where that is known."""
        if reason:
            print_error(reason)
            self._note(reason)

    def forget(self) -> None:
        """Take back a note on a process that is stopped: it goes on, or the run was asked to end and may resume."""
        self._note("")

    def _note(self, what: str) -> None:
        if self.folder:
            self.folder.write_death(what)

    def reported(self) -> str:
        """What the processes themselves say that they died of."""
        return self.folder.failure() if self.folder else ""


def workers() -> dict[int, int]:
    """The processes of the run, {pid: number}."""
    mine = os.getpid()
    found = {pid: variable(pid, "RANK") for pid in descendants(mine) if parent_of(pid) == mine}
    return {pid: int(rank) for pid, rank in found.items() if rank is not None}


def command(processes: int, module: str, arguments: list[str], folder: Path | None) -> list[str]:
    """The command line that starts this module."""
    job = {"processes": processes, "module": module, "arguments": arguments, "folder": folder and str(folder)}
    return [sys.executable, "-u", "-m", "ablate.agent", json.dumps(job)]


if __name__ == "__main__":
    sys.exit(main())
