"""Waiting for a lock: its holder is named, one that is stopped or has ended is not waited for for ever."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ablate.process_tree import exists, is_stopped
from ablate.run import lock_holder
from ablate.run.lock import Busy, held, held_in_turn, renew

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]

HOLD = """
import os, sys, time
from pathlib import Path
from ablate.run.lock import held
with held(Path(sys.argv[1])):
    if sys.argv[2] == "leave":  # a child that has the lock's descriptor, too
        if os.fork():
            print("held", os.getpid(), flush=True)
            os._exit(0)
    else:
        print("held", os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """`holder(how)`: a process that holds the lock `tmp_path/lock`; its process id."""
    started = []

    def start(how="stay"):
        line = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), how]
        started.append(subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True))
        word, pid = started[-1].stdout.readline().split()
        assert word == b"held"
        return int(pid)

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        time.sleep(0.01)


def test_the_holder_is_named_after_a_moment(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_holder, "NAMED_AFTER", 0.5)
    pid, said, began = holder(), [], time.monotonic()
    with held_in_turn(tmp_path / "lock", waiting=said.append, until=lambda: time.monotonic() - began > 1.5) as is_mine:
        assert not is_mine
    (line,) = said
    assert line.startswith(f"process {pid} on {os.uname().nodename} since 20") and "stopped" not in line


def test_a_short_wait_says_nothing(holder, tmp_path):
    pid, said = holder(), []
    os.kill(pid, signal.SIGKILL)
    with held_in_turn(tmp_path / "lock", waiting=said.append) as is_mine:
        assert is_mine and not said
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_stopped_holder_is_said_with_what_helps_and_given_up(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_holder, "NAMED_AFTER", 0.0)
    monkeypatch.setattr(lock_holder, "IDLE_LIMIT", 1.5)
    pid, said = holder(), []
    stop(pid)
    began = time.monotonic()
    told = rf"no sign of life for 2 s of process {pid} on .*; it is stopped \(SIGSTOP\)"
    with pytest.raises(Busy, match=told), held_in_turn(tmp_path / "lock", waiting=said.append):
        pytest.fail("it has the lock")
    assert 1.0 < time.monotonic() - began < 10
    (line,) = said
    assert f"`kill -CONT {pid}` continues it" in line and "it is waited for 2 s" in line


def test_one_that_is_continued_is_waited_for(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_holder, "NAMED_AFTER", 0.0)
    pid, said = holder(), []
    stop(pid)

    def waiting(words):
        said.append(words)
        os.kill(pid, signal.SIGCONT if len(said) == 1 else signal.SIGKILL)

    with held_in_turn(tmp_path / "lock", waiting=waiting) as is_mine:
        assert is_mine
    assert ["stopped" in words for words in said] == [True, False]


def test_one_that_has_ended_and_left_its_lock_to_another_is_given_up(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_holder, "IDLE_LIMIT", 1.0)
    pid = holder("leave")
    while exists(pid):
        time.sleep(0.01)
    told = "it has ended, and a process that it started still holds the lock"
    with pytest.raises(Busy, match=told), held_in_turn(tmp_path / "lock"):
        pytest.fail("it has the lock")


def test_one_that_sleeps_is_given_up_later_and_one_that_renews_its_lock_is_not(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_holder, "SILENT_LIMIT", 1.0)
    holder()
    began = time.monotonic()

    def renews():
        renew(tmp_path / "lock")
        return time.monotonic() - began > 2.0

    with held_in_turn(tmp_path / "lock", until=renews) as is_mine:
        assert not is_mine
    with pytest.raises(Busy, match="no sign of life for 1 s"), held_in_turn(tmp_path / "lock"):
        pytest.fail("it has the lock")


def test_time_of_the_processor_is_a_sign_of_life(tmp_path, monkeypatch):
    (tmp_path / "lock").write_text("")
    descriptor, now = os.open(tmp_path / "lock", os.O_RDWR), 0.0
    watch = lock_holder.HolderWatch(descriptor, lambda: now)
    lock_holder.sign(descriptor)
    for seconds in (0.1, 0.2):
        monkeypatch.setattr(lock_holder, "cpu_seconds", lambda pid, seconds=seconds: seconds)
        now += lock_holder.SILENT_LIMIT
        watch.look()
        assert not watch.is_over
    now += lock_holder.SILENT_LIMIT + 1
    watch.look()
    assert watch.is_over
    os.close(descriptor)


def test_a_process_of_another_machine_is_not_looked_for_on_this_one(tmp_path):
    (tmp_path / "lock").write_text(f"process {os.getpid()} on elsewhere since 2026-01-01T00:00:00Z\n")
    descriptor = os.open(tmp_path / "lock", os.O_RDONLY)
    found = lock_holder.Holder.of(descriptor)
    os.close(descriptor)
    assert found.pid is None and found.obstacle() == "" and found.words.startswith("process ")


def test_who_does_not_wait_is_told_the_holder(holder, tmp_path):
    pid = holder()
    with pytest.raises(Busy, match=f"is in use by process {pid} on "), held(tmp_path / "lock"):
        pytest.fail("it has the lock")
