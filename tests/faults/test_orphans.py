"""Killed with SIGKILL, whatever starts processes leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ablate.config import merge
from ablate.process_tree import cpu_seconds, is_stopped, parent_of, variable
from tests.data.conftest import texts, write_jsonl
from tests.sweep.conftest import Place
from tests.training.standin import TINY

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died"),
]
MARK = "ABLATE_TEST_FAMILY"  # a variable that all processes of a test inherit
LIMIT = 4.0  # seconds
ROOT = Path(__file__).parents[2]
ABLATE = [sys.executable, "-m", "ablate"]


class Family:
    """The live processes that one call has started, those in sessions of their own, too."""

    def __init__(self, folder):
        self.folder, self.name = folder, str(folder)

    def members(self, word=""):
        """Their ids, of those with `word` in the command line."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if variable(pid, MARK) == self.name and word in command_of(pid)]

    def start(self, line, **variables):
        """The first of them."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables, MARK: self.name}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*map(str, line)], env=environment, cwd=ROOT, **quiet)

    def wait_for(self, condition, seconds=90.0):
        """Until what the test is about is under way."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "it never came so far"
            time.sleep(0.02)
        return found


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def preparing_text(family):
    process = family.start([*ABLATE, "data", "prepare", "data=builtin", f"paths.data={family.folder}"])
    readers = family.wait_for(lambda: family.members("docstrings.py"))
    family.wait_for(lambda: (cpu_seconds(readers[0]) or 0.0) > 0.5)  # it has its input, and reads
    yield process


@contextmanager
def a_sweep(family, **options):
    place = Place(family.folder)
    place.write()
    behaviour = {"measuring": "slow"} if options else {"Base": "slow", "Rms": "slow"}
    place.behave(**behaviour)
    script = (
        "import sys; from ablate.sweep import command; from tests.sweep.conftest import PROGRAM; "
        f"command.run('try', {place.overrides!r}, program=PROGRAM, report=False, **{options or {'timing': 0}!r})"
    )
    process = family.start([sys.executable, "-c", script], FAKE_BEHAVIOUR=str(family.folder / "behaviour.json"))
    family.wait_for(lambda: place.trace("measure") if options else len(place.trace("start")) == 2)
    yield process


def a_timing_pass(family):
    return a_sweep(family, timing=60)


@contextmanager
def a_sweep_whose_fork_server_is_stopped(family):
    with a_sweep(family) as process:
        stop(next(pid for pid in family.members("ablate.sweep.fork_server") if parent_of(pid) == process.pid))
        yield process


@contextmanager
def a_sweep_with_a_run_that_is_stopped(family):
    with a_sweep(family) as process:
        servers = [pid for pid in family.members("ablate.sweep.fork_server") if parent_of(pid) == process.pid]
        stop(next(pid for pid in family.members() if parent_of(pid) in servers))
        yield process


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        time.sleep(0.01)


@contextmanager
def counting(family):
    process = family.start([*ABLATE, "cost", "--reference", "narang2021"])
    family.wait_for(lambda: len(family.members()) > 1)
    yield process


SEND = """
import sys
from pathlib import Path
from ablate.integrations.wandb_sync import Sync
Sync(Path(sys.argv[1]) / "wandb" / "offline-run", "key").finish(float(sys.argv[2]))
"""


@contextmanager
def a_mirror_that_sends(family):
    yield start_sending(family, 60)


def start_sending(family, seconds):
    """A mirror whose `wandb beta sync` does not end by itself."""
    stand_in = family.folder / "wandb"
    stand_in.mkdir()
    (stand_in / "__init__.py").touch()
    (stand_in / "__main__.py").write_text("import time; time.sleep(60)")
    path = os.pathsep.join([str(family.folder), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    process = family.start([sys.executable, "-c", SEND, family.folder, seconds], PYTHONPATH=path)
    family.wait_for(lambda: family.members("wandb beta sync"))
    return process


@contextmanager
def two_devices(family):
    text = write_jsonl(family.folder / "text.jsonl", texts(400))
    more = ["data=local", f"data.files=[{text}]", "shape.vocab_size=768", "trainer.devices=2", "shape.steps=100000"]
    paths = [f"paths.{name}={family.folder / name}" for name in ("runs", "data")]
    process = family.start([*ABLATE, "train", *merge(TINY, more), *paths])
    family.wait_for(lambda: list(family.folder.rglob("metrics.csv")))
    yield process


@pytest.mark.parametrize(
    "under_way",
    [
        preparing_text,
        a_sweep,
        a_sweep_whose_fork_server_is_stopped,
        a_sweep_with_a_run_that_is_stopped,
        a_timing_pass,
        counting,
        a_mirror_that_sends,
        pytest.param(two_devices, marks=pytest.mark.slow),
    ],
    ids=lambda call: call.__name__,
)
def test_nothing_outlives_what_started_it(under_way, tmp_path):
    family = Family(tmp_path)
    try:
        with under_way(family) as process:
            assert len(family.members()) > 1
            process.kill()
            process.wait()
            deadline = time.monotonic() + LIMIT
            while left := family.members():
                assert time.monotonic() < deadline, [command_of(pid)[:200] for pid in left]
                time.sleep(0.02)
    finally:
        for pid in family.members():
            os.kill(pid, signal.SIGKILL)


def test_a_wandb_sync_that_takes_too_long_is_ended(tmp_path):
    family = Family(tmp_path)
    process = start_sending(family, 1)
    assert process.wait(20) == 0 and not family.members()
