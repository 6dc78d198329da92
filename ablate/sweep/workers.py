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
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import agent
from ablate.errors import UserError, print_error
from ablate.machine import uses_gpu
from ablate.orphans import die_with_parent
from ablate.process_tree import ask_to_end, descendants, is_stopped, kill_group
from ablate.run.files import follow_no_link
from ablate.run.folder import RunFolder
from ablate.sweep import fork_server
from ablate.sweep.devices import Slots
from ablate.termination import signal_name

RESTARTS = 2  # of a fork server that is killed while it imports
STOPPED_SERVER = 5.0  # seconds between two looks at whether the fork server is stopped


@dataclass(frozen=True)
class Program:
    """What jobs call ("module:function"), and the module whose imports the fork server pays for."""

    train: str = "ablate.sweep.child:train"
    prepare: str = "ablate.sweep.child:prepare"
    measure: str = "ablate.sweep.child:measure"
    try_out: str = "ablate.sweep.child:try_out"
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

    def stop(self, handles: Sequence[Any], number: int) -> str:
        """Send a signal to jobs; returns what to do by hand where that failed, which it cannot here."""
        for handle in handles:
            handle.stop(number)
        return ""

    def close(self) -> None:
        """End the fork server."""
        self.forked.close()


class Forked:
    """Jobs forked from a fork server, which is started at the first need."""

    def __init__(self, preload: str):
        self.preload = preload
        self.server: subprocess.Popen | None = None
        self.handles: dict[int, ForkedJob] = {}
        self.died = 0  # before it was ready

    def warm_up(self) -> None:
        """Begin the imports, and do not wait for them."""
        if self.server is None:
            self.ready, self.received, self.outgoing, self.looked = False, b"", b"", time.monotonic()
            self.server, self.channel = fork_server.start(self.preload)
            self.channel.setblocking(False)

    def start(self, entry: str, argument: Any, log: Path) -> ForkedJob:
        """Fork a process that calls `entry` with `argument`, its output going to the end of `log`."""
        self.warm_up()
        number = len(self.handles)
        request = {"id": number, "entry": entry, "argument": argument, "log": str(log.absolute())}
        handle = self.handles[number] = ForkedJob(self, json.dumps(request).encode() + b"\n")
        self.outgoing += handle.request
        self._send()
        return handle

    def _send(self) -> None:
        """Send what the socket takes; it may be full while the server imports, and nobody waits for that."""
        with suppress(OSError):  # a server that has died is found out by what is received
            while self.outgoing:
                self.outgoing = self.outgoing[self.channel.send(self.outgoing) :]

    def listen(self) -> None:
        """Take in the events of the server."""
        self._wake()
        while self.server is not None:
            self._send()
            try:
                data = self.channel.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._bury()
                return
            *events, self.received = (self.received + data).split(b"\n")
            for event in map(json.loads, events):
                if "ready" in event:
                    self.ready = True
                else:
                    self.handles[event["id"]].take(event)

    def _wake(self) -> None:
        """Continue a server that somebody has stopped: its runs would end, and nobody hear of it."""
        now = time.monotonic()
        if self.server is not None and now - self.looked > STOPPED_SERVER:
            self.looked = now
            if is_stopped(self.server.pid):
                print_error(f"the fork server (process {self.server.pid}) was stopped; it is continued")
                self.server.send_signal(signal.SIGCONT)

    def _bury(self) -> None:
        """The server has closed its end: its runs are lost; without any, start another one."""
        server, handles = self.server, self.handles
        assert server is not None
        code = _end(server, 5.0)
        self.server, self.handles = None, {}
        if self.ready:
            for handle in handles.values():
                handle.lose(-signal.SIGKILL if handle.pid else 1)
            return
        self.died += 1
        how = f"was killed ({signal_name(-code)})" if code < 0 else f"exited with code {code}"
        if code >= 0 or self.died > RESTARTS:
            raise UserError(f"the process that preloads the imports {how}; its output, above, may say why")
        print_error(f"the process that preloads the imports {how}; another is started")
        self.warm_up()
        self.handles = handles
        self.outgoing = b"".join(handle.request for handle in handles.values() if handle.exit is None)

    def close(self) -> None:
        """End the server and whatever still runs under it."""
        if self.server is not None:
            self.channel.close()
            self.server.send_signal(signal.SIGCONT)
            _end(self.server, fork_server.GRACE + 15.0 if self.ready else 0.0)
            self.server, self.handles = None, {}


def _end(process: subprocess.Popen, seconds: float) -> int:
    """Wait so long for a process, then kill it; returns its exit code."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        return process.wait(ForkedJob.kill_seconds)
    except subprocess.TimeoutExpired:  # the system does not let go of it, as where a network disk hangs
        return -signal.SIGKILL


class ForkedJob:
    """A job under a fork server."""

    waits = False  # for its turn
    reason = ""  # why it ended, where the way to start it knows
    kill_seconds = 10.0  # until one that was sent SIGKILL counts as ended

    def __init__(self, starter: Forked, request: bytes):
        self.starter, self.request = starter, request
        self.pid: int | None = None
        self.exit: int | None = None
        self.pending: int | None = None  # a signal for it, once it is forked
        self.killed: float | None = None  # when it was to be killed

    def take(self, event: dict[str, Any]) -> None:
        """What the server says of this job."""
        self.pid = event.get("pid", self.pid)
        self.exit = event.get("exit", self.exit)
        if self.pending is not None and self.exit is None:
            self.stop(self.pending)

    def lose(self, code: int) -> None:
        """Its server is gone, and it with it; what it started itself may not be."""
        if self.exit is None:
            self.exit = code
            if self.pid is not None:
                kill_group(self.pid)

    def poll(self) -> int | None:
        """None while it lives, then its exit code."""
        if self.exit is None:
            self.starter.listen()
        if self.exit is None and self.killed is not None and time.monotonic() - self.killed > self.kill_seconds:
            self.exit = -signal.SIGKILL  # the server that should say so does not answer
        return self.exit

    def stop(self, number: int) -> None:
        """Send a signal to all its processes; one that is not yet forked gets it as soon as it is."""
        if number == signal.SIGKILL and self.killed is None:
            self.killed = time.monotonic()
        self.pending = number if self.pid is None else None
        if self.pid is not None and self.exit is None:
            send_to_tree(self.pid, number)

    def obstacle(self) -> str:
        """What keeps it from going on, where that is known."""
        return stopped_below(self.pid) if self.pid else ""


def start_fresh(
    entry: str, argument: Any, log: Path, devices: int = 1, variables: dict[str, str] | None = None
) -> FreshJob:
    """Start a new interpreter, or `devices` of them under torchrun, that calls `entry` with `argument`."""
    module, arguments = "ablate.sweep.child", [entry, json.dumps(argument)]
    command = [sys.executable, "-u", "-m", module, *arguments]
    if devices > 1:
        folder = log.parent if RunFolder(log.parent).log == log else None  # of a run
        command = agent.command(devices, module, arguments, folder)
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
            env={**fork_server.environment(), "PYTHONPATH": path, **(variables or {})},
        )
    return FreshJob(process)


class FreshJob:
    """A job in a process tree of its own."""

    waits = False  # for its turn
    reason = ""  # why it ended, where the way to start it knows
    kill_seconds = 10.0  # that it may take to die of SIGKILL

    def __init__(self, process: subprocess.Popen):
        self.process, self.pid = process, process.pid
        self.release = lambda: None

    def poll(self) -> int | None:
        """None while it lives, then its exit code."""
        if self.process.returncode is None:
            end_group_of(self.pid)
        code = self.process.poll()
        if code is not None:
            self.release()
            self.release = lambda: None
        return code

    def stop(self, number: int) -> None:
        """Send a signal: SIGTERM to its first process, anything else to all of them."""
        if self.process.poll() is None:
            send_to_tree(self.pid, number)

    def obstacle(self) -> str:
        """What keeps it from going on, where that is known."""
        return stopped_below(self.pid)


def end_group_of(pid: int) -> None:
    """Kill what a child of this process, the leader of its group, has left running, if it has ended itself.

    It is not yet waited for, so that its id cannot have become another's.
    """
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        kill_group(pid)


def stopped_below(pid: int) -> str:
    """Words for the first stopped process of a tree; empty where none is."""
    stopped = [member for member in (pid, *descendants(pid)) if is_stopped(member)]
    return f"its process {stopped[0]} is stopped (SIGSTOP)" if stopped else ""


def send_to_tree(pid: int, number: int) -> None:
    """Send a signal: SIGTERM to the first process, which saves and passes it on to its own; others to the whole tree.

    The tree is more than the group, because torchrun gives each worker a session of its own.
    """
    if number == signal.SIGTERM:
        ask_to_end(pid)
        return
    for member in (pid, *descendants(pid)):
        with suppress(ProcessLookupError):
            os.kill(member, number)
