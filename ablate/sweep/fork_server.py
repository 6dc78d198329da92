"""A process that has imported everything once and then forks a run for each request.

    driver ── socket ──> fork server ── fork ──> run, in its own session
                         (imports paid once, no threads)

Both ends speak JSON lines. The driver sends {"id", "entry": "module:function", "argument", "log"}; the server answers
{"ready"}, {"id", "pid"} and {"id", "exit"}. When the driver is gone, however it went, the socket
closes: the server ends its runs (SIGTERM, so that they save, then SIGKILL) and itself; what is stopped is continued for
that. When the server is killed, the kernel kills the runs.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

from ablate import allocator, garbage
from ablate.data.cpu_count import cores
from ablate.errors import disk_error, print_error
from ablate.orphans import die_with_parent, wake_without_parent
from ablate.process_tree import ask_to_end, kill_group
from ablate.run.files import follow_no_link

ENVIRONMENT = {  # read when a process starts
    **allocator.ENVIRONMENT,
    "OMP_NUM_THREADS": "1",  # a run sets its own number; threads made before a fork would be lost in it
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
GRACE = 60.0  # seconds that a run has to save itself after SIGTERM


def environment() -> dict[str, str]:
    """The variables a run is started with: this process's, and `ENVIRONMENT` where it says nothing.

    Text is prepared on as many cores as without a sweep.
    """
    return {**ENVIRONMENT, "RAYON_NUM_THREADS": str(cores()), **os.environ}


def start(preload: str) -> tuple[subprocess.Popen, socket.socket]:
    """Start a server that imports the module `preload`; returns its process and the driver's end of the socket."""
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-m", "ablate.sweep.fork_server", preload, str(theirs.fileno()), str(os.getpid())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is the driver's business
        preexec_fn=wake_without_parent,
        env={**environment(), "PYTHONPATH": path},
    )
    theirs.close()
    return process, ours


class _Server:
    def __init__(self, channel: socket.socket):
        self.channel = channel
        self.running: dict[int, int] = {}
        self.ending = False

    def serve(self) -> None:
        """Fork runs until the driver is gone."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        signal.set_wakeup_fd(wake_write)
        self.close_in_child = [wake_read, wake_write]
        self._tell(ready=True)
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while not self.ending:
                for key, _ in selector.select():
                    if key.fileobj is self.channel:
                        data = self.channel.recv(65536)
                        if not data:
                            self.ending = True
                            break
                        *requests, received = (received + data).split(b"\n")
                        for request in requests:
                            self._fork(json.loads(request))
                    else:
                        os.read(wake_read, 65536)
                        self._reap()
        self._stop_all()

    def _end(self, *_: Any) -> None:
        self.ending = True

    def _tell(self, **event: Any) -> None:
        try:
            self.channel.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            self.ending = True

    def _fork(self, request: dict[str, Any]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            die_with_parent()
            if os.getppid() != server:  # it died before the kernel knew that we care
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self.channel.close()
            for descriptor in self.close_in_child:
                os.close(descriptor)
            code = 1
            try:
                code = call(request["entry"], request["argument"], request["log"])
            finally:
                os._exit(code)  # whatever comes, this is no server
        self.running[pid] = request["id"]
        self._tell(id=request["id"], pid=pid)

    def _reap(self) -> None:
        while self.running:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self.running:
                kill_group(pid)  # what the run has left running; its id is still its own
            _, status = os.waitpid(pid, 0)
            if pid in self.running:
                self._tell(id=self.running.pop(pid), exit=os.waitstatus_to_exitcode(status))

    def _stop_all(self) -> None:
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 5.0)):
            for pid in self.running:
                if number == signal.SIGKILL:
                    kill_group(pid)  # whatever it started as well
                else:
                    ask_to_end(pid)
            deadline = time.monotonic() + patience
            while self.running and time.monotonic() < deadline:
                self._reap()
                time.sleep(0.02)


def call(entry: str, argument: Any, log: str | None) -> int:
    """Run `entry` ("module:function"), its output going to the end of `log` if there is one; returns its exit code."""
    code = 1
    try:
        if log:
            _send_output_to(log)
        module, _, function = entry.partition(":")
        result = getattr(importlib.import_module(module), function)(argument)
        code = result if isinstance(result, int) else 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        with suppress(OSError):  # the log is on the disk that is full
            if trouble := disk_error(error):
                print_error(trouble)
            else:
                traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    return code & 0xFF


def _send_output_to(log: str) -> None:
    os.makedirs(os.path.dirname(log), exist_ok=True)
    descriptor = follow_no_link(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def main() -> None:
    preload, descriptor, driver = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    with garbage.kept():  # and so no page is written, which then had to be copied, to look for any in a run
        importlib.import_module(preload)
    if os.getppid() != driver:  # it died while we were importing; the socket will say so too
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _Server(channel).serve()


if __name__ == "__main__":
    main()
