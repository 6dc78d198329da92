"""Run folders: names, locks, atomic files."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import UserError
from ablate.naming import slug
from ablate.run.files import TEMPORARY, atomic_file, atomic_write
from ablate.run.folder import RunFolder, run_folders, run_path, set_aside, set_content_aside, was_set_aside
from ablate.run.lock import Busy
from ablate.run.record import Loss, Record, checksum
from ablate.run.status import look

RECORD = Record(schema=1, sweep="s", row="r", seed=0, status="done", loss=Loss(final=1.5))


@given(st.text(max_size=300))
def test_a_slug_is_a_safe_name(label):
    name = slug(label)
    assert re.fullmatch(r"[a-z0-9_=-][a-z0-9._=-]{0,99}", name)


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_labels_never_share_a_slug(one, other):
    assert (slug(one) == slug(other)) == (one == other)


def test_slugs_are_readable():
    assert slug("swiglu") == "swiglu"
    assert slug("d_ff=2/3").startswith("d_ff=2-3-")
    assert slug("SwiGLU").startswith("swiglu-") and slug("SwiGLU") != slug("swiglu")
    assert slug(slug("SwiGLU")) != slug("SwiGLU")  # a label that looks like a made slug gets its own


@pytest.mark.parametrize(
    "sweep", ["../x", "/abs", "..", ".hidden", "a/..", "a/../b", "a/b/c", "a/", "/b", "", "x" * 101, "nul\0", "a b"]
)
def test_a_sweep_never_leads_out_of_the_runs_folder(tmp_path, sweep):
    with pytest.raises(UserError):
        run_path(tmp_path, sweep, "row", 0)


@pytest.mark.parametrize("row", ["../../x", "/abs", "..", "nul\0", "x" * 300, "[x](javascript:1)", ""])
def test_no_row_leads_out_of_the_runs_folder(tmp_path, row):
    path = run_path(tmp_path, "sweep", row, 0)
    assert path.resolve().is_relative_to(tmp_path / "sweep") and len(path.relative_to(tmp_path).parts) == 3


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sweep").symlink_to(tmp_path)
    with pytest.raises(UserError, match="sweep is a symbolic link"):
        run_path(tmp_path / "runs", "sweep", "row", 0)


@pytest.mark.parametrize("seed", [-1, True, "0", None, 1.5])
def test_seeds_are_whole_numbers(tmp_path, seed):
    with pytest.raises(UserError):
        run_path(tmp_path, "sweep", "row", seed)


def test_the_lock_keeps_others_out_until_its_holder_dies(tmp_path):
    code = (
        "import sys; from ablate.run.folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).lock():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"process {holder.pid}"), RunFolder(tmp_path).lock():
            pass
        holder.kill()
        holder.wait()
    with RunFolder(tmp_path).lock():
        pass


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    left = tmp_path / f".record.json.999{TEMPORARY}"
    left.write_text("half")
    with RunFolder(tmp_path).lock():
        assert not left.exists()


def test_records_are_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.read() is None
    folder.write(RECORD)
    assert folder.read() == RECORD
    content = RECORD.to_json() | {"checksum": checksum(RECORD.to_json())}
    assert folder.record.read_text() == json.dumps(content, indent=1) + "\n"


@pytest.mark.parametrize("content", ["", '{"status": "do', "[]", "\xff", "{}", '{"schema": 99}', "[" * 100_000])
def test_a_damaged_record_is_named(tmp_path, content):
    folder = RunFolder(tmp_path)
    folder.record.write_text(content)
    with pytest.raises(UserError, match="record.json .*; move the folder away"):
        folder.read()
    found = look(tmp_path)
    assert (found.state, found.record, found.finished) == ("failed", None, False)
    assert found.reason.startswith("record.json ")


def test_a_record_holds_no_number_that_json_lacks(tmp_path):
    with pytest.raises(ValueError):
        RunFolder(tmp_path / "run").write(replace(RECORD, mfu=float("nan")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"sweep": "t"}, {"row": "R"}, {"seed": 1}])
def test_a_record_of_another_run_counts_for_nobody(tmp_path, other):
    folder = RunFolder(run_path(tmp_path, "s", "r", 0))
    folder.write(RECORD)
    assert look(folder.path).state == "done"
    folder.write(replace(RECORD, **other))
    assert look(folder.path).state == "failed" and "is of another run" in look(folder.path).reason
    with pytest.raises(UserError, match="is of another run"):
        folder.read()


def test_a_run_that_is_set_aside_makes_room_for_another(tmp_path):
    folder = run_path(tmp_path, "s", "r", 0)
    for number in (1, 2):
        folder.mkdir(parents=True)
        assert set_aside(folder).name == f"seed-0.replaced-{number}"
    assert not folder.exists() and was_set_aside(folder) and not was_set_aside(folder.with_name("seed-1"))


def test_a_name_that_a_dead_link_has_is_taken(tmp_path):
    folder = run_path(tmp_path, "s", "r", 0)
    RunFolder(folder).write(RECORD)
    folder.with_name("seed-0.replaced-1").symlink_to(tmp_path / "nowhere")
    assert set_aside(folder).name == "seed-0.replaced-2"


def test_a_record_is_held_against_the_metrics_beside_it(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write(replace(RECORD, step=3))
    folder.metrics.write_text("step,kind,loss\n3,validation,1.75\n")
    found = folder.examine()
    assert found.is_damaged and found.problem.startswith(
        "record.json has a final loss of 1.5, and metrics.csv has 1.75"
    )


def test_the_first_of_several_failures_is_the_cause(tmp_path):
    folder = RunFolder(tmp_path)
    for process, moment in ((2, 100), (0, 200), (1, 300)):
        folder.write_failure(process, f"reason {process}")
        os.utime(tmp_path / f"failed-{process}.txt", (moment, moment))
    assert folder.failure() == "process 2: reason 2"
    folder.write_death("killed")
    assert folder.failure() == "killed"
    folder.forget_failures()
    assert folder.failure() == "" and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("left", ["checkpoints/weights.pt", "checkpoints/step-00000007.ckpt", "metrics.csv"])
def test_a_result_without_a_record_is_named(tmp_path, left):
    assert not RunFolder(tmp_path).examine().problem
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / left).write_text("")
    found = look(tmp_path)
    assert (found.state, found.reason) == ("failed", f"record.json is missing beside {left}") and found.is_damaged


def test_the_holder_of_the_lock_moves_all_but_lock_and_log(tmp_path):
    folder = RunFolder(run_path(tmp_path, "s", "r", 0))
    with folder.lock():
        folder.write(RECORD)
        folder.log.write_text("begun")
        moved = set_content_aside(folder.path)
    assert moved.name == "seed-0.replaced-1" and [path.name for path in moved.iterdir()] == ["record.json"]
    assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "log.txt"]


def test_hidden_folders_and_those_of_another_kind_hold_no_runs(tmp_path):
    for name in ("s/r/seed-0", "s/r/seed-1.replaced-1", "s/.timing/seed-0", ".old/r/seed-0", "t/r/seed-10"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "s/r/seed-2").write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in run_folders(tmp_path)]
    assert found == ["s/r/seed-0", "t/r/seed-10"]
