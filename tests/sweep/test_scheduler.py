"""One run that goes wrong harms no other, and is named."""

import contextlib
import dataclasses
import re
import threading
from types import SimpleNamespace

import pytest

from ablate.report import build
from ablate.run.folder import RunFolder
from ablate.sweep import command, scheduler
from tests.sweep.clock import Clock

pytestmark = pytest.mark.timeout(60)


def test_runs_everything_baseline_and_first_seeds_first(place):
    code, said = place.drive(jobs=1)
    assert code == 0, said
    assert place.trace("start") == ["Base 0", "Rms 0", "Gelu 0", "Base 1"]
    assert set(place.states().values()) == {"done"}
    assert "[4/4] done     Base · seed 1: final loss 5.014" in said
    assert "try: 4 done" in said


def test_asking_again_does_nothing_again(place):
    place.drive()
    code, said = place.drive()
    assert code == 0
    assert len(place.trace("start")) == 4
    assert "4 of 4 runs already finished" in said
    assert "4 done" in said and "diverged" not in said


FAULTS = {
    "raise": ("failed", "exited with code 1: on two lines"),
    "exit": ("failed", "exited with code 7"),
    "exit 0": ("failed", "exited with code 0"),
    "kill": ("failed", "killed by SIGKILL; often the system ran out of memory"),
    "segfault": ("failed", "killed by SIGSEGV"),
    "failed": ("failed", "OutOfMemoryError: no room"),
    "term": ("preempted", None),
    "diverged": ("diverged", "the loss was nan at step 5"),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_classified_and_harms_no_other(place, fault, expected):
    place.behave(Rms=fault)
    code, said = place.drive()
    state, reason = expected
    assert code == (0 if state == "diverged" else 1)
    states = place.states()
    assert states.pop(("Rms", 0)) == state
    assert set(states.values()) == {"done"} and len(states) == 3
    if reason:
        assert reason in place.records()["Rms", 0]["reason"]
        assert reason in said


def after_the_others(place, clock, seconds):
    """Let so many seconds pass at each look, once all is done but the run of Rms."""
    if {"Base 0", "Base 1", "Gelu 0"} <= set(place.trace("done")):
        clock.ahead += seconds


def test_a_run_without_steps_is_ended_as_hung(place, monkeypatch):
    place.behave(Rms="hang")
    Clock(monkeypatch, lambda clock: after_the_others(place, clock, 310))
    code, _ = place.drive()
    assert code == 1
    assert re.match(r"hung: no step for 5 min \(at step 5\)", place.records()["Rms", 0]["reason"])
    assert place.states()["Gelu", 0] == "done"
    assert not place.processes()


@contextlib.contextmanager
def elsewhere(place, then=None):
    """Another process has a run of the finished sweep in hand; with `then`, it ends with that record in two seconds."""
    assert place.drive()[0] == 0
    (path,) = place.runs.glob("try/rms-*/seed-0")
    folder = RunFolder(path)
    done = folder.read()
    folder.write(dataclasses.replace(done, status="running", loss=None))
    (path / "progress.json").unlink()
    with folder.lock():
        if not then:
            yield
            return
        ended, let_go = threading.Event(), threading.Timer(2.0, lambda: (folder.write(done), ended.set()))
        let_go.start()
        yield
        assert ended.is_set()


def test_a_run_of_another_process_that_shows_no_life_is_given_up(place, monkeypatch):
    with elsewhere(place):
        Clock(monkeypatch, lambda clock: after_the_others(place, clock, 310))
        code, said = place.drive()
    assert code == 1 and "try: 3 done, 1 failed" in said
    assert re.search(r"\[4/4\] FAILED   Rms · seed 0: another process has it, without a sign of life for 3\d min", said)
    assert place.trace("start").count("Rms 0") == 1 and place.states()["Rms", 0] == "running"


def test_a_run_of_another_process_is_looked_at_about_once_a_second(place, monkeypatch):
    looks = []
    look = scheduler.Driver._look
    monkeypatch.setattr(scheduler.Driver, "_look", lambda self, item: (looks.append(item), look(self, item))[1])
    with elsewhere(place, then="done"):
        looks.clear()
        code, said = place.drive()
    assert code == 0 and "[4/4] done     Rms · seed 0: final loss 5.003" in said
    assert place.trace("start").count("Rms 0") == 1
    assert 2 <= len([item for item in looks if item.run.row == "Rms"]) <= 8


def test_the_first_step_may_take_longer(place, monkeypatch):
    """It compiles; what never comes to it is ended all the same."""
    place.behave(Rms="stuck")
    Clock(monkeypatch, lambda clock: after_the_others(place, clock, 310))
    assert place.drive()[0] == 1
    assert re.match(r"hung: no step for 3\d min \(at step 0\)", place.records()["Rms", 0]["reason"])


def test_timeout(place, monkeypatch):
    place.behave(Rms="slow")
    Clock(monkeypatch, lambda clock: after_the_others(place, clock, 1000))
    code, _ = place.drive(timeout=500.5)
    assert code == 1
    assert place.records()["Rms", 0]["reason"].startswith("timed out after 500.5 s (at step ")


def test_failed_runs_are_tried_again_only_when_asked(place):
    place.behave(Rms="exit")
    assert place.drive()[0] == 1
    place.behave()
    code, said = place.drive()
    assert code == 1 and "exited with code 7" in said and "retry=failed" in said
    assert len(place.trace("start")) == 4
    assert place.drive(retry="failed")[0] == 0
    assert place.trace("start")[4:] == ["Rms 0"]


def test_a_retried_run_that_fails_again_is_tried_once(place):
    place.behave(Rms="exit")
    place.drive()
    assert place.drive(retry="failed")[0] == 1
    assert place.trace("start").count("Rms 0") == 2


def test_diverged_and_preempted(place):
    place.behave(Rms="term", Gelu="diverged")
    _, said = place.drive(jobs=1)
    assert [line[:34].partition(":")[0].rstrip() for line in said.splitlines() if line.startswith("[")] == [
        "[1/4] done     Base · seed 0",
        "[1/4] stopped  Rms · seed 0",
        "[2/4] diverged Gelu · seed 0",
        "[3/4] done     Base · seed 1",
    ]
    assert re.search(r"^try: 2 done, 1 diverged, 1 preempted, after \d+ s$", said, re.M)
    place.behave()
    assert place.drive()[0] == 0
    assert place.trace("start")[4:] == ["Rms 0"]  # a preempted run is resumed, a diverged one is a result


def test_a_corpus_that_cannot_be_made_is_told_before_any_run(place):
    from ablate.errors import UserError

    place.behave(preparing=["x.txt, line 3: broken"])
    with pytest.raises(UserError, match="^x.txt, line 3: broken$"):
        place.drive()
    assert not place.trace("start")


def test_a_report_is_made_at_the_end_and_the_mirror_gets_it(place, monkeypatch):
    closed = []
    mirror = SimpleNamespace(
        close_sweep=lambda *given: closed.append(given), outcome_line=lambda *given: "2 runs are not sent"
    )
    monkeypatch.setattr(command, "mirror_of", lambda logger: mirror)
    assert place.drive(only="Base")[0] == 0 and not closed
    code, said = place.drive(report=True)
    report = place.folder / "reports" / "try" / "report.md"
    assert code == 0 and report.exists() and said.splitlines()[-2:] == [f"try: {report}", "try: 2 runs are not sent"]
    assert closed == [("try", place.runs, place.folder / "reports")]


def test_the_rows_that_a_sweep_is_asked_for_are_shown_in_its_report(place, monkeypatch):
    asked, make = [], build.build
    monkeypatch.setattr(build, "build", lambda *given: asked.append(given[4:]) or make(*given))
    assert place.drive(report=True, only="Rms")[0] == 0
    assert place.drive(report=True)[0] == 0
    assert asked == [("Rms",), (None,)]
