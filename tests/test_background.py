"""Processes beside training have a low priority, in whatever session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate import background

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def process():
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        yield process
        process.kill()


def test_a_process_and_its_session_step_back(process):
    background.insist(process.pid)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == background.NICE
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.exists() and group.read_text():
        assert group.read_text().split()[-1] == str(background.NICE)
    assert background.leads_session(process.pid)


def test_one_that_has_ended_is_no_matter():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert background.step_back(process.pid) and not background.leads_session(process.pid)


def test_the_kernel_that_wants_to_be_asked_again_is_asked_again(monkeypatch):
    answers = iter([False, False, True])
    waited = []
    monkeypatch.setattr(background, "step_back", lambda pid: next(answers))
    monkeypatch.setattr(background.time, "sleep", waited.append)
    background.insist(1)
    assert len(waited) == 2
