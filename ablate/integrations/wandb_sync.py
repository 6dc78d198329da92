"""W&B's own live sync of one offline run, in a process that alone has the key.

The process ends with the one that started it, however that ends, and so does W&B's service below it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

from ablate.background import insist, leads_session
from ablate.orphans import AGENT, die_with_agent
from ablate.process_tree import descendants, kill_group

KEY, SERVICE = "WANDB_API_KEY", "WANDB_SERVICE"
AGAIN_SECONDS = 60.0  # from one try to the next, as long as the run goes on
POLL_SECONDS = 0.1
LOOK_BYTES = 2**16  # of the end of what W&B prints, which is looked at every second
FATAL = "Fatal error"  # what W&B prints when the service refuses a run's lines; it goes on and exits with 0


class Sync:
    """Sends the offline run in `folder` while it is written; tried again where W&B gives up before its end."""

    def __init__(self, folder: Path, key: str | None) -> None:
        self.folder, self.key = folder.resolve(), key
        self.log = self.folder.parent / "sync.log"
        self.process: subprocess.Popen | None = None
        self.next_try = 0.0
        self.has_stepped_back = False  # W&B's service below it, which has a session of its own

    def keep_on(self) -> None:
        """Start it, or start it again after a while; to be called now and then."""
        if self.process and (self.process.poll() is not None or self._was_refused()):
            self._stop()
        if self.process is None and time.monotonic() >= self.next_try:
            self._start()
        if self.process and not self.has_stepped_back:
            self.has_stepped_back = services_step_back(self.process.pid)

    def finish(self, seconds: float) -> str:
        """Send what is left of the run, which has ended, within so many seconds; says what went wrong, if anything."""
        until = time.monotonic() + seconds
        if self.process is None:
            self._start()
        tries_left = 1  # more than the one that runs: it may have failed a while ago, or know a part of the run only
        while not self._is_sent():
            if time.monotonic() >= until:
                self._stop()
                return f"not all within {seconds:g} s{self._reason()}"
            if self.process is None or self.process.poll() is not None or self._was_refused():
                self._stop()
                if not tries_left:
                    return f"W&B gave up{self._reason()}"
                tries_left -= 1
                self._start()
            time.sleep(POLL_SECONDS)
        return ""

    def _start(self) -> None:
        self.next_try = time.monotonic() + AGAIN_SECONDS
        with contextlib.suppress(OSError), open(self.log, "wb") as log:  # no memory for it now: tried again
            self._marker().unlink(missing_ok=True)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ablate.integrations.wandb_sync", str(self.folder)],
                cwd=self.folder.parent.parent,  # where W&B puts a log of its own, in wandb/logs
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment(),
            )
            self.has_stepped_back = False
            insist(self.process.pid)

    def _environment(self) -> dict[str, str]:
        """This process's, with the key and without the service that it writes by, which would not end with the sync."""
        own = {name: value for name, value in os.environ.items() if name != SERVICE}
        return {**own, AGENT: str(os.getpid()), **({KEY: self.key} if self.key else {})}

    def _stop(self) -> None:
        if self.process:
            kill_group(self.process.pid)
            self.process.wait()
            self.process = None
            self._marker().unlink(missing_ok=True)  # W&B sets it on a run that was refused, too, and would skip it then

    def _is_sent(self) -> bool:
        has_ended_well = self.process is not None and self.process.poll() == 0
        return has_ended_well and self._marker().exists() and not self._was_refused()

    def _was_refused(self) -> bool:
        return FATAL in self._said()

    def _said(self) -> str:
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - LOOK_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def _reason(self) -> str:
        """The last thing that W&B says went wrong, behind a colon."""
        lines = [line.removeprefix("wandb: ") for line in self._said().splitlines()]
        found = [line for line in lines if any(word in line.lower() for word in ("error", "refused", "failed"))]
        return f": {' '.join(found[-1].split())[:200]}" if found else ""

    def _marker(self) -> Path:
        """The file that W&B lays beside a run that it has sent."""
        return next(self.folder.glob("*.wandb"), self.folder / "run.wandb").with_suffix(".wandb.synced")


def services_step_back(pid: int) -> bool:
    """Give W&B's services below a process a low priority; whether there are any yet."""
    services = [one for one in descendants(pid) if leads_session(one)]
    for service in services:
        insist(service)
    return bool(services)


def may_send(key: str | None) -> bool:
    """Whether there is a key, or a login of W&B's in ~/.netrc."""
    return bool(key) or _has_login()


def _has_login() -> bool:
    import netrc

    import wandb

    try:
        return netrc.netrc().authenticators(urlparse(wandb.setup().settings.base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def main() -> None:
    """Become W&B's command, which the kernel kills when the process that asked for it dies."""
    die_with_agent()
    command = ["wandb", "beta", "sync", "--live", "--no-skip-synced", sys.argv[1]]
    os.execv(sys.executable, [sys.executable, "-m", *command])


if __name__ == "__main__":
    main()
