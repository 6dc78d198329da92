"""Ways to start a job in a process of its own: forked, fresh, under torchrun, or on a Slurm cluster.

A starter's `start(entry, argument, log, trainer)` returns a handle; a handle's `poll()` is None while the job lives,
then its exit code (negative: the signal that ended it), and `stop(signal)` reaches every process of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.orphans import die_with_parent
from ablate.run.files import follow_no_link
from ablate.sweep import fork_server
from ablate.sweep.devices import Slots, uses_gpu
from ablate.training.processes import TO_SAVE


@dataclass(frozen=True)
class Program:
    """What jobs call ("module:function"), and the module whose imports the fork server pays for."""

    train: str = "ablate.sweep.child:train"
    prepare: str = "ablate.sweep.child:prepare"
    measure: str = "ablate.sweep.child:measure"
    preload: str = "ablate.sweep.preload"


class Starters:
    """Starts each job on this machine, in the way that its devices call for, `jobs` at a time."""

    can_time = True  # a speed measured here is one of this machine alone

    def __init__(self, program: Program, jobs: int):
        self.program, self.jobs = program, jobs
        self.forked, self.slots = Forked(program.preload), Slots()

    def batch(self) -> AbstractContextManager[None]:
        """Around several starts."""
        return nullcontext()

    def start(self, entry: str, argument: Any, log: Path, trainer: Any) -> ForkedJob | FreshJob:
        """Start a job that will compute as `trainer` (a config) says: forked for one CPU process, else fresh."""
        if trainer.devices == 1 and not uses_gpu(trainer):
            return self.forked.start(entry, argument, log)
        gpus = self.slots.take(trainer.devices) if uses_gpu(trainer) else []
        variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        handle = start_fresh(entry, argument, log, trainer.devices, variables)
        handle.release = lambda: self.slots.give_back(gpus)
        return handle

    def close(self) -> None:
        """End the fork server."""
        self.forked.close()


class Forked:
    """Jobs forked from a fork server, which is started at the first need."""

    def __init__(self, preload: str):
        self.preload = preload
        self.server: subprocess.Popen | None = None
        self.handles: dict[int, ForkedJob] = {}
        self.received = b""

    def warm_up(self) -> None:
        """Begin the imports, and do not wait for them."""
        if self.server is None:
            self.ready = False
            self.server, self.channel = fork_server.start(self.preload)
            self.channel.setblocking(False)

    def start(self, entry: str, argument: Any, log: Path) -> ForkedJob:
        """Fork a process that calls `entry` with `argument`, its output going to the end of `log`."""
        self.warm_up()
        handle = ForkedJob(self)
        number = len(self.handles)
        self.handles[number] = handle
        request = {"id": number, "entry": entry, "argument": argument, "log": str(log.absolute())}
        self.channel.setblocking(True)
        try:
            self.channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            handle.exit = 1  # the server died; listen() says so to every job that it had
        self.channel.setblocking(False)
        return handle

    def listen(self) -> None:
        """Take in the events of the server."""
        while self.server is not None:
            try:
                data = self.channel.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                if not self.ready:
                    raise RuntimeError("the process that preloads the imports has died; see its output above")
                for handle in self.handles.values():
                    if handle.exit is None:
                        handle.exit = -signal.SIGKILL if handle.pid else 1
                self.server.wait()
                self.server, self.handles = None, {}
                return
            *events, self.received = (self.received + data).split(b"\n")
            for event in map(json.loads, events):
                if "ready" in event:
                    self.ready = True
                else:
                    self.handles[event["id"]].take(event)

    def close(self) -> None:
        """End the server and whatever still runs under it."""
        if self.server is not None:
            self.channel.close()
            self.server.wait()
            self.server, self.handles = None, {}


class ForkedJob:
    """A job under a fork server."""

    waits = False  # for its turn

    def __init__(self, starter: Forked):
        self.starter = starter
        self.pid: int | None = None
        self.exit: int | None = None
        self.pending: int | None = None  # a signal for it, once it is forked

    def take(self, event: dict[str, Any]) -> None:
        """What the server says of this job."""
        self.pid = event.get("pid", self.pid)
        self.exit = event.get("exit", self.exit)
        if self.pending is not None and self.exit is None:
            self.stop(self.pending)

    def poll(self) -> int | None:
        """None while it lives, then its exit code."""
        self.starter.listen()
        return self.exit

    def stop(self, number: int) -> None:
        """Send a signal to all its processes; one that is not yet forked gets it as soon as it is."""
        self.pending = number if self.pid is None else None
        if self.pid is not None and self.exit is None:
            send_to_tree(self.pid, number)


def start_fresh(
    entry: str, argument: Any, log: Path, devices: int = 1, variables: dict[str, str] | None = None
) -> FreshJob:
    """Start a new interpreter, or `devices` of them under torchrun, that calls `entry` with `argument`."""
    command = [sys.executable, "-u", "-m"]
    if devices > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), "-m"]
    command += ["ablate.sweep.child", entry, json.dumps(argument)]
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with open(log, "ab", opener=follow_no_link) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is the driver's business
            preexec_fn=die_with_parent,
            env={**TO_SAVE, **fork_server.environment(), "PYTHONPATH": path, **(variables or {})},
        )
    return FreshJob(process)


class FreshJob:
    """A job in a process tree of its own."""

    waits = False  # for its turn

    def __init__(self, process: subprocess.Popen):
        self.process, self.pid = process, process.pid
        self.release = lambda: None

    def poll(self) -> int | None:
        """None while it lives, then its exit code."""
        code = self.process.poll()
        if code is not None:
            self.release()
            self.release = lambda: None
        return code

    def stop(self, number: int) -> None:
        """Send a signal: SIGTERM to its first process, anything else to all of them."""
        if self.process.poll() is None:
            send_to_tree(self.pid, number)


def send_to_tree(pid: int, number: int) -> None:
    """Send a signal: SIGTERM to the first process, which saves and passes it on to its own; others to the whole tree.

    The tree is more than the group, because torchrun gives each worker a session of its own.
    """
    family = [pid] if number == signal.SIGTERM else [pid, *descendants(pid)]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, number)


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold blanks; the parent is the second word after it.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    family, found = [pid], []
    while family:
        more = children.get(family.pop(), [])
        family += more
        found += more
    return found
