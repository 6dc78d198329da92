"""Checkpoints that are damaged, foreign or hostile."""

import json
import os
import pickle
import re
import resource
import shutil
import signal

import pytest
import torch

from ablate.errors import disk_error
from ablate.run.files import sha256
from ablate.run.folder import RunFolder
from ablate.training import checkpoint
from ablate.training import run as train
from ablate.training.checkpoint import CheckpointError, CheckpointFolder, load, save
from tests.faults import faults
from tests.faults.disks import on_a_small_disk
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


def checksum_of(path):
    return path.with_name(f"{path.name}.sha256")


def garbage_in_the_checksum(path):
    checksum_of(path).write_bytes(b"\xff\xfe\x00\x80")


def an_empty_checksum(path):
    checksum_of(path).write_bytes(b"")


def a_folder_for_the_checksum(path):
    checksum_of(path).unlink()
    checksum_of(path).mkdir()
    (checksum_of(path) / "file").touch()


def a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def signed(path, content):
    path.write_bytes(content)
    checksum_of(path).write_text(sha256(path))


def a_foreign_pickle(path):
    signed(path, pickle.dumps(Malice(path.parent.parent / "executed")))


def a_foreign_archive(path):
    torch.save({"run": Malice(path.parent.parent / "executed")}, path)
    signed(path, path.read_bytes())


def other_content(path):
    torch.save({"weights": torch.zeros(3)}, path)
    signed(path, path.read_bytes())


def no_mapping(path):
    torch.save([1, 2], path)
    signed(path, path.read_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        truncate, flip, lose_checksum, lambda path: path.write_bytes(b""), lambda path: signed(path, b""),
        garbage_in_the_checksum, an_empty_checksum, a_folder_for_the_checksum, a_folder, a_foreign_pickle,
        a_foreign_archive, other_content, no_mapping,
    ],
)  # fmt: skip
def test_the_one_before_is_taken_and_said_so(stopped, damage, capsys):
    overrides, folder, whole = stopped
    damage(folder.checkpoints / "step-00000028.ckpt")
    assert run(overrides).status == "done"
    said = folder.log.read_text()
    assert "step-00000028.ckpt" in said and "going back to the one before" in said and "resumed at step 21" in said
    assert result(folder) == whole and not (folder.path / "executed").exists()


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
    assert "no checkpoint" in folder.read().reason and not trace.exists()
    assert "is not a checkpoint" in folder.log.read_text()


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
    assert not checkpoint.damage(checkpoints.at(1)) and load(checkpoints.at(1)) == {"step": 1}
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step-00000001.ckpt"]


def test_a_full_disk_ends_the_run_with_a_word_and_spares_the_checkpoint(stopped, monkeypatch):
    overrides, folder, whole = stopped
    save_checkpoint = torch.save

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert train.exit_code(lambda: run(overrides)) == 1
    assert "has no room left" in folder.read().reason and "Traceback" not in folder.log.read_text()
    monkeypatch.setattr(torch, "save", save_checkpoint)
    assert run(overrides).status == "done" and result(folder) == whole


def test_temporary_files_elsewhere_are_not_used(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    assert run(asked(SAVING)).status == "done"


def test_a_link_in_place_of_a_checkpoint_or_its_checksum_is_named(tmp_path):
    checkpoints = CheckpointFolder(tmp_path)
    save({key: {} for key in checkpoint.SAVED}, checkpoints.at(1))
    assert not checkpoint.damage(checkpoints.at(1))
    for path, what in ((checkpoints.at(1), "is"), (checksum_of(checkpoints.at(1)), "has a checksum that is")):
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        assert checkpoint.damage(checkpoints.at(1)) == f"{what} a symbolic link"
        path.unlink()
        (tmp_path / "elsewhere").rename(path)


def test_two_whole_ones_are_kept(tmp_path):
    checkpoints = CheckpointFolder(tmp_path)
    content = {key: {} for key in checkpoint.SAVED}
    for step in (1, 2, 3):
        save(content, checkpoints.at(step))
        checkpoints.prune()
    assert [path.name for path in checkpoints.all()] == ["step-00000003.ckpt", "step-00000002.ckpt"]
    truncate(checkpoints.at(3))
    assert checkpoints.newest(print, set_aside=False) == checkpoints.at(2) and checkpoints.at(3).exists()
    assert checkpoints.newest(print, set_aside=True) == checkpoints.at(2) and not checkpoints.at(3).exists()
    save(content, checkpoints.at(4))
    checkpoints.prune()
    assert checkpoints.newest(print, set_aside=True) == checkpoints.at(4) and checkpoints.at(2).exists()
    with pytest.raises(CheckpointError):
        load(checkpoints.at(9))


FULL_RUN = """
import json, shutil
from _pytest.monkeypatch import MonkeyPatch
from ablate.training import run as train
from tests.training import standin
standin.install(MonkeyPatch())
overrides = json.loads(command[0])
folder = standin.folder_of(overrides)
print("FIRST", train.exit_code(lambda: standin.run(overrides)))
print("CHECKPOINTS", sorted(path.name for path in folder.checkpoints.glob("*.ckpt")))
subprocess.run(["mount", "-o", "remount,size=64m", runs], check=True)
print("SECOND", train.exit_code(lambda: standin.run(overrides)))
shutil.copytree(folder.path, sys.argv[-1])
"""


def room_for(folder, checkpoints):
    """KiB on which a run keeps so many checkpoints, and not half of another."""
    each = max(path.stat().st_size for path in folder.checkpoints.glob("*.ckpt"))
    return int((checkpoints + 0.5) * each / 1024) + 100


def test_a_disk_that_fills_in_the_middle_of_a_checkpoint(stopped, asked, tmp_path):
    _, folder, whole = stopped
    runs = tmp_path / "runs"
    overrides = asked(SAVING, "sweep=full")
    done = on_a_small_disk(FULL_RUN, runs, room_for(folder, 1), json.dumps(overrides), tmp_path / "copy")
    assert "FIRST 1" in done.stdout, done.stdout + done.stderr
    said = f"the file system at {runs} has no room left"
    (line,) = [line for line in done.stdout.splitlines() if said in line and line.startswith("failed")]
    assert "checkpoints/step-" in line and "unexpected pos" not in done.stdout and "Traceback" not in done.stdout
    *_, newest = re.findall(r"step-0*(\d+)\.ckpt'", done.stdout)
    assert "SECOND 0" in done.stdout and f"resumed at step {newest}" in done.stdout
    assert result(RunFolder(tmp_path / "copy")) == whole


def test_a_file_that_may_not_grow_is_a_line(tmp_path):
    checkpoints = CheckpointFolder(tmp_path)
    save({"step": 1}, checkpoints.at(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(Exception) as caught:
            save({"step": 2, "weights": torch.zeros(100_000)}, checkpoints.at(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert disk_error(caught.value).startswith(f"{checkpoints.at(2)}: a file there would be larger")
    assert load(checkpoints.at(1)) == {"step": 1}
    assert not list(tmp_path.glob("*.tmp")) and not checkpoints.at(2).exists()
