"""A disk that fills while a sweep runs."""

import pytest

from tests.faults.disks import on_a_small_disk

pytestmark = pytest.mark.timeout(120)

FULL_SWEEP = """
import json
from ablate import cli
from ablate.sweep import command as sweep
from tests.sweep.conftest import PROGRAM
drive = sweep.run
sweep.run = lambda *names, **options: drive(*names, program=PROGRAM, **options)
print("FIRST", cli.run(command), flush=True)
subprocess.run(["mount", "-o", "remount,size=64m", runs], check=True)
os.unlink(os.environ["FAKE_BEHAVIOUR"])
print("SECOND", cli.run(command), flush=True)
"""


def test_a_disk_that_fills_under_a_sweep_is_a_line_and_the_sweep_goes_on_when_asked_again(place):
    place.behave(Rms="fill")
    words = ["sweep", "try", *place.overrides, "timing=0", "report=false", "jobs=1"]
    done = on_a_small_disk(FULL_SWEEP, place.runs, 256, *words)
    said = f"the file system at {place.runs} has no room left (0 MB of 0 MB free)"
    assert [line for line in done.stderr.splitlines() if "ablate:" in line] == [done.stderr.strip()]
    assert done.stderr.startswith(f"ablate: {place.runs}/try/rms-") and said in done.stderr, done.stderr
    first, second = done.stdout.split("FIRST 1")
    assert "done     Base · seed 0" in first and "SECOND 0" in second and "4 done" in second
    assert place.trace("start") == ["Base 0", "Rms 0", "Rms 0", "Gelu 0", "Base 1"]


FULL_BEFORE = """
import contextlib
folder = os.path.join(runs, "try")
os.makedirs(folder)
with open(os.path.join(runs, "filler"), "wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
        file.write(bytes(1024))
from ablate import cli
from ablate.sweep import command as sweep
from tests.sweep.conftest import PROGRAM
drive = sweep.run
sweep.run = lambda *names, **options: drive(*names, program=PROGRAM, **options)
sys.exit(cli.run(command))
"""


def test_a_disk_that_is_full_before_a_sweep_is_a_line(place):
    words = ["sweep", "try", *place.overrides, "timing=0", "report=false"]
    done = on_a_small_disk(FULL_BEFORE, place.runs, 64, *words)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"the file system at {place.runs} has no room left (0 MB of 0 MB free)" in done.stderr
    assert not place.trace("start")
