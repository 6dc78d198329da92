"""What plan, status, the timing pass and the live display say."""

import io
import json
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.duration import duration
from ablate.errors import UserError
from ablate.report.analysis.gathering import collect
from ablate.run import lock_holder
from ablate.run.folder import RunFolder
from ablate.statistics.speed_ratio import SpeedRatio, speed_ratio
from ablate.sweep import status, timing
from ablate.sweep.describe import describe
from ablate.sweep.progress import Display, Running, Totals, summary
from tests.run.sealed import sealed
from tests.sweep.conftest import SWEEP

pytestmark = pytest.mark.timeout(60)


def test_plan_before_anything_ran(place):
    said = describe("try", place.overrides)
    assert "3 rows, 4 runs (2 seeds of the baseline, 1 of each other row): 0 done, 4 to run" in said
    assert "time: not measured; ablate plan try --measure trains a few steps of each row" in said
    assert "detects: nothing: below 3 seeds there is no verdict" in said


def test_plan_knows_from_earlier_runs_how_long_and_how_noisy(place):
    place.write(SWEEP.replace("baseline: 2, rows: 1", "baseline: 3, rows: 3"))
    place.drive(only="Base,Rms")
    for path in place.runs.glob("try/*/seed-*/record.json"):
        record = json.loads(path.read_text())
        record |= {"seconds": 60.0, "parameters": {"total": 1234567}}
        record["loss"]["final"] += 0.01 * (record["seed"] == 1) * (record["row"] == "Rms")
        path.write_text(sealed(record))
    said = describe("try", place.overrides)
    assert "6 done, 3 to run" in said
    assert "time: about 3 min with jobs=2: 3 runs of about 60 s, timing pass 52 s, report 5 s; as 6 runs of" in said
    assert "detects: a difference of 0.0" in said and "from this sweep" in said
    assert "1,234,567" in said
    assert "time: about 4 min with jobs=1: 3 runs" in describe("try", place.overrides, jobs=1)
    with pytest.raises(UserError, match="jobs=0: must be at least 1"):
        describe("try", place.overrides, jobs=0)


def test_plan_counts_what_is_left_to_run(place):
    cost = {"parameters": {"total": 7654321}, "ops_paper": 1e9, "flops_per_step": 2e12}
    said = describe("try", place.overrides, count=lambda configs: [cost] * len(configs))
    assert "cost: 1.6e+15 FLOPs, forward and backward: 4 s of a GPU" in said  # four runs of 200 steps
    assert "7,654,321" in said
    place.drive()
    assert "cost: 0 FLOPs" in describe("try", place.overrides, count=lambda configs: [cost] * len(configs))


def test_plan_shows_the_width_of_gated_rows(place):
    place.write(SWEEP.replace("activation=gelu", "activation=swiglu"))
    assert "activation=swiglu (feedforward.gated_ratio 2/3 of d_ff 192)" in describe("try", place.overrides)


def test_dry_run_starts_nothing(place):
    code, said = place.drive(dry_run=True)
    assert code == 0 and "4 to run" in said and not place.runs.exists()


def test_status(place):
    assert "4 runs: 4 missing" in status.describe("try", place.overrides)
    place.behave(Rms="exit", Gelu="diverged")
    place.drive()
    said = status.describe("try", place.overrides)
    assert "4 runs: 2 done, 1 diverged, 1 failed" in said
    assert "Rms, seed 0: failed: exited with code 7" in said
    assert "Gelu, seed 0: diverged: the loss was nan at step 5" in said
    assert any(line.split() == ["Base", "5.004", "5.014"] for line in said.splitlines())


def test_status_of_runs_that_were_killed_and_are_under_way(place):
    import fcntl

    place.behave(Rms="term")
    place.drive()
    (folder,) = place.runs.glob("try/rms*/seed-0")
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(sealed({**record, "status": "running"}))
    assert "interrupted 5/10" in status.describe("try", place.overrides)
    with open(folder / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "running 5/10" in status.describe("try", place.overrides)


def test_plan_and_status_import_nothing_heavy(place):
    place.drive(timing=0)
    script = (
        "import sys; from ablate.sweep import describe, status; "
        f"describe.describe('try', {place.overrides!r}); status.describe('try', {place.overrides!r}); "
        "heavy = {'torch', 'lightning', 'datasets', 'pandas', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_timing_pass_times_each_row_in_rounds_there_and_back(place):
    code, said = place.drive(timing=None)
    assert code == 0
    there, back = ["Base", "Rms", "Gelu"], ["Gelu", "Rms", "Base"]
    assert place.trace("measure") == [*there, *back, *there, *back, *there]
    first = [record["steps_per_second"]["exclusive"] for (_, seed), record in place.records().items() if seed == 0]
    assert first == [100.0] * 3
    timed = json.loads((place.runs / "try" / "timing.json").read_text())["rows"]
    assert set(timed) == {"Base", "Rms", "Gelu"} and len(timed["Rms"]["steps_per_second"]) == 5
    assert "timing 3 rows, one at a time, at most 60 s" in said
    place.drive(timing=None)
    assert len(place.trace("measure")) == 15  # known
    place.write(SWEEP.replace("Gelu:", "Swish: [activation=swish]\n  Gelu:"))
    place.drive(timing=None)
    assert len(place.trace("measure")) == 15 + 20  # one pass for all


NOISY = [90.0, 99.0, 91.0, 98.0, 90.0, 94.0]  # then always 94


def test_a_row_is_timed_until_its_interval_is_narrow_and_the_record_keeps_the_rounds(place):
    place.behave(speeds={"Rms": NOISY, "Gelu": [80.0, 81.0, 80.5, 80.0, 80.2]})
    _, said = place.drive(timing=60.0)
    rounds = {row: record["steps_per_second"]["timing"]["rounds"] for (row, seed), record in place.records().items()
              if seed == 0}  # fmt: skip
    assert rounds["Gelu"] == [80.0, 81.0, 80.5, 80.0, 80.2]
    assert rounds["Rms"][: len(NOISY)] == NOISY and len(rounds["Base"]) == len(rounds["Rms"]) > len(NOISY)
    found = speed_ratio(rounds["Rms"], rounds["Base"])
    assert found.is_narrow and not speed_ratio(rounds["Rms"][:-1], rounds["Base"]).is_narrow
    shown = f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}, {found.rounds} rounds)"
    assert f"speed of Rms relative to Base: {shown}" in said
    assert "speed of Gelu relative to Base: 0.80 (0.80 to 0.81, 5 rounds)" in said
    record = place.records()["Rms", 0]["steps_per_second"]
    assert record["exclusive"] == statistics.median(rounds["Rms"])
    others = [place.records()[row, 0]["steps_per_second"]["timing"]["began"] for row in ("Base", "Gelu")]
    assert others == [record["timing"]["began"]] * 2  # one pass


def test_a_noisy_row_is_timed_until_the_time_is_over(place):
    place.drive(timing=0)
    place.behave(speeds={"Rms": [80.0 + 13 * (number % 3) for number in range(500)]})
    _, said = place.drive(timing=5.0)
    timing = place.records()["Rms", 0]["steps_per_second"]["timing"]
    assert len(timing["rounds"]) > 5 and "speed of Rms relative to Base: 0." in said


def test_few_rounds_are_said_to_have_no_interval():
    assert timing._shown(SpeedRatio(0.9, rounds=2)) == "0.90 (2 of 5 rounds, too few for an interval)"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_load_of_other_processes_is_measured_and_said(place):
    place.drive(timing=0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            said, _ = place.start(timing=60.0).communicate(timeout=60)
        finally:
            busy.kill()
    timing = place.records()["Rms", 0]["steps_per_second"]["timing"]
    assert timing["load_before"] > 0.2  # of a core, while other tests may want it, too
    assert len(timing["other_load"]) == len(timing["rounds"])
    assert re.search(r"other processes keep \d+\.\d of \d+ cores busy; speeds are less certain", said)
    assert re.search(r"while timing, other processes kept \d+\.\d of \d+ cores busy", said)


def test_a_timing_pass_without_time_says_whom_it_skipped(place):
    code, said = place.drive(timing=1e-9)
    assert code == 0 and "not timed: Base (no time left within" in said
    timed = json.loads((place.runs / "try" / "timing.json").read_text())["rows"]
    assert timed["Gelu"]["exclusive"] is None and "no time left" in timed["Gelu"]["skipped"]
    place.drive(timing=None)
    assert not place.trace("measure")  # asked without more time, it is not tried again
    place.drive(timing=60.0)
    assert len(place.trace("measure")) == 15


@pytest.mark.parametrize(
    "content",
    ["[]", "3", '{"rows": []}', '{"rows": 3}', '{"rows": null}', '{"rows": {"Base": [1], "Rms": "x", "Gelu": 3}}', "{"],
)
def test_a_damaged_timing_file_is_made_again(place, content):
    place.drive(timing=0)
    path = place.runs / "try" / "timing.json"
    path.write_text(content)
    for name in (".timing", "timing.log"):  # of an earlier pass, of the wrong kind
        (place.runs / "try" / name).unlink(missing_ok=True)
    (place.runs / "try" / ".timing").write_text("a file")
    (place.runs / "try" / "timing.log").mkdir()
    code, _ = place.drive(timing=None)
    rows = json.loads(path.read_text())["rows"]
    assert code == 0 and set(rows) == {"Base", "Rms", "Gelu"} and all(row["exclusive"] for row in rows.values())


def test_other_rows_of_an_earlier_pass_are_kept(place):
    place.drive(timing=0)
    path = place.runs / "try" / "timing.json"
    path.write_text(json.dumps({"rows": {"Gone": {"identity": "x", "exclusive": 3.0}}}))
    place.drive(timing=None)
    assert set(json.loads(path.read_text())["rows"]) == {"Gone", "Base", "Rms", "Gelu"}


@pytest.mark.parametrize("value", ["fast", -1.0, 0, True, [3.0], None, {}])
def test_a_speed_that_is_none_is_not_believed(value):
    assert timing._speed(value) is None and timing._speed(2) == 2.0


def test_the_seconds_of_a_trial_share_the_budget():
    def seconds(budget, rows):
        return timing._Pass(None, None, budget, rows).seconds

    assert seconds(100.0, 10) == pytest.approx(1.5)
    assert seconds(60.0, 1000) == timing.SHORTEST and seconds(60.0, 1) == timing.LONGEST == seconds(60.0, 0)


def test_a_timing_pass_is_of_all_rows_or_none(place):
    place.drive(timing=None)
    place.write(SWEEP.replace("Gelu:", "Swish: [activation=swish]\n  Gelu:"))
    code, said = place.drive(timing=None, only="Swish")
    assert code == 0 and "not timed, 3 finished rows are not among those to run" in said
    assert len(place.trace("measure")) == 15


def test_durations():
    shown = [duration(seconds) for seconds in (None, 0.4, 48, 300, 7200 * 2, 86400 * 2.5)]
    assert shown == ["?", "0 s", "48 s", "5 min", "4.0 h", "2.5 days"]


def test_time_left_comes_from_the_pace():
    run = Running("a", began=0.0)
    for step in (1, 2, 4):
        run.beat({"step": step, "steps": 10, "loss": 3.0, "time": step}, now=float(step))
    run.beat({"step": 4, "steps": 10, "loss": 3.0, "time": 4}, now=8.0)
    assert run.median_step == 1.0 and run.left(None) == 6.0 and run.silent(10.0) == 6.0
    run.beat({"step": 4, "steps": 10, "loss": 3.0, "time": 9}, now=9.0)  # it evaluates
    assert run.median_step == 1.0 and run.silent(10.0) == 1.0
    assert summary(Totals("s", 10, done=2, failed=1, seconds_left=300.0)) == "s: 3/10 runs, 1 failed, about 5 min left"


def test_a_terminal_gets_a_live_table():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    with Display(out) as display:
        display.show(Totals("s", 2, seconds_left=5.0), [Running("Base [x] · seed 0", 0.0, step=3, steps=9, loss=2.5)])
        display.say("[1/2] done [bold]x")
    assert "[1/2] done [bold]x" in out.getvalue()
    shown = out.getvalue().split("[1/2]")[-1]
    assert "s: 0/2 runs, about 5 s left" in shown and "Base [x] · seed 0" in shown
    assert "3/9" in shown and "2.500" in shown


def test_elsewhere_the_state_is_a_line_now_and_then():
    out = io.StringIO()
    totals = Totals("s", 4, done=1, diverged=1, waiting=1)
    running = [Running("Base", 0.0), Running("Rms", 0.0, step=3, steps=9, loss=2.5)]
    for every in (0.0, 1000.0):
        with Display(out, every) as display:
            display.show(totals, running)
            display.show(totals, [])
            display.note("timing Base")
            display.note("")
    state = "s: 2/4 runs, 1 diverged, 1 under way elsewhere, time left unknown yet"
    assert out.getvalue().splitlines() == [f"{state} | Base starting | Rms step 3/9 loss 2.500", "timing Base"]


def test_nothing_is_timed_beside_runs_of_another_sweep(place):
    with RunFolder(place.runs / "another" / "row" / "seed-0").lock():
        code, said = place.drive(timing=None)
    assert code == 0 and "not timed, other runs are under way" in said and not place.trace("measure")
    place.drive(timing=None)
    assert len(place.trace("measure")) == 15


HOLD = """
import sys, time
from pathlib import Path
from ablate.run.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_timing_pass_that_is_stopped_is_named_and_given_up(place, monkeypatch):
    monkeypatch.setattr(lock_holder, "NAMED_AFTER", 0.0)
    monkeypatch.setattr(lock_holder, "IDLE_LIMIT", 1.0)
    lock = place.runs / "try" / "timing.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        other.send_signal(signal.SIGSTOP)
        code, said = place.drive(timing=5)
    finally:
        other.kill()
        other.wait()
    assert code == 0 and not place.trace("measure")
    assert f"try: another process times its rows; waiting for process {other.pid} on " in said
    assert f"try: not timed, no sign of life for 1 s of process {other.pid} on " in said and "is stopped" in said


def test_a_timing_pass_that_others_disturb_is_given_up(place, monkeypatch):
    place.drive(timing=0)
    answers = iter([False, True])
    monkeypatch.setattr(timing, "_others", lambda session: next(answers))
    _, said = place.drive(timing=None)
    assert "other runs began meanwhile" in said and not (place.runs / "try" / "timing.json").exists()


def test_a_record_that_the_report_leaves_out_counts_as_failed(place):
    """What is done for the sweep is done for its report: both judge by the same reading."""
    place.drive()
    (path,) = place.runs.glob("try/rms-*/seed-0/record.json")
    record = json.loads(path.read_text())
    for changes, problem in (
        ({"schema": 99}, "record.json cannot be used: has schema 99; this version reads up to 1"),
        ({"loss": {"final": None}}, "record.json cannot be used: says done, but has no final loss"),
        ({"sweep": "other"}, "record.json is of another run (other, Rms, seed 0)"),
    ):
        text = sealed(record | changes)
        path.write_text(text)
        assert f"Rms, seed 0: failed: {problem}" in status.describe("try", place.overrides)
        left_out = collect("try", place.runs, place.folder / "sweeps").sweep["skipped"]
        assert [found["reason"] for found in left_out] == [problem]
    code, said = place.drive()
    assert code == 1 and f"FAILED   Rms · seed 0: {problem}" in said and path.read_text() == text
