"""Real training under the driver: forked, killed, shared between processes, and always the same numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ablate.process_tree import descendants, variable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SWEEP = """
question: Is it the same?
base: [shape=nano, data=local, "data.files=[text.jsonl]", trainer.steps=12, trainer.checkpoint_every=2,
       evaluation.heldout.tokens=2048]
baseline: Base
rows:
  Base: []
  SwiGLU: [activation=swiglu, dropout=0.1]
seeds: {baseline: 1, rows: 1}
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with text and a sweep, and its runs trained without a disturbance."""
    folder = tmp_path_factory.mktemp("real")
    words, rng = [f"word{i}" for i in range(400)], random.Random(0)
    lines = (json.dumps({"text": " ".join(rng.choices(words, k=60))}) for _ in range(3000))
    (folder / "text.jsonl").write_text("\n".join(lines))
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "same.yaml").write_text(SWEEP)
    assert start(folder, "sweep", "same", "timing=0", "report=false").wait() == 0
    return folder


def start(folder, *words):
    """The command, under way in `folder`."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([sys.executable, "-m", "ablate", *words], cwd=folder, env=environment)


def results(folder):
    """What each run has in the end: its losses without times, and the hash of its weights."""
    found = {}
    for path in sorted(folder.glob("same/*/seed-0")):
        lines = (path / "metrics.csv").read_text().splitlines()
        losses = [[cell for index, cell in enumerate(line.split(",")) if index != 1] for line in lines]
        found[path.parent.name] = (losses, (path / "checkpoints" / "weights.pt.sha256").read_text())
    return found


def test_a_forked_run_equals_one_in_a_fresh_process(here):
    for row in ("Base", "SwiGLU"):
        assert start(here, "train", "sweep=same", f"row={row}", "seed=0", "paths.runs=fresh").wait() == 0
    assert results(here / "fresh") == results(here / "runs")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_ended_again_and_again_comes_to_the_same_end(here, number):
    runs = here / f"ended-{number}"
    words = ("sweep", "same", "timing=0", "report=false", f"paths.runs={runs}")
    beats = "same/*/seed-0/progress.json"
    for step in (2, 7):
        driver = start(here, *words)
        while driver.poll() is None and not any(_step(path) >= step for path in runs.glob(beats)):
            time.sleep(0.02)
        driver.send_signal(number)
        driver.wait()
    assert start(here, *words).wait() == 0
    assert results(runs) == results(here / "runs")
    attempts = [json.loads(path.read_text())["attempts"] for path in runs.glob("same/*/seed-0/record.json")]
    assert max(attempts) > 1


def _step(path):
    try:
        return json.loads(path.read_text())["step"]
    except (OSError, ValueError):
        return 0


def test_two_processes_give_the_losses_of_one_with_accumulation_2(here):
    for folder, words in {"one": ["trainer.micro_batch=16"], "two": ["trainer.devices=2", "jobs=1"]}.items():
        extra = ["timing=0", "report=false", "only=Base", f"paths.runs={folder}"]
        assert start(here, "sweep", "same", *extra, *words).wait() == 0
    one, two = (results(here / folder) for folder in ("one", "two"))
    (one,), (two,) = one.values(), two.values()
    for first, second in zip(one[0][1:], two[0][1:], strict=True):
        assert first[0] == second[0] and float(first[1]) == pytest.approx(float(second[1]), abs=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_killed_process_of_a_run_on_two_devices_is_named_within_a_minute(here):
    words = ["sweep", "same", "timing=0", "report=false", "paths.runs=killed", "only=Base", "jobs=1"]
    driver = start(here, *words, "trainer.devices=2", "trainer.steps=100000")
    while not list((here / "killed").glob("same/*/seed-0/metrics.csv")):
        assert driver.poll() is None
        time.sleep(0.05)
    (victim,) = [pid for pid in descendants(driver.pid) if variable(pid, "RANK") == "1"]
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    assert driver.wait(120) == 1 and time.monotonic() - began < 60
    (path,) = (here / "killed").glob("same/*/seed-0")
    record = json.loads((path / "record.json").read_text())
    assert record["status"] == "failed" and record["reason"].startswith("process 1 was killed (SIGKILL)")
    assert "process 1 was killed (SIGKILL)" in (path / "log.txt").read_text()
