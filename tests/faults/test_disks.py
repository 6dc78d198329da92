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


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("runs", 1, ["train", "shape.steps=2"]),
        ("runs", 1, ["sweep", "axes"]),
        ("reports", 1, ["report", "axes"]),
        ("data", 2, ["data", "prepare"]),
        pytest.param("data", 2, ["train", "shape.steps=2"], marks=pytest.mark.slow),
        pytest.param("data", 2, ["sweep", "axes"], marks=pytest.mark.slow),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_a_read_only_disk_is_a_line(tmp_path, path, code, words):
    small = tmp_path / "small"
    paths = [f"paths.{name}={small if name == path else tmp_path / name}" for name in ("runs", "reports", "data")]
    if words[0] == "report":
        Maker(tmp_path).run("Base", 0)
    done = on_a_small_disk(READ_ONLY, small, 100, *words, *paths)
    assert done.returncode == code, done.stderr
    assert f"the file system at {small} is mounted read-only" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_counting_writes_nothing(tmp_path):
    script = READ_ONLY.replace("from ablate", "os.chdir(runs)\nfrom ablate", 1)
    done = on_a_small_disk(script, tmp_path / "small", 100, "cost")
    assert done.returncode == 0 and done.stdout and not done.stderr


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
