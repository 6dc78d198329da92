"""Each verb says in a line what a disk refuses; what becomes of a run's checkpoints is in test_checkpoints."""

import pytest

from tests.faults.disks import on_a_small_disk
from tests.report.synthetic import Maker

FULL = """
from ablate import cli
sys.exit(cli.run(command))
"""
READ_ONLY = """
subprocess.run(["mount", "-o", "remount,ro", runs], check=True)
from ablate import cli
sys.exit(cli.run(command))
"""


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_read_only_disk_is_a_line(tmp_path, verb):
    runs = tmp_path / "small"
    words = {"train": ["train", "shape.steps=2"], "sweep": ["sweep", "axes"]}[verb]
    done = on_a_small_disk(READ_ONLY, runs, 100, *words, f"paths.runs={runs}", f"paths.data={tmp_path}")
    assert done.returncode == 1
    assert f"the file system at {runs} is mounted read-only" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("room", [4, 20, 60], ids="{} KiB".format)
def test_a_report_that_a_disk_has_no_room_for_is_a_line(tmp_path, room):
    maker = Maker(tmp_path)
    maker.add("RMS norm", "norms", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed)
        maker.run("RMS norm", seed, ["norm=rmsnorm"])
    words = [f"paths.{name}={getattr(maker, name)}" for name in ("runs", "reports", "sweeps")]
    done = on_a_small_disk(FULL, maker.reports, room, "report", maker.name, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"the file system at {maker.reports} has no room left" in done.stderr
    assert len(done.stderr.splitlines()) == 1
