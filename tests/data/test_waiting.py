"""Another process prepares the same corpus: who it is, what if it is stopped, and how not to wait."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ablate.data import build_corpus
from ablate.data.corpus_request import corpus_request
from ablate.errors import UserError
from ablate.process_tree import is_stopped
from ablate.run import lock_holder
from tests.data.conftest import texts, write_jsonl

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]

PREPARE = """
import sys, time
from ablate import cli
from ablate.data import build_corpus
def slow(request, folder, progress):
    (folder / "train.txt").write_text("some")
    print("prepares", flush=True)
    time.sleep(600)
build_corpus.build = slow
sys.exit(cli.run(["data", "prepare", *sys.argv[1:]]))
"""


@pytest.fixture
def preparing(tmp_path):
    """Overrides of a corpus, and a process that has begun to prepare it and takes long."""
    file = write_jsonl(tmp_path / "text.jsonl", texts(200))
    overrides = ["data=local", f"data.files={file}", f"paths.data={tmp_path / 'corpora'}", "shape.vocab_size=768"]
    line = [sys.executable, "-c", PREPARE, *overrides]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"prepares\n"
    yield overrides, process
    process.kill()
    process.wait()


def test_one_that_is_stopped_is_named_and_not_waited_for_for_ever(preparing, config, monkeypatch):
    overrides, process = preparing
    monkeypatch.setattr(lock_holder, "NAMED_AFTER", 0.0)
    monkeypatch.setattr(lock_holder, "IDLE_LIMIT", 1.0)
    process.send_signal(signal.SIGSTOP)
    while not is_stopped(process.pid):
        time.sleep(0.01)
    said, cfg = [], config([], *overrides)
    with pytest.raises(UserError) as refused:
        build_corpus.prepare(cfg, said.append)
    named = rf"process {process.pid} on {os.uname().nodename} since "
    assert f"{corpus_request(cfg).folder}: another process prepares it; no sign of life" in str(refused.value)
    for words in (str(refused.value), said[-1]):
        assert named in words and f"it is stopped (SIGSTOP): `kill -CONT {process.pid}` continues it" in words


def test_progress_shows_those_who_wait_that_it_goes_on(config, tmp_path, monkeypatch):
    cfg = config(write_jsonl(tmp_path / "text.jsonl", texts(200)))
    folder = corpus_request(cfg).folder
    lock, times = folder.parent / f".{folder.name}.lock", []

    def progress(line):
        times.append(lock.stat().st_mtime)
        os.utime(lock, (0, 0))

    build_corpus.prepare(cfg, progress)
    assert len(times) > 2 and all(time.time() - at < 60 for at in times)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_wait_at_once(preparing, number, code):
    overrides, process = preparing
    words = [sys.executable, "-m", "ablate", "data", "prepare", *overrides]
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = next(line for line in waiting.stdout if "another process prepares it" in line)
    assert f"process {process.pid} on " in said
    waiting.send_signal(number)
    _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == code
    assert len(errors.splitlines()) == 1 and process.poll() is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_preparing_and_leaves_nothing_half_written(preparing, tmp_path, number, code):
    _, process = preparing
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code and len(errors.splitlines()) == 1
    left = [path.name for path in (tmp_path / "corpora").iterdir()]
    assert not [name for name in left if ".tmp" in name or not name.startswith(".")], left
