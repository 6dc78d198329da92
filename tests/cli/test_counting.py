"""Counting many configurations on all cores leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def members(session: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.timeout(60)
def test_workers_die_with_the_command():
    command = [sys.executable, "-m", "ablate", "cost", "--reference", "narang2021"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 30
    while len(members(process.pid)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while members(process.pid):
        assert time.monotonic() < deadline, "a worker outlives the command"
        time.sleep(0.02)


def test_counting_needs_no_compiler_and_gives_the_same_without_it():
    code = """
import sys
from ablate.config import compose
from ablate.cost import cost, without_compiler
cfg = compose(["activation=geglu", "feedforward=switch", "norm=scalenorm"])
with without_compiler():
    found = cost(cfg)
imported = [name in sys.modules for name in ("torch._dynamo", "torch._inductor")]
print(*imported, found == cost(cfg))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr
