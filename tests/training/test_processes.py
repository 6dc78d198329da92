"""Starting the processes of a run, passing signals on, and telling which one this is; without torch."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from ablate import agent
from ablate.errors import UserError
from ablate.training import processes


def cfg(devices=2, nodes=1):
    return SimpleNamespace(trainer=SimpleNamespace(devices=devices, nodes=nodes))


@pytest.fixture
def started(monkeypatch, tmp_path):
    """`launch`, in which the script is what it starts; it may write the file `up` when it is ready."""

    def launch(script):
        line = [sys.executable, "-c", f"up = {str(tmp_path / 'up')!r}\n{script}"]
        monkeypatch.setattr(agent, "command", lambda *arguments: asked.append(arguments) or line)
        return processes.launch(cfg(), {"overrides": ["seed=1"], "command": "ablate train"}, tmp_path)

    asked = []
    launch.asked = asked
    return launch


def send(path, *numbers):
    """Send this process signals, one after the other, once the file is there."""

    def work():
        for number in numbers:
            while not path.exists():
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


SAVES = """
import signal, sys, time
def stop(number, _):
    open(up + ".got", "a").write(f"{number} ")
    if KEEPS_ON: return
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, stop)
open(up, "w").close()
while True: time.sleep(0.05)
"""


def test_the_exit_code_and_what_is_started(started, tmp_path):
    assert started("raise SystemExit(5)") == 5
    ((devices, module, (job,), folder),) = started.asked
    assert (devices, module, folder) == (2, "ablate.worker", tmp_path)
    assert '"overrides": ["seed=1"]' in job and '"command": "ablate train"' in job


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("sent", "got"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)],
)
def test_a_signal_is_passed_on_once(started, tmp_path, sent, got):
    before = signal.getsignal(sent)
    send(tmp_path / "up", sent)
    assert started(f"KEEPS_ON = False\n{SAVES}") == 7
    assert (tmp_path / "up.got").read_text().split() == [str(int(got))]
    assert signal.getsignal(sent) is before


def test_they_have_a_session_of_their_own(started):
    """So that Ctrl-C in the terminal reaches them once, passed on, and not twice."""
    assert started("import os; raise SystemExit(5 if os.getsid(0) == os.getpid() else 6)") == 5


@pytest.mark.timeout(90)
def test_a_second_ctrl_c_kills(started, tmp_path):
    send(tmp_path / "up", signal.SIGINT, signal.SIGINT)
    assert started(f"KEEPS_ON = True\n{SAVES}") == -signal.SIGKILL


@pytest.mark.timeout(90)
def test_one_that_does_not_end_is_killed_after_the_limit(started, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "STOP_LIMIT", 0.5)
    send(tmp_path / "up", signal.SIGTERM)
    assert started(f"KEEPS_ON = True\n{SAVES}") == -signal.SIGKILL  # else it would go on for ever


@pytest.mark.timeout(90)
def test_until_the_limit_it_has_time_to_save(started, tmp_path):
    send(tmp_path / "up", signal.SIGTERM)
    assert started(f"KEEPS_ON = False\n{SAVES.replace('sys.exit(7)', 'time.sleep(2.5); sys.exit(7)')}") == 7


def test_it_has_a_session_of_its_own(started):
    """So that Ctrl-C reaches it once, from this process."""
    assert started(f"import os; raise SystemExit(3 if os.getsid(0) != {os.getsid(0)} else 4)") == 3


def test_the_limits_leave_time_to_save():
    assert processes.STOP_LIMIT > agent.TO_SAVE > 60
    assert agent.ENDED_AFTER < processes.COLLECTIVE_LIMIT.total_seconds() == 600


def test_several_nodes_are_refused_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("started"))
    with pytest.raises(UserError, match="torchrun --nnodes 2 --nproc_per_node 4"):
        processes.launch(cfg(devices=4, nodes=2), {}, tmp_path)


def test_which_process_this_is(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "1")  # left over from something else
    assert processes.rank() == 0 and processes.is_main() and not processes.is_worker()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert processes.rank() == 1 and not processes.is_main() and processes.is_worker()
    monkeypatch.delenv("RANK")
    assert processes.rank() == 0
    assert processes.world_size(cfg(devices=4, nodes=2)) == 8
