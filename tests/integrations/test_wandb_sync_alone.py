"""W&B's live sync as a process that fails, hangs, is refused or succeeds: a stand-in, without W&B and its service."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from ablate.integrations import wandb_sync
from ablate.integrations.wandb_sync import AGAIN_SECONDS, KEY, SERVICE, Sync
from ablate.orphans import AGENT
from ablate.process_tree import exists

SENT = "touch $MARKER"
UNSENT = "exit 0"
FAILS = "echo 'wandb: ERROR no route'; exit 1"
REFUSED = "echo 'Fatal error: no such entity'; touch $MARKER"
REFUSED_AND_GOES_ON = f"{REFUSED}; exec sleep 600"
HANGS = "exec sleep 600"


@pytest.fixture
def sync(tmp_path, monkeypatch):
    """`sync(script, ...)`: a Sync whose tries run these scripts, one after the other; `sync.starts` says how."""
    folder = tmp_path / "run" / "wandb" / "offline-run-1"
    folder.mkdir(parents=True)
    (folder / "run-1.wandb").touch()
    start = subprocess.Popen

    def popen(line, **options):
        made.starts.append((line, options))
        options["env"]["MARKER"] = str(folder / "run-1.wandb.synced")
        made.processes.append(start(["/bin/sh", "-c", made.scripts.pop(0)], **options))
        return made.processes[-1]

    def made(*scripts):
        made.scripts = list(scripts)
        return Sync(folder, "secret")

    made.starts, made.processes, made.folder = [], [], folder
    monkeypatch.setattr(wandb_sync.subprocess, "Popen", popen)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ([SENT], ""),
        ([FAILS, SENT], ""),
        ([UNSENT, SENT], ""),
        ([REFUSED, SENT], ""),
        ([REFUSED_AND_GOES_ON, SENT], ""),
        ([FAILS, FAILS], "W&B gave up: ERROR no route"),
        ([UNSENT, UNSENT], "W&B gave up"),
        ([REFUSED, REFUSED], "W&B gave up: Fatal error: no such entity"),
        ([REFUSED_AND_GOES_ON, FAILS], "W&B gave up: ERROR no route"),
    ],
)
def test_what_is_left_is_sent_in_two_tries_or_it_is_said_why_not(sync, scripts, said):
    assert sync(*scripts).finish(60) == said
    assert len(sync.starts) == len(scripts)
    assert (sync.folder / "run-1.wandb.synced").exists() == (not said)  # else W&B would skip the run by hand, too


def test_one_that_hangs_is_ended_at_the_limit(sync):
    hangs = sync(HANGS)
    assert hangs.finish(0.3) == "not all within 0.3 s"
    assert hangs.process is None and not exists(sync.processes[0].pid)


def test_the_one_that_runs_already_sends_what_is_left(sync):
    one = sync(SENT)
    one.keep_on()
    sync.processes[0].wait()
    assert one.finish(60) == "" and len(sync.starts) == 1


def test_it_is_tried_again_after_a_while_where_it_has_ended(sync, monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(wandb_sync, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    one = sync(FAILS, REFUSED_AND_GOES_ON, HANGS)
    one.keep_on()
    sync.processes[0].wait()
    for after, starts in ((1, 1), (AGAIN_SECONDS - 1, 1), (AGAIN_SECONDS, 2)):
        now.seconds = 1000.0 + after
        one.keep_on()
        assert len(sync.starts) == starts, after
    while not one._was_refused():
        pass
    one.keep_on()
    assert one.process is None and not exists(sync.processes[1].pid)
    now.seconds += AGAIN_SECONDS
    for _ in range(2):  # the last one goes on
        one.keep_on()
        now.seconds += 2 * AGAIN_SECONDS
    assert len(sync.starts) == 3 and exists(sync.processes[2].pid)


def test_the_sync_has_the_key_and_no_service_and_ends_with_this_process(sync, monkeypatch):
    monkeypatch.setenv(SERVICE, "tcp-1")
    monkeypatch.delenv(KEY, raising=False)
    assert sync(SENT).finish(60) == ""
    ((line, options),) = sync.starts
    assert line[1:] == ["-m", "ablate.integrations.wandb_sync", str(sync.folder)]
    environment = options["env"]
    assert environment[KEY] == "secret" and SERVICE not in environment and environment[AGENT] == str(os.getpid())
    assert options["start_new_session"] and options["cwd"] == sync.folder.parent.parent
    assert KEY not in os.environ
