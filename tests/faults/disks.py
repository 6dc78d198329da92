"""A real disk of a few KiB, in a mount namespace of its own, so that nothing of it is left behind."""

import shutil
import subprocess
import sys

import pytest

MOUNT = """
import os, subprocess, sys
runs, room, *command = sys.argv[1:]
os.makedirs(runs, exist_ok=True)
if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}k", "none", runs], capture_output=True).returncode:
    sys.exit(99)
"""


def on_a_small_disk(script, folder, room, *arguments):
    """Run a script with a disk of `room` KiB at `folder`; the arguments are its `command`, the folder its `runs`.

    Skips the test where mounting is not permitted.
    """
    words = ["unshare", "-m", sys.executable, "-c", MOUNT + script, str(folder), str(room), *map(str, arguments)]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 99 or done.stderr.startswith("unshare:"):
        pytest.skip("mounting a file system is not permitted here")
    return done
