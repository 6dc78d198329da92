"""What a run shows in a terminal, and what elsewhere; in terminals of 80 columns that the tests open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import struct
import sys
import termios

import pytest

from ablate.terminal import without_sequences
from ablate.training import callback, metrics
from ablate.training.bar import Bar
from tests.training.standin import in_child, start, wait


@pytest.fixture
def terminal(monkeypatch):
    """Both ends of a terminal: what is read from, and what programs print to."""
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield master, slave
    for end in (master, slave):
        with contextlib.suppress(OSError):
            os.close(end)


def read(master):
    """All that was printed, once nobody can print any more."""
    found = b""
    with contextlib.suppress(OSError):
        while part := os.read(master, 65536):
            found += part
    return found.decode()


@pytest.mark.timeout(60)
def test_a_run_in_a_terminal_has_a_bar_with_its_latest_loss(asked, terminal):
    master, slave = terminal

    def in_a_terminal():
        sys.stdout = os.fdopen(os.dup(slave), "w")
        os.close(slave)
        metrics.BEAT_SECONDS = 0.0

    pid = start(asked(), in_a_terminal)
    os.close(slave)
    said = read(master)
    assert wait(pid) == 0
    drawn = re.findall(r"(\w+) +([━╸╺]+) +step (\d+)/40  loss ([\d.]+)", without_sequences(said))
    assert {phase for phase, *_ in drawn} == {"training", "evaluating"}
    assert {int(step) for _, _, step, _ in drawn} > set(range(5, 40))
    assert len({bar for _, bar, *_ in drawn}) > 1 and len({loss for *_, loss in drawn}) > 5
    held_out = re.search(r"step 40/40  held-out loss [\d.]+ nats a token", without_sequences(said))
    assert held_out and "\x1b[?25h" in said[-200:]  # what is said stays, and the cursor is back


def test_what_a_run_writes_elsewhere_are_plain_lines(asked, tmp_path, monkeypatch):
    def lines_at_once():
        sys.stdout = os.fdopen(os.dup(1), "w")
        metrics.BEAT_SECONDS = callback.LINE_SECONDS = 0.0

    assert in_child(asked(), lines_at_once, output=tmp_path / "log") == 0
    said = (tmp_path / "log").read_text()
    assert re.search(r"^step 30/40  loss [\d.]+  [\d.]+ steps/s  0:00 left$", said, re.MULTILINE)
    assert "\x1b" not in said and "━" not in said


def test_it_fits_into_80_columns(terminal):
    master, slave = terminal
    with os.fdopen(slave, "w") as out, Bar(100_000, out) as bar:
        bar.show("evaluating", 99_999, 12.3456, 0.0123)
    os.set_blocking(master, False)
    lines = without_sequences(read(master)).replace("\r", "\n").splitlines()
    assert any("left" in line for line in lines) and all(len(line) <= 80 for line in lines)


class Gone(io.StringIO):
    """A terminal that goes away between two looks at it."""

    is_gone = False

    def isatty(self):
        return True

    def write(self, text):
        if self.is_gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


def test_a_terminal_that_is_gone_ends_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out, before = Gone(), sys.stdout
    with Bar(10, out) as bar:
        bar.show("training", 3, 2.5, 10.0)
        assert bar.is_shown and "step 3/10  loss 2.5000" in out.getvalue()
        out.is_gone = True
        bar.show("training", 4, 2.5, 10.0)
        assert not bar.is_shown
        bar.show("training", 5, 2.5, 10.0)
    assert sys.stdout is before


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_gets_none(term, terminal, monkeypatch):
    monkeypatch.setenv("TERM", term)
    with os.fdopen(terminal[1], "w") as out, Bar(10, out) as bar:
        assert not bar.is_shown


def test_only_the_process_that_writes_draws(terminal):
    with os.fdopen(terminal[1], "w") as out:
        assert not Bar(10, out, is_wanted=False).is_shown
