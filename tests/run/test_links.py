"""Symbolic links in a run's folder, as an unpacked archive may have: nothing is written through them."""

from __future__ import annotations

import os

import pytest

from ablate.errors import UserError
from ablate.run.files import atomic_write, follow_no_link, refuse_links
from ablate.run.folder import RunFolder, run_path
from ablate.run.lock import held, held_in_turn, is_held

NAMES = (
    "lock",
    "log.txt",
    "checkpoints",
    "record.json",
    "metrics.csv",
    "progress.json",
    "config.yaml",
    "failed-0.txt",
    "wandb.log",
    "checkpoints/last.pt",
    "checkpoints/weights.pt",
)


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside" / "precious.txt"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_run_with_a_link_in_it_is_not_worked_on(name, is_folder, tmp_path, outside):
    folder = RunFolder(tmp_path / "runs" / "s" / "r" / "seed-0")
    link = folder.path / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.parent if is_folder else outside)
    with pytest.raises(UserError, match=f"{name} is a symbolic link") as caught, folder.lock():
        pass
    assert len(str(caught.value).splitlines()) == 1
    assert outside.read_text() == "precious" and [*outside.parent.iterdir()] == [outside]


def test_a_link_that_leads_nowhere_is_refused_too(tmp_path):
    (tmp_path / "log.txt").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"log.txt is a symbolic link"):
        refuse_links(tmp_path)
    with (
        pytest.raises(UserError, match=r"log.txt is a symbolic link"),
        open(tmp_path / "log.txt", "ab", opener=follow_no_link),
    ):
        pass
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("part", ["s", "s/r", "s/r/seed-0"])
def test_no_folder_between_is_a_link(part, tmp_path, outside):
    link = tmp_path / "runs" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.parent)
    with pytest.raises(UserError, match=f"{part} is a symbolic link"):
        run_path(tmp_path / "runs", "s", "r", 0)


def test_the_folder_of_all_runs_may_be_a_link(tmp_path, outside):
    (tmp_path / "runs").symlink_to(outside.parent)
    folder = RunFolder(run_path(tmp_path / "runs", "s", "r", 0))
    with folder.lock():
        assert is_held(outside.parent / "s" / "r" / "seed-0" / "lock")


def test_a_lock_is_no_link_and_a_plain_file(tmp_path, outside):
    lock = tmp_path / "timing.lock"
    lock.symlink_to(outside)
    for hold in (held, held_in_turn):
        with pytest.raises(UserError, match="is a symbolic link"), hold(lock):
            pass
    assert outside.read_text() == "precious" and not is_held(lock)
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(UserError, match="can be locked"), held(lock):
        pass
    assert not is_held(lock)


def test_a_file_that_is_replaced_leaves_what_a_link_led_to(tmp_path, outside):
    (tmp_path / "record.json").symlink_to(outside)
    (tmp_path / f".record.json.{os.getpid()}.tmp").symlink_to(outside)
    atomic_write(tmp_path / "record.json", "new")
    assert outside.read_text() == "precious" and (tmp_path / "record.json").read_text() == "new"
    assert not (tmp_path / "record.json").is_symlink()
