"""What one process of a run with several does, called in this one."""

import json
import sys

import pytest

from ablate import worker
from ablate.config import compose
from ablate.config.keys import plain
from ablate.errors import UserError
from ablate.run.lock import Busy
from ablate.training import run
from tests.training.standin import folder_of


@pytest.fixture
def started(monkeypatch):
    """Call the worker as its command line does; returns its exit code. `ties` counts how often it tied its life."""

    def start(overrides):
        job = {"config": plain(compose(overrides)), "overrides": overrides, "command": "ablate train x"}
        monkeypatch.setattr(sys, "argv", ["worker", json.dumps(job)])
        return worker.main()

    start.ties = []
    monkeypatch.setattr(worker, "die_with_agent", lambda: start.ties.append(1))
    return start


def test_it_trains_the_run_that_it_is_told(started, asked):
    overrides = asked("seed=3")
    assert started(overrides) == 0 and started.ties == [1]
    record = folder_of(overrides).read()
    assert (record.status, record.seed, record.command) == ("done", 3, "ablate train x")
    assert list(record.overrides) == overrides


@pytest.mark.parametrize(("problem", "code"), [(UserError("no"), 2), (Busy("held"), 75)])
def test_its_exit_code_is_that_of_the_run(problem, code, started, asked, monkeypatch):
    def fails(*_):
        raise problem

    monkeypatch.setattr(run, "run", fails)
    assert started(asked()) == code
