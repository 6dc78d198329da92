"""A closed terminal or a lost ssh: SIGHUP saves the run, as SIGTERM does; under nohup nothing happens."""

import fcntl
import os
import signal
import termios
import time

import pytest

from ablate.training.progress import Progress
from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run, start, wait


def test_a_hangup_saves_the_run_which_goes_on_as_if_nothing_had_been(asked):
    whole, overrides = asked("sweep=whole"), asked()
    assert run(whole).status == "done"
    assert in_child(overrides, faults.at_step(20, signal.SIGHUP)) == 143
    folder = folder_of(overrides)
    record = folder.read()
    assert record.status == "preempted" and record.step in (20, 21) and "SIGHUP" in record.reason
    assert run(overrides).status == "done"
    assert result(folder) == result(folder_of(whole))


def test_under_nohup_it_goes_on(asked):
    def ignored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        faults.at_step(20, signal.SIGHUP)()

    overrides = asked()
    assert in_child(overrides, ignored) == 0
    assert folder_of(overrides).read().status == "done"


@pytest.mark.timeout(60)
def test_a_terminal_that_is_closed(asked, tmp_path):
    """Really: the run prints to a terminal of its own, whose other end goes away."""
    master, slave = os.openpty()

    def in_a_terminal():
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for descriptor in (0, 1, 2):
            os.dup2(slave, descriptor)
        take = Progress.take

        def slow(self, *numbers):
            take(self, *numbers)
            if self.step >= 20:
                (tmp_path / "trains").touch()
                time.sleep(0.1)

        Progress.take = slow

    overrides = asked()
    pid = start(overrides, in_a_terminal)
    os.close(slave)
    while not (tmp_path / "trains").exists():
        time.sleep(0.02)
    os.close(master)
    assert wait(pid) == 143
    record = folder_of(overrides).read()
    assert record.status == "preempted" and "SIGHUP" in record.reason and record.step < 40
