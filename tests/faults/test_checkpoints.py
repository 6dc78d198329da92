"""Checkpoints that are damaged, foreign or hostile."""

import os
import pickle
import shutil
import signal

import pytest
import torch

from ablate.run.files import sha256
from ablate.training import run as train
from ablate.training.checkpoint import CheckpointError, CheckpointFolder, load, save
from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run

SAVING = "trainer.checkpoint_every=7"


UNTOUCHED = {}


@pytest.fixture
def stopped(asked):
    """A run killed at step 30, with checkpoints of 21 and 28 steps; and what it should come to."""
    if not UNTOUCHED:
        whole = asked("sweep=whole", SAVING)
        run(whole)
        UNTOUCHED["result"] = result(folder_of(whole))
    overrides = asked(SAVING)
    assert in_child(overrides, faults.at_step(30, signal.SIGKILL)) == -signal.SIGKILL
    folder = folder_of(overrides)
    assert {path.name for path in folder.checkpoints.glob("*.ckpt")} == {"step-00000021.ckpt", "step-00000028.ckpt"}
    return overrides, folder, UNTOUCHED["result"]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def lose_checksum(path):
    path.with_name(f"{path.name}.sha256").unlink()


@pytest.mark.parametrize("damage", [truncate, flip, lose_checksum, lambda path: path.write_bytes(b"")])
def test_the_one_before_is_taken_and_said_so(stopped, damage, capsys):
    overrides, folder, whole = stopped
    damage(folder.checkpoints / "step-00000028.ckpt")
    assert run(overrides).status == "done"
    said = folder.log.read_text()
    assert "step-00000028.ckpt" in said and "going back to the one before" in said and "resumed at step 21" in said
    assert result(folder) == whole


def test_when_both_are_damaged_the_run_stops(stopped):
    overrides, folder, _ = stopped
    for path in folder.checkpoints.glob("*.ckpt"):
        truncate(path)
    assert train.exit_code(lambda: run(overrides)) == 1
    assert "no checkpoint" in folder.read().reason and folder.read().status == "failed"


def test_a_checkpoint_of_another_config_is_refused_with_the_keys(stopped, asked, capsys):
    overrides, folder, _ = stopped
    other = asked(SAVING, "sweep=other", "shape.d_ff=32")
    assert in_child(other, faults.at_step(30, signal.SIGKILL)) == -signal.SIGKILL
    shutil.rmtree(folder.checkpoints)
    shutil.copytree(folder_of(other).checkpoints, folder.checkpoints)
    assert train.exit_code(lambda: run(overrides)) == 2
    assert "shape.d_ff was 32, is 16" in capsys.readouterr().err


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_a_hostile_checkpoint_is_never_executed(stopped, tmp_path):
    overrides, folder, _ = stopped
    trace = tmp_path / "executed"
    for path in folder.checkpoints.glob("*.ckpt"):
        with open(path, "wb") as file:
            pickle.dump(Malice(trace), file)
        path.with_name(f"{path.name}.sha256").write_text(sha256(path))
    assert train.exit_code(lambda: run(overrides)) == 1
    assert "is not a checkpoint" in folder.read().reason and not trace.exists()


def test_no_code_loads_what_could_be_executed():
    from pathlib import Path

    import ablate

    for path in Path(ablate.__file__).parent.rglob("*.py"):
        assert "weights_only=False" not in path.read_text(), path


def test_a_save_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    checkpoints = CheckpointFolder(tmp_path)
    save({"step": 1}, checkpoints.at(1))

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        save({"step": 2}, checkpoints.at(2))
    monkeypatch.undo()
    assert checkpoints.newest(print) == checkpoints.at(1) and load(checkpoints.at(1)) == {"step": 1}
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step-00000001.ckpt"]


def test_a_full_disk_ends_the_run_with_a_word_and_spares_the_checkpoint(stopped, monkeypatch):
    overrides, folder, whole = stopped
    save_checkpoint = torch.save

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert train.exit_code(lambda: run(overrides)) == 1
    assert "the disk is full" in folder.read().reason
    monkeypatch.setattr(torch, "save", save_checkpoint)
    assert run(overrides).status == "done" and result(folder) == whole


def test_temporary_files_elsewhere_are_not_used(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    assert run(asked(SAVING)).status == "done"


def test_two_whole_ones_are_kept(tmp_path):
    checkpoints = CheckpointFolder(tmp_path)
    for step in (1, 2, 3):
        save({"step": step}, checkpoints.at(step))
        checkpoints.prune()
    assert [path.name for path in checkpoints.all()] == ["step-00000003.ckpt", "step-00000002.ckpt"]
    truncate(checkpoints.at(3))
    assert checkpoints.newest(print) == checkpoints.at(2)
    save({"step": 4}, checkpoints.at(4))
    checkpoints.prune()
    assert checkpoints.newest(print) == checkpoints.at(4) and checkpoints.at(2).exists()
    with pytest.raises(CheckpointError):
        load(checkpoints.at(9))
