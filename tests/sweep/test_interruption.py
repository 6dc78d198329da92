"""Drivers that are stopped, killed, or not alone."""

import contextlib
import json
import re
import signal
import time

import pytest

from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder, run_path
from ablate.run.record import RUNNING, SCHEMA, Record
from ablate.sweep.scheduler import BEFORE_THE_FIRST_STEP
from tests.sweep.clock import Clock

pytestmark = pytest.mark.timeout(90)


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_stops_the_runs_and_the_next_driver_goes_on(place, number, code):
    place.behave(Rms="slow", Base="slow")
    driver = place.start()
    until(lambda: len(place.trace("start")) == 2)
    driver.send_signal(number)
    said, _ = driver.communicate()
    assert driver.returncode == code, said
    assert "stopped; the same command goes on from here" in said
    assert place.states() == {("Base", 0): "preempted", ("Rms", 0): "preempted"}
    assert not place.processes()
    place.behave()
    assert place.drive()[0] == 0
    assert set(place.states().values()) == {"done"} and len(place.trace("done")) == 4


def test_a_run_that_does_not_stop_is_killed_when_asked_twice(place):
    place.behave(Base="hang")
    driver = place.start()
    until(lambda: place.trace("start") and place.states().get(("Gelu", 0)) == "done")
    driver.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    driver.communicate()
    assert driver.returncode == 130
    until(lambda: not place.processes())


def test_a_killed_driver_takes_its_runs_along_and_the_next_resumes_them(place):
    place.behave(Rms="slow", Base="slow")
    driver = place.start()
    until(lambda: len(place.trace("start")) == 2)
    driver.kill()
    driver.communicate()
    until(lambda: not place.processes())
    place.behave()
    assert place.drive()[0] == 0
    assert set(place.states().values()) == {"done"}
    assert sorted(place.trace("done")) == ["Base 0", "Base 1", "Gelu 0", "Rms 0"]


def test_a_killed_fork_server_takes_its_runs_along(place):
    import os
    from pathlib import Path

    place.behave(Rms="slow")
    driver = place.start()
    until(lambda: "Rms 0" in place.trace("start"))
    servers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rpartition(")")[2].split()[1] == str(driver.pid)
    ]
    os.kill(servers[0], signal.SIGKILL)
    said, _ = driver.communicate()
    assert driver.returncode == 1, said
    assert place.states()["Rms", 0] == "failed" and place.states()["Base", 1] == "done"
    until(lambda: not place.processes())


def test_two_drivers_share_the_work_and_do_nothing_twice(place):
    place.write("question: Which?\nbaseline: Base\nseeds: {baseline: 2, rows: 2}\nrows:\n  Base: []\n" + "".join(
        f"  Row {n}: [norm=rmsnorm, seed.init={n}]\n" for n in range(6)
    ))  # fmt: skip
    one, two = place.start(), place.start()
    said = [driver.communicate()[0] for driver in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert len(place.states()) == 14 and set(place.states().values()) == {"done"}
    assert len(place.trace("done")) == len(set(place.trace("done"))) == 14
    assert all("14 done" in text for text in said)


def test_a_second_driver_takes_over_from_one_that_was_stopped(place):
    place.behave(Rms="slow")
    one = place.start()
    until(lambda: "Rms 0" in place.trace("start"))
    two = place.start()
    until(lambda: place.trace("done").count("Base 1"))
    place.behave()
    one.send_signal(signal.SIGINT)
    one.communicate()
    said, _ = two.communicate()
    assert one.returncode == 130 and two.returncode == 0, said
    assert set(place.states().values()) == {"done"} and len(place.trace("done")) == 4


def under_way_elsewhere(place):
    """The folder of a run that another process has begun."""
    folder = RunFolder(run_path(place.runs, "try", "Rms", 0))
    folder.write(Record(schema=SCHEMA, sweep="try", row="Rms", seed=0, status=RUNNING))
    return folder


def test_a_run_that_another_process_has_is_given_up_without_a_sign_of_life(place, monkeypatch):
    folder = under_way_elsewhere(place)

    def two_minutes(clock):
        if len(place.trace("done")) == 3:
            clock.ahead += 120

    with folder.lock():
        Clock(monkeypatch, two_minutes)
        code, said = place.drive(patience=100)
    assert code == 1, said
    (silent,) = re.findall(r"FAILED   Rms · seed 0: another process has it, without a sign of life for (\d+) min", said)
    assert 100 * BEFORE_THE_FIRST_STEP <= 60 * int(silent) <= 100 * BEFORE_THE_FIRST_STEP + 180
    assert folder.read().status == RUNNING  # its own business
    assert sorted(place.trace("done")) == ["Base 0", "Base 1", "Gelu 0"]


def test_one_that_beats_is_waited_for(place, monkeypatch):
    """For as long as it likes: it beats every two minutes here, and would be given up after ten of silence."""
    folder, beats, others = under_way_elsewhere(place), [], {"Base 0", "Base 1", "Gelu 0"}
    with contextlib.ExitStack() as hand:
        hand.enter_context(folder.lock())

        def beat(clock):
            if others == set(place.trace("done")):
                clock.ahead += 120
                beats.append(clock.monotonic())
                progress = {"step": len(beats), "steps": 99, "time": beats[-1], "loss": 1.0}
                atomic_write(folder.progress, json.dumps(progress))
                if len(beats) == 20:
                    hand.close()

        Clock(monkeypatch, beat)
        code, said = place.drive(patience=100)
    assert code == 0 and place.trace("done")[-1] == "Rms 0", said
    assert beats[19] - beats[0] > 3 * 100 * BEFORE_THE_FIRST_STEP
